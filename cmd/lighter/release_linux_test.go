package main

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

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
