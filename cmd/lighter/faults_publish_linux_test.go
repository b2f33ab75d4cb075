package main

import (
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/lighter-oci/lighter/internal/image/imagetest"
	"github.com/lighter-oci/lighter/internal/registry/registrytest"
)

// TestPublishBrokenOff ends a release in each of its phases, by Ctrl-C and by
// SIGKILL. The same command goes on with it.
func TestPublishBrokenOff(t *testing.T) {
	reg := registrytest.Start(t, registrytest.Options{})
	for _, phase := range []struct {
		name  string
		reach func(*releaseSite) *command
		tags  []string
	}{
		{"compile", func(r *releaseSite) *command {
			hold := r.write("app/hold-app-loud-arm64", "")
			c := r.start(r.publish()...)
			held := filepath.Join(r.dir, "app", "held")
			eventually(r.t, "the compiler is held", func() bool { _, err := os.Stat(held); return err == nil })
			c.until("all 4 layers are") // of the image before
			r.t.Cleanup(func() { _ = os.Remove(hold) })
			return c
		}, nil},
		{"push", func(r *releaseSite) *command {
			var mu sync.Mutex
			n := 0
			return r.upTo(func(req *http.Request) bool {
				mu.Lock()
				defer mu.Unlock()
				if req.Method == http.MethodPut && strings.Contains(req.URL.Path, "/blobs/uploads/") {
					n++
				}
				return n > 3
			})
		}, nil},
		{"first tag", func(r *releaseSite) *command {
			return r.upTo(func(req *http.Request) bool {
				return req.Method == http.MethodPut && strings.HasSuffix(req.URL.Path, "/manifests/1.3.0")
			})
		}, nil},
		{"third tag", func(r *releaseSite) *command {
			return r.upTo(func(req *http.Request) bool {
				return req.Method == http.MethodPut && strings.HasSuffix(req.URL.Path, "/manifests/latest")
			})
		}, releaseTags[:2]},
	} {
		for _, signal := range []syscall.Signal{syscall.SIGINT, syscall.SIGKILL} {
			t.Run(phase.name+" "+signal.String(), func(t *testing.T) {
				r := newRelease(t, reg, strings.ReplaceAll("broken/"+phase.name+"-"+signal.String(), " ", "-"))
				c := phase.reach(r)
				if signal == syscall.SIGKILL {
					if err := c.Process.Kill(); err != nil {
						t.Fatal(err)
					}
					<-c.done
					for _, line := range running("SITE=" + r.dir) { // compilers are not told
						if pid, err := strconv.Atoi(strings.Fields(line)[0]); err == nil {
							_ = syscall.Kill(pid, syscall.SIGKILL)
						}
					}
					r.version("1.3.0")
				} else {
					c.interrupt()
					said := c.stderr.String()
					switch {
					case !strings.HasSuffix(phase.name, "tag"):
						r.version("1.2.3")
						if !strings.Contains(said, "1.3.0 → 1.2.3 again: nothing was published") || !strings.Contains(said, "interrupted → no tag was set; the same command goes on") {
							t.Errorf("it says %s", said)
						}
					default:
						r.version("1.3.0")
						if !strings.Contains(said, "interrupted → the same command sets the tags that are missing") {
							t.Errorf("it says %s", said)
						}
						table := c.stdout.String()
						if set := strings.Count(table, " set "); strings.Count(table, "not set")+strings.Count(table, "not known") != 4-len(phase.tags) || set < len(phase.tags) {
							t.Errorf("the tags are said to be\n%s", table)
						}
					}
				}
				_ = os.Remove(filepath.Join(r.dir, "app", "hold-app-loud-arm64"))
				r.release()
				r.watch(nil)
				r.tags(phase.tags...)
				r.complete()
			})
		}
	}
}

// TestPublishOverlaps holds the first image's push until the second image
// compiles.
func TestPublishOverlaps(t *testing.T) {
	r := newRelease(t, registrytest.Start(t, registrytest.Options{}), "overlaps")
	hold := r.write("app/hold-app-loud-amd64", "")
	go1 := make(chan struct{})
	var held sync.Once
	reached := make(chan struct{})
	r.watch(func(w http.ResponseWriter, req *http.Request) bool {
		if req.Method == http.MethodPut && strings.Contains(req.URL.Path, "/blobs/uploads/") {
			held.Do(func() { close(reached) })
			<-go1
		}
		return false
	})
	c := r.start(r.publish()...)
	<-reached
	eventually(t, "the second image compiles", func() bool { _, err := os.Stat(filepath.Join(r.dir, "app", "held")); return err == nil })
	close(go1)
	c.until("^layers are|all .* layers are zstd") // of the first image, while the second compiles
	if said := c.stderr.String(); strings.Contains(said, "variant loud") && strings.Index(said, "variant loud") < strings.Index(said, "layers are") {
		t.Errorf("they speak at the same time: %s", said)
	}
	if err := os.Remove(hold); err != nil {
		t.Fatal(err)
	}
	if c.code() != 0 {
		t.Error("it failed")
	}
	r.tags(releaseTags...)
}

// TestPublishRefused has a registry that does not take the release, or not all of
// it. One line says so, and nothing is published by halves.
func TestPublishRefused(t *testing.T) {
	reg := registrytest.Start(t, registrytest.Options{})
	readOnly := registrytest.Start(t, registrytest.Options{ReadOnly: true})
	refuse := func(code int, method, part string) registrytest.Fault {
		return func(w http.ResponseWriter, req *http.Request) bool {
			if req.Method != method || !strings.Contains(req.URL.Path, part) {
				return false
			}
			w.WriteHeader(code)
			return true
		}
	}
	for _, tt := range []struct {
		name  string
		reg   *registrytest.Server
		fault registrytest.Fault
		says  []string
		tags  []string
	}{
		{"read-only", readOnly, nil, []string{"/read-only: ", "status 405", " → "}, nil},
		{"401", reg, refuse(401, http.MethodPost, "/blobs/uploads/"), []string{"/401: ", "no credential", " → "}, nil},
		{"403", reg, refuse(403, http.MethodPost, "/blobs/uploads/"), []string{"/403: ", "access denied", " → "}, nil},
		{"manifest", reg, refuse(403, http.MethodPut, "/manifests/sha256:"), []string{"/manifest@sha256:", "access denied", " → "}, nil},
		{"tag", reg, refuse(403, http.MethodPut, "/manifests/latest"), []string{"2 of 4 tags are set: ", "/tag:latest: ", "access denied", " → the same command sets the others"}, releaseTags[:2]},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRelease(t, tt.reg, tt.name)
			r.watch(tt.fault)
			c := r.start(r.publish()...)
			line := c.failed(exitFailed)
			for _, want := range tt.says {
				if !strings.Contains(line, want) {
					t.Errorf("no %q in %q", want, line)
				}
			}
			r.tags(tt.tags...)
			if tt.tags == nil {
				r.version("1.2.3")
			} else {
				r.version("1.3.0")
				for _, want := range []string{r.name + ":1.3.0 +set ", r.name + ":latest +not set ", r.name + ":loud +not set "} {
					if !regexp.MustCompile(want).MatchString(c.stdout.String()) {
						t.Errorf("no %q in %s", want, c.stdout.String())
					}
				}
			}
			if tt.reg == reg {
				r.complete()
			}
		})
	}
}

// TestPublishTaken finds another image under a version: no tag of any image is
// set, and the version is taken back.
func TestPublishTaken(t *testing.T) {
	reg := registrytest.Start(t, registrytest.Options{})
	r := newRelease(t, reg, "taken")
	f := &imagetest.Fixture{Tag: "loud-1.3.0"}
	f.AddImage(t, amd64, f.AddForeignGzip(t, imagetest.Tar(t, 1, 100)))
	reg.Push(t, r.name, f)
	line := r.fails(r.publish()...)
	if !strings.Contains(line, "/taken:loud-1.3.0 is taken: ") || !strings.Contains(line, "→ no tag was moved; publish another version") {
		t.Errorf("it says %q", line)
	}
	r.version("1.2.3")
	r.tags("loud-1.3.0")
	r.ok("publish", "--bump", "1.4.0", "app")
	r.tags("1.4.0", "loud-1.3.0", "latest", "loud")
}

// TestPublishFullDisk has no room where it compiles, packs, and remembers.
func TestPublishFullDisk(t *testing.T) {
	reg := registrytest.Start(t, registrytest.Options{})
	for _, tt := range []struct {
		dir  string // that is full
		says string
	}{
		{"tmp", "→ make room where it says so above"},
		{"app/out", "→ make room where it says so above"},
		{"cache", "memory of releases: "},
	} {
		t.Run(tt.dir, func(t *testing.T) {
			r := newRelease(t, reg, "full-"+strings.ReplaceAll(tt.dir, "/", "-"))
			dir := r.disk(tt.dir, 16<<20)
			undo := fill(t, dir)
			line := r.fails(r.publish()...)
			if !strings.Contains(line, "no space left on device") || !strings.Contains(line, tt.says) || !strings.Contains(line, "make room") {
				t.Errorf("it says %q", line)
			}
			r.version("1.2.3")
			r.tags()
			undo()
			r.ok(r.publish()...)
			r.version("1.3.0")
			r.tags(releaseTags...)
			if tt.dir == "tmp" { // with nothing to compile
				defer fill(t, dir)()
				if line := r.fails("pack", "--push", "-t", reg.Ref("full:1"), "app"); !strings.Contains(line, "plain layer: ") && !strings.Contains(line, "layer of ") || !strings.Contains(line, "make room") {
					t.Errorf("it says %q", line)
				}
			}
		})
	}
}
