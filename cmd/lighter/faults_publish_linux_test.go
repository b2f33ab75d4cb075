package main

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/lighter-oci/lighter/internal/image/imagetest"
	"github.com/lighter-oci/lighter/internal/registry/registrytest"
)

// releaseSite is a user with a project of two images for two platforms, whose
// compiler is make and takes notes, and who publishes it through a proxy.
type releaseSite struct {
	*site
	reg   *registrytest.Server
	proxy *registrytest.Faulty
	name  string // of the repository

	mu   sync.Mutex
	sent map[string]int // how often each blob was sent
	held chan struct{}  // closed for requests that are held to go
}

var releaseTags = []string{"1.3.0", "loud-1.3.0", "latest", "loud"}

func newRelease(t *testing.T, reg *registrytest.Server, name string) *releaseSite {
	t.Helper()
	r := &releaseSite{site: newSite(t), reg: reg, proxy: registrytest.NewFaulty(t, reg), name: name, sent: map[string]int{}}
	r.write("tmp/x", "")
	r.env = append(r.env, "XDG_CACHE_HOME="+filepath.Join(r.dir, "cache"), "TMPDIR="+filepath.Join(r.dir, "tmp"))
	r.write("app/VERSION", "1.2.3\n")
	r.write("app/main.c", "int main(void) { return N; }\n")
	// A rule that waits while there is a file named hold, and writes down what it makes.
	r.write("app/Makefile", `out/%:
	@while [ -e hold-$* ]; do touch held; sleep 0.02; done
	@mkdir -p out
	@case $* in *arm64) cc=aarch64-linux-gnu-gcc;; *) cc=cc;; esac; $$cc -DN=$$(echo $* | wc -c) -static -o $@.tmp main.c
	@echo $* >>compiled
	@mv $@.tmp $@
`)
	r.write("app/lighter.toml", fmt.Sprintf(`image = %q
tags = ["{version}", "latest"]
platforms = ["linux/amd64", "linux/arm64"]

[toolchain]
command = "make -s {output} SITE=%s"
output = "out/app-{variant}-{arch}"

[variants.loud]
`, r.proxy.Ref(name), r.dir))
	t.Cleanup(r.release)
	r.watch(nil)
	return r
}

// watch counts blobs that the registry takes, and lets a fault strike first.
func (r *releaseSite) watch(fault registrytest.Fault) {
	r.proxy.Set(func(w http.ResponseWriter, req *http.Request) bool {
		if fault != nil && fault(w, req) {
			return true
		}
		if req.Method == http.MethodPut && strings.Contains(req.URL.Path, "/blobs/uploads/") {
			d := req.URL.Query().Get("digest")
			registrytest.Answer(req, func(resp *http.Response) error {
				r.mu.Lock()
				defer r.mu.Unlock()
				if resp.StatusCode == http.StatusCreated {
					r.sent[d]++
				}
				return nil
			})
		}
		return false
	})
}

// hold stalls requests that are picked, and tells when the first one does.
func (r *releaseSite) hold(pick func(*http.Request) bool) (reached chan struct{}) {
	r.release()
	reached, held := make(chan struct{}), make(chan struct{})
	r.held = held
	var once sync.Once
	r.watch(func(w http.ResponseWriter, req *http.Request) bool {
		if !pick(req) {
			return false
		}
		once.Do(func() { close(reached) })
		<-held
		registrytest.Reset(w)
		return true
	})
	return reached
}

// release breaks the connections of requests that are held.
func (r *releaseSite) release() {
	if r.held != nil {
		close(r.held)
		r.held = nil
	}
}

func (r *releaseSite) publish(more ...string) []string {
	return append([]string{"publish", "--bump", "minor", "app"}, more...)
}

func (r *releaseSite) version(want string) {
	r.t.Helper()
	if b, err := os.ReadFile(filepath.Join(r.dir, "app", "VERSION")); err != nil || strings.TrimSpace(string(b)) != want {
		r.t.Errorf("the version is %q, %v; want %s", b, err, want)
	}
}

// tags wants these to be set, and no others.
func (r *releaseSite) tags(want ...string) {
	r.t.Helper()
	for _, tag := range append([]string{"1.4.0", "1.2.3"}, releaseTags...) {
		if is := tagged(r.t, r.reg, r.name+":"+tag); is != slices.Contains(want, tag) {
			r.t.Errorf("%s is tagged: %v", tag, is)
		}
	}
}

// complete publishes with the same command, and wants one release: nothing was
// made or sent twice, and nothing is left of what was broken off.
func (r *releaseSite) complete() {
	r.t.Helper()
	r.watch(nil)
	r.ok(r.publish()...)
	r.version("1.3.0")
	r.tags(releaseTags...)
	for _, tag := range releaseTags {
		pulls(r.t, r.reg, r.name+":"+tag)
	}
	b, err := os.ReadFile(filepath.Join(r.dir, "app", "compiled"))
	if err != nil {
		r.t.Fatal(err)
	}
	if lines := strings.Fields(string(b)); len(lines) != 4 || len(slices.Compact(slices.Sorted(slices.Values(lines)))) != 4 {
		r.t.Errorf("compiled: %v", lines)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for d, n := range r.sent {
		if n != 1 {
			r.t.Errorf("%s was sent %d times", d, n)
		}
	}
	if len(r.sent) < 8 {
		r.t.Errorf("only %d blobs were sent", len(r.sent))
	}
	if left, _ := filepath.Glob(filepath.Join(r.dir, "tmp", ".lighter*")); len(left) > 0 { // what a compiler left is its own
		r.t.Errorf("left in the temporary directory: %q", left)
	}
}

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

// upTo publishes, up to a request that is held.
func (r *releaseSite) upTo(pick func(*http.Request) bool) *command {
	r.t.Helper()
	reached := r.hold(pick)
	c := r.start(r.publish()...)
	select {
	case <-reached:
	case <-c.done:
		r.t.Fatalf("%v ended before", c.Args)
	}
	return c
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
