package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/lighter-oci/lighter/internal/registry/registrytest"
)

// broken makes the first n requests of a method to paths that contain part
// fail; seen counts all of them.
func broken(n int32, method, part string, fault http.HandlerFunc) (f registrytest.Fault, seen *atomic.Int32) {
	seen = &atomic.Int32{}
	return func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != method || !strings.Contains(r.URL.Path, part) {
			return false
		}
		if seen.Add(1) > n {
			return false
		}
		fault(w, r)
		return true
	}, seen
}

func status(code int, header ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		for i := 0; i < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(code)
	}
}

// resetInside breaks the connection when half of the body is there.
func resetInside(w http.ResponseWriter, r *http.Request) {
	_, _ = io.CopyN(io.Discard, r.Body, r.ContentLength/2)
	registrytest.Reset(w)
}

// TestPushThroughFaults pushes to a registry that fails for a while.
func TestPushThroughFaults(t *testing.T) {
	reg := registrytest.Start(t, registrytest.Options{})
	s := newSite(t)
	s.ok("build", s.shell("app", "RUN dd if=/dev/urandom of=/data bs=1M count=4"))
	for _, f := range []struct {
		name   string
		n      int32 // how often
		method string
		part   string
		fault  http.HandlerFunc
	}{
		{"reset in a layer", 2, http.MethodPut, "/blobs/uploads/", resetInside},
		{"reset before a layer", 2, http.MethodPost, "/blobs/uploads/", func(w http.ResponseWriter, r *http.Request) { registrytest.Reset(w) }},
		{"reset at the manifest", 1, http.MethodPut, "/manifests/", func(w http.ResponseWriter, r *http.Request) { registrytest.Reset(w) }},
		{"busy at a layer", 2, http.MethodPut, "/blobs/uploads/", status(http.StatusServiceUnavailable)},
		{"busy at a look", 2, http.MethodHead, "/blobs/", status(http.StatusServiceUnavailable)},
		{"busy at the manifest", 2, http.MethodPut, "/manifests/", status(http.StatusServiceUnavailable)},
	} {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			proxy := registrytest.NewFaulty(t, reg)
			fault, seen := broken(f.n, f.method, f.part, f.fault)
			proxy.Set(fault)
			s := *s
			s.t = t
			name := strings.ReplaceAll("faulty/"+f.name, " ", "-") + ":1"
			said := s.ok("build", "--push", "-t", proxy.Ref(name), "app")
			if got := seen.Load(); got <= f.n {
				t.Errorf("%d requests, %d of them broken", got, f.n)
			}
			if !strings.Contains(said, "read back") {
				t.Error("not proven")
			}
			pulls(t, reg, name)
		})
	}
}

// TestRateLimit has a registry that wants to be left alone for five seconds, and
// checks that it is.
func TestRateLimit(t *testing.T) {
	reg := registrytest.Start(t, registrytest.Options{})
	proxy := registrytest.NewFaulty(t, reg)
	var mu sync.Mutex
	var until time.Time
	var early, refused int
	proxy.Set(func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodPost && r.Method != http.MethodPut {
			return false
		}
		mu.Lock()
		defer mu.Unlock()
		if now := time.Now(); until.IsZero() {
			until = now.Add(5 * time.Second)
		} else if now.After(until) {
			return false
		} else if now.After(until.Add(-2 * time.Second)) { // others were on their way already
			early++
		}
		refused++
		status(http.StatusTooManyRequests, "Retry-After", "5")(w, r)
		return true
	})
	s := newSite(t)
	s.ok("build", "--push", "-t", proxy.Ref("limit:1"), s.shell("app", "RUN echo one >/one", "RUN echo two >/two"))
	pulls(t, reg, "limit:1")
	if refused == 0 || early > 0 {
		t.Errorf("refused %d times, %d of them asked again too early", refused, early)
	}
}

// TestTokenExpires has a registry that takes a token no more in the middle of
// a push.
func TestTokenExpires(t *testing.T) {
	reg := registrytest.Start(t, registrytest.Options{Users: map[string]string{"ann": "secret"}, Token: true})
	proxy := registrytest.NewFaulty(t, reg)
	s := newSite(t)
	s.write("docker/config.json", fmt.Sprintf(`{"auths": {%q: {"username": "ann", "password": "secret"}}}`, proxy.Addr))
	app := s.shell("app", "RUN echo one >/one")
	s.ok("build", app)
	for _, part := range []string{"/blobs/uploads/", "/manifests/"} {
		var stripped atomic.Int32
		proxy.Set(func(w http.ResponseWriter, r *http.Request) bool {
			if r.Method == http.MethodPut && strings.Contains(r.URL.Path, part) && stripped.Add(1) <= 1 {
				r.Header.Del("Authorization") // the registry itself says what to do
			}
			return false
		})
		before := reg.Tokens.Issued.Load()
		said := s.ok("build", "--push", "-t", proxy.Ref("expires"+strings.ReplaceAll(part, "/", "-")+"x:1"), app)
		if got := reg.Tokens.Issued.Load() - before; stripped.Load() == 0 || got == 0 {
			t.Errorf("%s: %d tokens taken, %d issued", part, stripped.Load(), got)
		}
		if strings.Contains(said, "secret") {
			t.Error("the password is in the output")
		}
	}
}

// TestRegistryGone loses the registry in the middle of a push, for good, in
// every way that it can be lost. The build fails instead of hanging, with a line
// that names it and no secrets of its URLs.
func TestRegistryGone(t *testing.T) {
	s := newSite(t)
	s.env = append(s.env, "LIGHTER_REGISTRY_TIMEOUT=2s")
	s.ok("build", s.simple("gone"))
	for _, g := range []struct {
		name  string
		fault func(*registrytest.Server, http.ResponseWriter, *http.Request)
		says  string
	}{
		{"stopped", func(reg *registrytest.Server, w http.ResponseWriter, r *http.Request) {
			reg.Stop()
			registrytest.Reset(w)
		}, "502 Bad Gateway"},
		{"resets", func(_ *registrytest.Server, w http.ResponseWriter, r *http.Request) { registrytest.Reset(w) }, "connection reset by peer"},
		{"busy", func(_ *registrytest.Server, w http.ResponseWriter, r *http.Request) { status(503)(w, r) }, "503 Service Unavailable"},
		{"limits", func(_ *registrytest.Server, w http.ResponseWriter, r *http.Request) {
			status(429, "Retry-After", "3600")(w, r)
		}, "429 Too Many Requests"},
		{"refuses", func(_ *registrytest.Server, w http.ResponseWriter, r *http.Request) { status(403)(w, r) }, "403 Forbidden"},
		{"silent", nil, "has not answered for 2s"},
	} {
		t.Run(g.name, func(t *testing.T) {
			t.Parallel()
			reg := registrytest.Start(t, registrytest.Options{})
			proxy := registrytest.NewFaulty(t, reg)
			s := *s
			s.t = t
			if g.fault == nil {
				stall(t, proxy, http.MethodPut, "/blobs/uploads/")
			} else {
				proxy.Set(func(w http.ResponseWriter, r *http.Request) bool {
					if r.Method != http.MethodPut {
						return false
					}
					g.fault(reg, w, r)
					return true
				})
			}
			line := s.fails("build", "--push", "-t", proxy.Ref("gone:1"), "gone")
			if !strings.Contains(line, "push "+proxy.Ref("gone:1")+": ") || !strings.Contains(line, g.says) || strings.Contains(line, "_state") {
				t.Errorf("no %q, or too much, in %q", g.says, line)
			}
		})
	}
}

// TestRegistryUnreachable pushes to, and builds on an image of, a host that
// takes no connections and refuses none.
func TestRegistryUnreachable(t *testing.T) {
	// A backlog that is full: the kernel drops what else arrives.
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Close(fd) })
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	sa, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	addr := fmt.Sprintf("127.0.0.1:%d", sa.(*syscall.SockaddrInet4).Port)
	for i := 0; ; i++ {
		c, err := net.DialTimeout("tcp", addr, 200*time.Millisecond)
		if err != nil {
			break
		}
		t.Cleanup(func() { _ = c.Close() })
		if i == 10 {
			t.Fatal("the kernel takes every connection")
		}
	}
	s := newSite(t)
	s.env = append(s.env, "LIGHTER_REGISTRY_TIMEOUT=1s")
	s.write("base/Dockerfile", "FROM "+addr+"/base:1\n")
	for _, args := range [][]string{
		{"build", "--push", "-t", addr + "/app:1", s.simple("app")},
		{"build", "base"},
	} {
		if line := s.fails(args...); !strings.Contains(line, addr+" has not answered") {
			t.Errorf("%v: %q", args, line)
		}
	}
}
