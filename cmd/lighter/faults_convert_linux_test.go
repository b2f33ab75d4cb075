package main

import (
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/lighter-oci/lighter/internal/image/imagetest"
	"github.com/lighter-oci/lighter/internal/registry/registrytest"
)

// conversionSite is a user who converts an image of four layers from a registry.
type conversionSite struct {
	*site
	reg   *registrytest.Server
	from  *registrytest.Faulty
	to    *registrytest.Faulty
	last  digest.Digest // the layer that does not arrive, where it is held up
	image *imagetest.Fixture

	mu      sync.Mutex
	fetched map[digest.Digest]int // layers that were asked for as a whole
}

func newConversion(t *testing.T) *conversionSite {
	t.Helper()
	reg := registrytest.Start(t, registrytest.Options{})
	c := &conversionSite{site: newSite(t), reg: reg, from: registrytest.NewFaulty(t, reg), to: registrytest.NewFaulty(t, reg), image: &imagetest.Fixture{Tag: "1"}}
	var layers []imagetest.Layer
	for i := range uint64(4) {
		layers = append(layers, c.image.AddForeignGzip(t, imagetest.Tar(t, i, 100_000)))
	}
	c.last = layers[3].Descriptor.Digest
	c.image.AddImage(t, amd64, layers...)
	reg.Push(t, "from", c.image)
	return c
}

// watch counts the layers that are fetched, until hold answers true for one:
// that one never comes.
func (c *conversionSite) watch(hold func(digest.Digest) bool) (held chan struct{}) {
	held = make(chan struct{})
	c.mu.Lock()
	c.fetched = map[digest.Digest]int{}
	c.mu.Unlock()
	c.from.Set(func(w http.ResponseWriter, r *http.Request) bool {
		_, d, ok := strings.Cut(r.URL.Path, "/blobs/")
		if !ok || r.Header.Get("Range") != "" || c.image.Blob(digest.Digest(d)) == nil {
			return false
		}
		c.mu.Lock()
		c.fetched[digest.Digest(d)]++
		c.mu.Unlock()
		if !hold(digest.Digest(d)) {
			return false
		}
		close(held)
		<-r.Context().Done()
		return true
	})
	return held
}

func (c *conversionSite) layers() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := 0
	for d := range c.fetched {
		if len(c.image.Blob(d)) > 1000 { // else the config
			n++
		}
	}
	return n
}

// TestConvertGoesOn ends conversions when three of four layers are finished,
// and runs them again. What is said of that, where the destination keeps them
// and where it does not, is so.
func TestConvertGoesOn(t *testing.T) {
	c := newConversion(t)
	for _, tt := range []struct {
		name string
		to   string
		kill bool
		says string // as the next step
		more int    // layers that are fetched in the second run
	}{
		{"killed into a registry", c.to.Ref("killed:1"), true, "", 1},
		{"interrupted into a registry", c.to.Ref("interrupted:1"), false, "goes on with the layers that are not finished", 1},
		{"interrupted into a layout", "oci:layout:1", false, "goes on with the layers that are not finished", 1},
		{"killed into an archive", "oci-archive:a.tar:1", true, "", 4},
		{"killed into a docker archive", "docker-archive:d.tar:a:1", true, "", 4},
		{"interrupted into an archive", "oci-archive:a.tar:1", false, "starts over: oci-archive: gets an image when it is complete", 4},
		{"interrupted into a docker archive", "docker-archive:d.tar:a:1", false, "starts over: docker-archive: gets an image when it is complete", 4},
	} {
		c.sub(tt.name, func(t *testing.T) {
			journal := t.TempDir()
			c.env = append(c.env, "XDG_CACHE_HOME="+journal, "XDG_STATE_HOME="+journal)
			converted := func() int {
				done, _ := filepath.Glob(filepath.Join(journal, "lighter", "converted", "*.json"))
				return len(done)
			}
			held := c.watch(func(d digest.Digest) bool { return d == c.last })
			cmd := c.start("convert", "--compression", "zstd", c.from.Ref("from:1"), tt.to)
			<-held
			eventually(t, "three layers are finished", func() bool { return converted() == 3 })
			if tt.kill {
				cmd.Process.Kill()
				<-cmd.done
			} else {
				if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
					t.Fatal(err)
				}
				if line := cmd.failed(exitInterrupted); !strings.Contains(line, "interrupted → the same command "+tt.says) {
					t.Errorf("it says %q", line)
				}
			}
			staged := tt.kill && strings.Contains(tt.to, "archive")
			left := func() []string {
				left, _ := filepath.Glob(filepath.Join(c.dir, ".*"))
				return left
			}
			if got := left(); len(got) > 0 != staged {
				t.Errorf("left behind: %q", got)
			}
			c.to.Set(nil)
			c.watch(func(digest.Digest) bool { return false })
			c.ok("convert", "--compression", "zstd", c.from.Ref("from:1"), tt.to)
			if got := left(); len(got) > 0 {
				t.Errorf("left behind by the one before: %q", got)
			}
			if got := c.layers(); got != tt.more {
				t.Errorf("%d layers were fetched again, want %d", got, tt.more)
			}
			if strings.Contains(tt.to, c.to.Addr) {
				// One layer, and the config, which nobody waited for.
				if got := c.to.Count("PUT", "/blobs/uploads/"); got > 2 {
					t.Errorf("%d blobs were sent", got)
				}
			}
			if converted() != 4 {
				t.Errorf("the journal has %d layers", converted())
			}
		})
	}
}

// TestTagMoves moves the source's tag while its image is converted: what was
// read first is what is written.
func TestTagMoves(t *testing.T) {
	c := newConversion(t)
	other := &imagetest.Fixture{Tag: "1"}
	other.AddImage(t, amd64, other.AddForeignGzip(t, imagetest.Tar(t, 9, 50_000)))
	var moved atomic.Bool
	c.watch(func(digest.Digest) bool {
		if moved.CompareAndSwap(false, true) {
			c.reg.Push(t, "from", other)
		}
		return false
	})
	c.ok("convert", c.from.Ref("from:1"), c.to.Ref("moved:1"))
	if n := c.from.Count("GET", "/manifests/1"); n != 1 || !moved.Load() {
		t.Errorf("the tag was asked for %d times, moved: %v", n, moved.Load())
	}
	c.ok("convert", c.from.Ref("from@"+c.image.Root.Digest.String()), c.to.Ref("still:1"))
	if got, want := digestOf(t, c.reg, "moved:1"), digestOf(t, c.reg, "still:1"); got != want || got == "" {
		t.Errorf("the tag stands for %s, want %s", got, want)
	}
}
