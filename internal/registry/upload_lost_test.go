package registry_test

import (
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/lighter-oci/lighter/internal/image"
	"github.com/lighter-oci/lighter/internal/image/imagetest"
	"github.com/lighter-oci/lighter/internal/registry"
	"github.com/lighter-oci/lighter/internal/registry/registrytest"
)

// A PUT whose answer gets lost is asked about and not sent again.
func TestLostAnswer(t *testing.T) {
	y := newYard(t, registrytest.Options{})
	for _, size := range []int{1000, 1 << 20} {
		for _, cut := range []bool{true, false} {
			var w http.ResponseWriter
			y.proxy.Set(func(rw http.ResponseWriter, r *http.Request) bool {
				if r.Method == http.MethodPut {
					w = rw
				}
				return false
			})
			y.proxy.Rewrite(func(resp *http.Response) error {
				if resp.Request.Method != http.MethodPut || resp.StatusCode != http.StatusCreated {
					return nil
				}
				if cut {
					registrytest.Reset(w)
				}
				return errors.New("the registry's answer is not passed on")
			})
			r := y.repository(t, registry.Options{Attempts: 1}) // asking is no attempt
			desc, content := blob(rand.Uint64(), size)
			if err := imagetest.Upload(t.Context(), r, desc, content); err != nil {
				t.Errorf("%d bytes: %v", size, err)
			}
			if put, head := y.proxy.Count("PUT", ""), y.proxy.Count("HEAD", ""); put != 1 || head != 1 {
				t.Errorf("%d bytes: %d PUT, %d HEAD", size, put, head)
			}
			y.proxy.Rewrite(nil)
			arrived(t, r, desc, content)
		}
	}
}

// A registry that cannot go on in the middle of a PATCH, as Debian's, gets the
// blob once more from here, or else the caller hears that it has to.
func TestLostUpload(t *testing.T) {
	y := newYard(t, registrytest.Options{})
	cut := func(n int64) registrytest.Fault {
		var struck atomic.Bool
		return func(w http.ResponseWriter, r *http.Request) bool {
			if r.Method == http.MethodPatch && struck.CompareAndSwap(false, true) {
				registrytest.After(r, n, func() { registrytest.Reset(w) })
			}
			return false
		}
	}
	r := y.repository(t, registry.Options{})
	desc, content := blob(1, 3<<20)
	y.proxy.Set(cut(2 << 20))
	if err := imagetest.Upload(t.Context(), r, desc, content); err != nil {
		t.Error(err)
	}
	if n := y.proxy.Count("POST", ""); n != 2 {
		t.Errorf("%d sessions, want 2", n)
	}
	arrived(t, r, desc, content)

	desc, content = blob(2, 30<<20)
	y.proxy.Set(cut(25 << 20))
	lost(t, y.repository(t, registry.Options{}), desc, content)

	// In many PATCHes only one that arrived in part is a loss.
	y.proxy.Set(on("PATCH", 3, "/uploads/", status(502)))
	r = y.repository(t, registry.Options{PatchSize: 4 << 20})
	if err := imagetest.Upload(t.Context(), r, desc, content); err != nil {
		t.Error(err)
	}
	if post, patch := y.proxy.Count("POST", ""), y.proxy.Count("PATCH", ""); post != 1 || patch != 8+3 {
		t.Errorf("%d POST, %d PATCH", post, patch)
	}
	arrived(t, r, desc, content)
}

// A registry, or a proxy in front of it, that takes no body of unknown length, or
// not so much in one, gets pieces that say how long they are: this blob, where
// its start is still held, and those that follow.
func TestSizedUpload(t *testing.T) {
	y := newYard(t, registrytest.Options{})
	const most = 10 << 20 // bytes that the proxy takes in a request
	for label, fault := range map[string]func(http.ResponseWriter, *http.Request){
		"411": status(411), "501": status(501), "400": status(400),
		"413": func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.CopyN(io.Discard, r.Body, most)
			w.WriteHeader(413)
		},
	} {
		t.Run(label, func(t *testing.T) {
			y.proxy.Set(func(w http.ResponseWriter, r *http.Request) bool {
				if r.Method != http.MethodPatch || r.ContentLength >= 0 && r.ContentLength < most {
					return false
				}
				fault(w, r)
				return true
			})
			r := y.repository(t, registry.Options{})
			for i, want := range []int{1 + 3, 3} {
				desc, content := blob(uint64(i), 20<<20)
				before := y.proxy.Count("PATCH", "")
				if err := imagetest.Upload(t.Context(), r, desc, content); err != nil {
					t.Fatal(err)
				}
				if got := y.proxy.Count("PATCH", "") - before; got != want {
					t.Errorf("blob %d: %d PATCHes, want %d", i+1, got, want)
				}
				arrived(t, r, desc, content)
			}
		})
	}
	// Too much is too much in pieces, too.
	y.proxy.Set(on("PATCH", -1, "/uploads/", status(413)))
	desc, content := blob(9, 20<<20)
	expect(t, imagetest.Upload(t.Context(), y.repository(t, registry.Options{}), desc, content), "bigger than", "raise the limit")
	if n := y.proxy.Count("PATCH", ""); n != 2 {
		t.Errorf("%d PATCHes, want one of each kind", n)
	}
}

// A proxy that passes nothing on of a body of unknown length is found out by what
// the registry has then. Where the start of the blob is gone, the next attempt
// sends pieces.
func TestNothingArrives(t *testing.T) {
	y := newYard(t, registrytest.Options{})
	swallow := func(sized bool) registrytest.Fault {
		return func(_ http.ResponseWriter, r *http.Request) bool {
			if r.Method == http.MethodPatch && (sized || r.ContentLength < 0) {
				_, _ = io.Copy(io.Discard, r.Body)
				r.Body, r.ContentLength = http.NoBody, 0
				r.Header.Del("Content-Range")
			}
			return false
		}
	}
	y.proxy.Set(swallow(false))
	desc, content := blob(1, 3<<20)
	r := y.repository(t, registry.Options{})
	if err := imagetest.Upload(t.Context(), r, desc, content); err != nil {
		t.Error(err)
	}
	arrived(t, r, desc, content)

	desc, content = blob(2, 20<<20)
	r = y.repository(t, registry.Options{})
	lost(t, r, desc, content)
	if err := imagetest.Upload(t.Context(), r, desc, content); err != nil {
		t.Error(err)
	}
	arrived(t, r, desc, content)
	if n := y.proxy.Count("PATCH", ""); n != 1+1+1+3 {
		t.Errorf("%d PATCHes", n)
	}

	y.proxy.Set(swallow(true))
	desc, content = blob(3, 3<<20)
	expect(t, imagetest.Upload(t.Context(), y.repository(t, registry.Options{Attempts: 3}), desc, content), "has nothing of it", "proxy in front")
	if n := y.proxy.Count("PATCH", ""); n != 1+3 {
		t.Errorf("%d PATCHes, want one and three attempts in pieces", n)
	}
}

func lost(t *testing.T, r *registry.Repository, desc ocispec.Descriptor, content []byte) {
	t.Helper()
	err := imagetest.Upload(t.Context(), r, desc, content)
	if !errors.Is(err, image.ErrUploadLost) || strings.Contains(err.Error(), "_state") {
		t.Errorf("%v, want ErrUploadLost", err)
	}
	expect(t, err, "lost the upload", "from its start")
	invisible(t, r, desc)
}

// What a registry says about an upload is compared with what was sent.
func TestUploadLies(t *testing.T) {
	y := newYard(t, registrytest.Options{})
	y.proxy.KeepSessions()
	cut := func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodPatch {
			registrytest.After(r, 25<<20, func() { registrytest.Reset(w) })
		}
		return false
	}
	desc, content := blob(1, 30<<20)
	for label, lie := range map[string]func(*http.Response){
		"nothing left": func(resp *http.Response) { resp.Header.Set("Range", "0-0") },
		"less":         func(resp *http.Response) { resp.Header.Set("Range", "0-99") },
		"more":         func(resp *http.Response) { resp.Header.Set("Range", "0-99999999") },
		"no range":     func(resp *http.Response) { resp.Header.Del("Range") },
		"404":          func(resp *http.Response) { resp.StatusCode = 404 },
		"416":          func(resp *http.Response) { resp.StatusCode = 416 },
	} {
		t.Run(label, func(t *testing.T) {
			y.proxy.Set(cut)
			y.proxy.Rewrite(func(resp *http.Response) error {
				if resp.Request.Method == http.MethodGet && strings.Contains(resp.Request.URL.Path, "/uploads/") {
					lie(resp)
				}
				return nil
			})
			lost(t, y.repository(t, registry.Options{}), desc, content)
			y.proxy.Rewrite(nil)
		})
	}
	// Bytes that change on the way.
	r := y.repository(t, registry.Options{})
	y.proxy.Set(func(_ http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodPatch {
			r.Body = flipped{r.Body}
		}
		return false
	})
	lost(t, r, desc, content)

	y.proxy.Set(nil)
	y.proxy.Rewrite(func(resp *http.Response) error {
		resp.Header.Set("Docker-Content-Digest", digest.FromString("x").String())
		return nil
	})
	if err := imagetest.Upload(t.Context(), r, desc, content); !errors.Is(err, image.ErrCorrupt) {
		t.Errorf("another digest: %v, want ErrCorrupt", err)
	}
}

// flipped changes a bit of every read.
type flipped struct{ io.ReadCloser }

func (f flipped) Read(p []byte) (int, error) {
	n, err := f.ReadCloser.Read(p)
	if n > 0 {
		p[n/2] ^= 1
	}
	return n, err
}

// An upload of which nothing is accepted is taken up again; one whose writer
// thinks is none.
func TestStalledUpload(t *testing.T) {
	y := newYard(t, registrytest.Options{})
	y.proxy.KeepSessions()
	const idle, stall = 150 * time.Millisecond, 2 * time.Second
	for method, next := range map[string]string{"PATCH": http.MethodGet, "PUT": http.MethodHead} {
		r := y.repository(t, registry.Options{Idle: idle})
		desc, content := blob(1, 20<<20)
		var struck atomic.Bool
		var since, noticed atomic.Int64 // milliseconds
		start := time.Now()
		y.proxy.Set(func(_ http.ResponseWriter, r *http.Request) bool {
			switch {
			case r.Method == next && strings.Contains(r.URL.Path, "/blobs/") && struck.Load():
				noticed.CompareAndSwap(0, time.Since(start).Milliseconds())
			case r.Method == method && struck.CompareAndSwap(false, true):
				wait := func() { since.Store(time.Since(start).Milliseconds()); time.Sleep(stall) }
				if method == "PUT" {
					wait()
					panic(http.ErrAbortHandler)
				}
				registrytest.After(r, 2<<20, wait)
			}
			return false
		})
		if err := imagetest.Upload(t.Context(), r, desc, content); err != nil {
			t.Fatalf("%s: %v", method, err)
		}
		if took := noticed.Load() - since.Load(); took <= 0 || took > (stall-stall/5).Milliseconds() {
			t.Errorf("%s: it was noticed after %d ms", method, took)
		}
		arrived(t, r, desc, content)
	}
	y.proxy.Set(nil)
	r := y.repository(t, registry.Options{Idle: idle})
	desc, content := blob(2, 1<<20)
	u, err := r.Upload(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for half := range 2 {
		if _, err := u.Write(content[half<<19 : (half+1)<<19]); err != nil {
			t.Fatal(err)
		}
		time.Sleep(3 * idle)
	}
	if err := u.Commit(t.Context(), desc); err != nil {
		t.Error(err)
	}
	if n := y.proxy.Count("PATCH", ""); n != 1 {
		t.Errorf("%d PATCH for a writer that thinks", n)
	}
}
