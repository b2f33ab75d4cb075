package registry_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/lighter-oci/lighter/internal/image"
	"github.com/lighter-oci/lighter/internal/image/imagetest"
	"github.com/lighter-oci/lighter/internal/registry"
	"github.com/lighter-oci/lighter/internal/registry/registrytest"
)

// bench is a registry with the sample, behind a proxy with faults.
type bench struct {
	proxy   *registrytest.Faulty
	fixture *imagetest.Fixture
	ref     string             // through the proxy
	big     ocispec.Descriptor // the biggest blob, over 400 KiB
	small   ocispec.Descriptor // the smallest
}

func newBench(t *testing.T) *bench {
	s := registrytest.Start(t, registrytest.Options{})
	b := &bench{proxy: registrytest.NewFaulty(t, s), fixture: imagetest.Sample(t)}
	b.ref = strings.Replace(s.Push(t, "app", b.fixture), s.Addr, b.proxy.Addr, 1)
	b.small = b.fixture.Descriptors[0]
	for _, desc := range b.fixture.Descriptors {
		if desc.Size > b.big.Size {
			b.big = desc
		}
		if desc.Size < b.small.Size {
			b.small = desc
		}
	}
	return b
}

func fetch(ctx context.Context, src image.Source, desc ocispec.Descriptor) ([]byte, error) {
	rc, err := src.Fetch(ctx, desc)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(rc)
	return b, errors.Join(err, rc.Close())
}

func status(code int, header ...string) func(http.ResponseWriter, *http.Request) {
	return func(w http.ResponseWriter, _ *http.Request) {
		for i := 0; i < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(code)
	}
}

// cutAt passes the response on up to n bytes of its body and then breaks the
// connection.
func cutAt(n int64) func(*http.Response) error {
	return func(resp *http.Response) error {
		resp.Body = struct {
			io.Reader
			io.Closer
		}{io.MultiReader(io.LimitReader(resp.Body, n), broken{}), resp.Body}
		return nil
	}
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, errors.New("cut") }

func isBlob(resp *http.Response) bool { return strings.Contains(resp.Request.URL.Path, "/blobs/") }

// What passes is waited out: every kind of passing fault, on manifests and on
// blobs, and then the right bytes.
func TestPassingFaults(t *testing.T) {
	b := newBench(t)
	for label, fault := range map[string]func(http.ResponseWriter, *http.Request){
		"429":                  status(429),
		"429 with Retry-After": status(429, "Retry-After", "0"),
		"429 with a date":      status(429, "Retry-After", time.Now().Add(-time.Hour).UTC().Format(http.TimeFormat)),
		"500":                  status(500), "502": status(502), "503": status(503), "504": status(504), "520": status(520),
		"reset":   func(w http.ResponseWriter, _ *http.Request) { registrytest.Reset(w) },
		"silence": func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
	} {
		for _, part := range []string{"/v2/", "/manifests/", "/blobs/"} {
			t.Run(label+" on "+part, func(t *testing.T) {
				b.proxy.Set(registrytest.Times(3, part, fault))
				r, ref := repository(t, client(t, registry.Options{}), b.ref)
				img, err := image.Read(t.Context(), r, ref, image.ReadOptions{})
				if err != nil {
					t.Fatal(err)
				}
				if img.Root.Digest != b.fixture.Root.Digest {
					t.Errorf("got %s", img.Root.Digest)
				}
				got, err := fetch(t.Context(), r, b.big)
				if err != nil || !bytes.Equal(got, b.fixture.Blob(b.big.Digest)) {
					t.Errorf("%d bytes, %v", len(got), err)
				}
			})
		}
	}
}

// What lasts ends after the attempts that were allowed, and soon.
func TestLastingFaults(t *testing.T) {
	b := newBench(t)
	for label, tt := range map[string]struct {
		fault    func(http.ResponseWriter, *http.Request)
		requests int
		want     string
	}{
		"503":       {status(503), 3, "status 503, 3 times"},
		"429":       {status(429), 3, "limits requests"},
		"reset":     {func(w http.ResponseWriter, _ *http.Request) { registrytest.Reset(w) }, 3, "broke 3 times"},
		"in a year": {status(429, "Retry-After", "31536000"), 1, "limits requests"},
		"501":       {status(501), 1, "status 501"},
		"400":       {status(400), 1, "status 400"},
		"404":       {status(404), 1, "not found"},
	} {
		t.Run(label, func(t *testing.T) {
			r, ref := repository(t, client(t, registry.Options{Attempts: 3}), b.ref)
			b.proxy.Set(nil)
			if _, err := r.Resolve(t.Context(), ref); err != nil { // connects
				t.Fatal(err)
			}
			b.proxy.Set(registrytest.Times(-1, "/", tt.fault))
			_, resolveErr := r.Resolve(t.Context(), ref)
			_, fetchErr := fetch(t.Context(), r, b.big)
			for _, err := range []error{resolveErr, fetchErr} {
				if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), b.proxy.Addr+"/app") {
					t.Errorf("%v, want %q", err, tt.want)
				}
			}
			most := tt.requests
			if label == "reset" { // net/http itself tries once more on a connection that was idle
				most++
			}
			if m, n := b.proxy.Count("GET", "/manifests/"), b.proxy.Count("GET", "/blobs/"); m < tt.requests || m > most || n < tt.requests || n > most {
				t.Errorf("%d and %d requests, want %d", m, n, tt.requests)
			}
		})
	}
}

// Retry-After is waited for.
func TestRetryAfterIsHonoured(t *testing.T) {
	b := newBench(t)
	b.proxy.Set(registrytest.Times(1, "/manifests/", status(429, "Retry-After", "1")))
	r, ref := repository(t, client(t, registry.Options{}), b.ref)
	start := time.Now()
	if _, err := r.Resolve(t.Context(), ref); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(start); took < time.Second {
		t.Errorf("asked again after %v, want a second", took)
	}
}

// A wait ends when the context does.
func TestWaitIsCancelled(t *testing.T) {
	b := newBench(t)
	b.proxy.Set(registrytest.Times(-1, "/manifests/", status(503)))
	r, ref := repository(t, client(t, registry.Options{Backoff: time.Hour}), b.ref)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := r.Resolve(ctx, ref); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v, want it cancelled", err)
	}
}

// Random schedules of faults: what arrives is right, or an error says so.
func TestRandomFaults(t *testing.T) {
	b := newBench(t)
	for range 40 {
		seed := rand.Uint64()
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 0))
			var faults []int // one a request; what comes later passes
			for range random.IntN(12) {
				faults = append(faults, random.IntN(7))
			}
			cut := random.Int64N(b.big.Size)
			var next atomic.Int64
			take := func() int {
				if n := int(next.Add(1)) - 1; n < len(faults) {
					return faults[n]
				}
				return -1
			}
			b.proxy.Rewrite(func(resp *http.Response) error {
				if resp.Header.Get("X-Cut") != "" || resp.Request.Header.Get("X-Cut") != "" {
					return cutAt(cut)(resp)
				}
				return nil
			})
			b.proxy.Set(func(w http.ResponseWriter, r *http.Request) bool {
				switch take() {
				case 0:
					registrytest.Reset(w)
				case 1:
					w.WriteHeader(503)
				case 2:
					w.WriteHeader(429)
				case 3:
					r.Header.Del("Range")
					return false
				case 4, 5:
					r.Header.Set("X-Cut", "1")
					return false
				default:
					return false
				}
				return true
			})
			r, ref := repository(t, client(t, registry.Options{}), b.ref)
			g, ctx := errgroup.WithContext(t.Context())
			g.Go(func() error {
				desc, err := r.Resolve(ctx, ref)
				if err == nil && desc.Digest != b.fixture.Root.Digest {
					t.Errorf("resolved to %s", desc.Digest)
				}
				return err
			})
			g.Go(func() error {
				got, err := fetch(ctx, r, b.big)
				if err == nil && !bytes.Equal(got, b.fixture.Blob(b.big.Digest)) {
					t.Errorf("%d other bytes", len(got))
				}
				return err
			})
			if err := g.Wait(); err != nil {
				if errors.Is(err, image.ErrCorrupt) || strings.Contains(err.Error(), "\n") {
					t.Errorf("%v", err)
				}
				t.Log(err)
			}
		})
	}
}

// A host gets no more requests at a time than allowed, and all of them at last.
func TestConcurrencyLimit(t *testing.T) {
	b := newBench(t)
	var now, most atomic.Int64
	b.proxy.Set(func(_ http.ResponseWriter, r *http.Request) bool {
		n := now.Add(1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		time.Sleep(5 * time.Millisecond) // a request that takes a while, not a wait for anything
		now.Add(-1)
		return false
	})
	r, _ := repository(t, client(t, registry.Options{Concurrency: 2}), b.ref)
	var g errgroup.Group
	for range 20 {
		g.Go(func() error {
			_, err := fetch(t.Context(), r, b.small)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	if m := most.Load(); m != 2 {
		t.Errorf("%d requests at a time, want 2", m)
	}
}
