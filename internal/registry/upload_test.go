package registry_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/lighter-oci/lighter/internal/image"
	"github.com/lighter-oci/lighter/internal/image/imagetest"
	"github.com/lighter-oci/lighter/internal/registry"
	"github.com/lighter-oci/lighter/internal/registry/registrytest"
)

// yard is an empty registry behind a proxy with faults.
type yard struct {
	server *registrytest.Server
	proxy  *registrytest.Faulty
}

func newYard(t *testing.T, opts registrytest.Options) *yard {
	s := registrytest.Start(t, opts)
	return &yard{s, registrytest.NewFaulty(t, s)}
}

// repository is a fresh one, through a client of its own.
func (y *yard) repository(t *testing.T, opts registry.Options) *registry.Repository {
	t.Helper()
	r, _ := repository(t, client(t, opts), y.proxy.Ref(fmt.Sprintf("app%d", rand.Uint64())))
	return r
}

// blob is one of size bytes that is like no other.
func blob(seed uint64, size int) (ocispec.Descriptor, []byte) {
	b := make([]byte, size)
	var key [32]byte
	copy(key[:], fmt.Sprint(seed))
	_, _ = rand.NewChaCha8(key).Read(b)
	return ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: digest.FromBytes(b), Size: int64(size)}, b
}

// arrived fails where the registry does not have the blob, or has another.
func arrived(t *testing.T, r *registry.Repository, desc ocispec.Descriptor, content []byte) {
	t.Helper()
	if got, err := fetch(t.Context(), r, desc); err != nil || !bytes.Equal(got, content) {
		t.Errorf("%d bytes come back, %v", len(got), err)
	}
}

func invisible(t *testing.T, r *registry.Repository, desc ocispec.Descriptor) {
	t.Helper()
	if there, err := r.Has(t.Context(), desc); there || err != nil {
		t.Errorf("it is there: %v, %v", there, err)
	}
}

// on strikes the first n requests with a method and a part in their path.
func on(method string, n int, part string, fault func(http.ResponseWriter, *http.Request)) registrytest.Fault {
	times := registrytest.Times(n, part, fault)
	return func(w http.ResponseWriter, r *http.Request) bool { return r.Method == method && times(w, r) }
}

func reset(w http.ResponseWriter, _ *http.Request) { registrytest.Reset(w) }

// A small blob is two requests, a big one three, and nothing is sent twice.
func TestUploadRequests(t *testing.T) {
	y := newYard(t, registrytest.Options{})
	for size, want := range map[int]string{0: "POST PUT", 1: "POST PUT", 64 << 10: "POST PUT", 64<<10 + 1: "POST PATCH PUT", 20 << 20: "POST PATCH PUT"} {
		r := y.repository(t, registry.Options{})
		desc, content := blob(uint64(size), size)
		y.proxy.Set(nil)
		if err := imagetest.Upload(t.Context(), r, desc, content); err != nil {
			t.Fatal(err)
		}
		var methods []string
		for _, request := range y.proxy.Requests() {
			if method, path, _ := strings.Cut(request, " "); path != "/v2/" {
				methods = append(methods, method)
			}
		}
		if got := strings.Join(methods, " "); got != want || y.proxy.Received() != desc.Size {
			t.Errorf("%d bytes: %s with %d bytes, want %s", size, got, y.proxy.Received(), want)
		}
		arrived(t, r, desc, content)
	}
}

// A connection that breaks in the middle of a PATCH costs what was on the way.
func TestBrokenUploadGoesOn(t *testing.T) {
	y := newYard(t, registrytest.Options{})
	y.proxy.KeepSessions()
	const resets = 6
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 0))
	desc, content := blob(seed, 24<<20)
	var struck atomic.Int64
	y.proxy.Set(func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodPatch && struck.Add(1) <= resets {
			registrytest.After(r, 100_000+random.Int64N(3<<20), func() { registrytest.Reset(w) })
		}
		return false
	})
	r := y.repository(t, registry.Options{Attempts: 2})
	if err := imagetest.Upload(t.Context(), r, desc, content); err != nil {
		t.Fatalf("seed %d: %v", seed, err)
	}
	if post, patch, get := y.proxy.Count("POST", ""), y.proxy.Count("PATCH", ""), y.proxy.Count("GET", "/uploads/"); post != 1 || patch != resets+1 || get != resets {
		t.Errorf("seed %d: %d POST, %d PATCH, %d GET", seed, post, patch, get)
	}
	if got := y.proxy.Received(); got > desc.Size+1<<20 {
		t.Errorf("seed %d: %d bytes were sent for %d", seed, got, desc.Size)
	}
	arrived(t, r, desc, content)
}

// What passes is waited out, at every step.
func TestPassingUploadFaults(t *testing.T) {
	y := newYard(t, registrytest.Options{})
	faults := map[string]func(http.ResponseWriter, *http.Request){
		"429": status(429), "429 with Retry-After": status(429, "Retry-After", "0"), "500": status(500), "503": status(503), "reset": reset,
		"silence": func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
	}
	for label, fault := range faults {
		for _, method := range []string{"POST", "PATCH", "PUT"} {
			for _, size := range []int{1000, 3 << 20} {
				if method == "PATCH" && size == 1000 {
					continue
				}
				t.Run(fmt.Sprintf("%s of %s, %d", label, method, size), func(t *testing.T) {
					r := y.repository(t, registry.Options{})
					desc, content := blob(rand.Uint64(), size)
					y.proxy.Set(on(method, 3, "/uploads/", fault))
					if err := imagetest.Upload(t.Context(), r, desc, content); err != nil {
						t.Fatal(err)
					}
					arrived(t, r, desc, content)
				})
			}
		}
	}
}

// Retry-After is waited for, and not where nobody would.
func TestUploadRetryAfter(t *testing.T) {
	y := newYard(t, registrytest.Options{})
	for _, method := range []string{"POST", "PATCH", "PUT"} {
		r := y.repository(t, registry.Options{})
		desc, content := blob(1, 100_000)
		y.proxy.Set(on(method, 1, "/uploads/", status(429, "Retry-After", "1")))
		start := time.Now()
		if err := imagetest.Upload(t.Context(), r, desc, content); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); took < time.Second {
			t.Errorf("%s again after %v, want a second", method, took)
		}
		y.proxy.Set(on(method, 1, "/uploads/", status(429, "Retry-After", "3600")))
		expect(t, imagetest.Upload(t.Context(), y.repository(t, registry.Options{}), desc, content), "limits requests", "wait")
	}
}

// What lasts ends after the attempts allowed; then the upload is given up and
// nothing is visible.
func TestLastingUploadFaults(t *testing.T) {
	y := newYard(t, registrytest.Options{})
	for label, tt := range map[string]struct {
		fault func(http.ResponseWriter, *http.Request)
		most  int
		want  string
	}{
		"503": {status(503), 3, "status 503, 3 times"}, "429": {status(429), 3, "limits requests"}, "reset": {reset, 3, "broke 3 times"},
		"403": {status(403), 1, "access denied"}, "413": {status(413), 1, "bigger than"}, "501": {status(501), 1, "status 501"}, "301": {status(301, "Location", "/v2/"), 1, "status 301"},
	} {
		for _, method := range []string{"POST", "PATCH", "PUT"} {
			t.Run(label+" of "+method, func(t *testing.T) {
				r := y.repository(t, registry.Options{Attempts: 3})
				desc, content := blob(rand.Uint64(), 3<<20)
				if _, err := r.Has(t.Context(), desc); err != nil { // connects
					t.Fatal(err)
				}
				y.proxy.Set(on(method, -1, "/uploads/", tt.fault))
				err := imagetest.Upload(t.Context(), r, desc, content)
				if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "\n") || strings.Contains(err.Error(), "_state") {
					t.Errorf("%v, want %q", err, tt.want)
				}
				if n := y.proxy.Count(method, "/uploads/"); n > tt.most+1 { // net/http may try once more on a connection that was idle
					t.Errorf("%d requests, want %d", n, tt.most)
				}
				if n := y.proxy.Count("DELETE", "/uploads/"); method != "POST" && n != 1 {
					t.Errorf("%d sessions given up", n)
				}
				invisible(t, r, desc)
			})
		}
	}
}

// Uploads have places of their own: as many as allowed, given back in the end,
// and neither in the way of requests nor of downloads.
func TestUploadPlaces(t *testing.T) {
	y := newYard(t, registrytest.Options{})
	r := y.repository(t, registry.Options{Concurrency: 2})
	desc, content := blob(1, 5<<20)
	if err := imagetest.Upload(t.Context(), r, desc, content); err != nil {
		t.Fatal(err)
	}
	var open []image.Upload
	for range 2 {
		rc, err := r.Fetch(t.Context(), desc)
		if err != nil {
			t.Fatal(err)
		}
		defer rc.Close()
		u, err := r.Upload(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer u.Abort()
		if _, err := u.Write(content); err != nil {
			t.Fatal(err)
		}
		open = append(open, u)
	}
	ctx, cancel := contextWithTimeout(t, 50*time.Millisecond)
	defer cancel()
	if _, err := r.Upload(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a third upload: %v", err)
	}
	var g errgroup.Group
	g.Go(func() error { return imagetest.Upload(t.Context(), r, desc, content) })
	if err := open[0].Commit(t.Context(), desc); err != nil {
		t.Error(err)
	}
	if err := g.Wait(); err != nil {
		t.Error(err)
	}
}

// Over TLS, and so over HTTP/2, where all uploads share a connection.
func TestUploadTLS(t *testing.T) {
	s := registrytest.Start(t, registrytest.Options{TLS: true})
	r, _ := repository(t, client(t, registry.Options{Insecure: []string{s.Addr}}), s.Ref("app"))
	f := imagetest.Sample(t)
	if err := imagetest.Push(t.Context(), r, f, "one"); err != nil {
		t.Fatal(err)
	}
	var g errgroup.Group
	for i := range 8 {
		desc, content := blob(uint64(i), i*600_000)
		g.Go(func() error {
			u, err := r.Upload(t.Context())
			if err != nil {
				return err
			}
			if _, err := u.Write(content); err != nil {
				return err
			}
			if i%2 == 0 {
				return u.Commit(t.Context(), desc)
			}
			u.Abort()
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	for i := range 8 {
		desc, content := blob(uint64(i), i*600_000)
		if i%2 == 0 {
			arrived(t, r, desc, content)
		} else {
			invisible(t, r, desc)
		}
	}
}
