package registry_test

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/lighter-oci/lighter/internal/image"
	"github.com/lighter-oci/lighter/internal/image/imagetest"
	"github.com/lighter-oci/lighter/internal/registry"
)

// A download that is cut goes on where it was, however often.
func TestCutDownloadGoesOn(t *testing.T) {
	b := newBench(t)
	var sent atomic.Int64
	b.proxy.Rewrite(func(resp *http.Response) error {
		if isBlob(resp) && resp.ContentLength > 0 {
			n := min(resp.ContentLength, 70<<10)
			sent.Add(n)
			if n < resp.ContentLength {
				return cutAt(n)(resp)
			}
		}
		return nil
	})
	r, _ := repository(t, client(t, registry.Options{Attempts: 2}), b.ref)
	got, err := fetch(t.Context(), r, b.big)
	if err != nil || !bytes.Equal(got, b.fixture.Blob(b.big.Digest)) {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
	if sent.Load() > b.big.Size+b.big.Size/2 {
		t.Errorf("%d bytes were sent for %d", sent.Load(), b.big.Size)
	}
}

// A response that brings nothing more is given up and asked for again.
func TestStalledDownloadGoesOn(t *testing.T) {
	b := newBench(t)
	release := make(chan struct{})
	t.Cleanup(func() { close(release) })
	var stalls, limit atomic.Int64
	limit.Store(40 << 10)
	b.proxy.Rewrite(func(resp *http.Response) error {
		if isBlob(resp) && stalls.Add(1) <= 2 {
			resp.Body = struct {
				io.Reader
				io.Closer
			}{io.MultiReader(io.LimitReader(resp.Body, limit.Load()), &stalling{release, resp.Request.Context().Done()}), resp.Body}
		}
		return nil
	})
	r, _ := repository(t, client(t, registry.Options{Idle: 100 * time.Millisecond}), b.ref)
	got, err := fetch(t.Context(), r, b.big)
	if err != nil || !bytes.Equal(got, b.fixture.Blob(b.big.Digest)) {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
	stalls.Store(-1_000_000)
	limit.Store(1000)
	_, err = fetch(t.Context(), r, b.big)
	if err == nil || !strings.Contains(err.Error(), "does not answer in time") {
		t.Errorf("stalled for good: %v", err)
	}
}

// stalling is a body that waits.
type stalling struct{ release, gone <-chan struct{} }

func (s *stalling) Read([]byte) (int, error) {
	select {
	case <-s.release:
	case <-s.gone:
	}
	return 0, io.EOF
}

// What a registry says and what it sends are two things.
func TestLies(t *testing.T) {
	b := newBench(t)
	body := func(resp *http.Response, change func([]byte) []byte) error {
		content, err := io.ReadAll(resp.Body)
		content = change(content)
		resp.Body, resp.ContentLength = io.NopCloser(bytes.NewReader(content)), int64(len(content))
		resp.Header.Set("Content-Length", strconv.Itoa(len(content)))
		return err
	}
	for label, tt := range map[string]struct {
		lie  func(*http.Response) error
		want error // of Fetch
		text string
	}{
		"wrong bytes":    {func(r *http.Response) error { return body(r, func(b []byte) []byte { b[len(b)/2] ^= 1; return b }) }, image.ErrCorrupt, "has the content of"},
		"longer":         {func(r *http.Response) error { return body(r, func(b []byte) []byte { return append(b, 0) }) }, image.ErrCorrupt, "the descriptor says"},
		"shorter":        {func(r *http.Response) error { return body(r, func(b []byte) []byte { return b[1:] }) }, image.ErrCorrupt, "the descriptor says"},
		"empty":          {func(r *http.Response) error { return body(r, func([]byte) []byte { return nil }) }, image.ErrCorrupt, ""},
		"always cut":     {func(r *http.Response) error { return cutAt(0)(r) }, nil, "broke 2 times"},
		"other range":    {otherRange, nil, "another range"},
		"no body at all": {func(r *http.Response) error { r.StatusCode = 204; return body(r, func([]byte) []byte { return nil }) }, nil, "status"},
	} {
		t.Run(label, func(t *testing.T) {
			b.proxy.Rewrite(func(resp *http.Response) error {
				if isBlob(resp) {
					return tt.lie(resp)
				}
				return nil
			})
			r, _ := repository(t, client(t, registry.Options{Attempts: 2}), b.ref)
			_, err := fetch(t.Context(), r, b.big)
			if err == nil || tt.want != nil && !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.text) || strings.Contains(err.Error(), "\n") {
				t.Errorf("%v, want %v, %q", err, tt.want, tt.text)
			}
			b.proxy.Rewrite(func(resp *http.Response) error {
				if strings.Contains(resp.Request.URL.Path, "/manifests/") && resp.Request.Method == http.MethodGet {
					return tt.lie(resp)
				}
				return nil
			})
			if desc, err := r.Resolve(t.Context(), b.fixture.Tag); err == nil && label != "other range" {
				t.Errorf("a manifest resolves to %s", desc.Digest)
			}
		})
	}
}

// otherRange cuts the first response and shifts every range asked for later.
func otherRange(resp *http.Response) error {
	if resp.StatusCode == http.StatusPartialContent {
		resp.Header.Set("Content-Range", "bytes 0-9/10")
		return nil
	}
	return cutAt(1000)(resp)
}

// A registry that ignores ranges answers small ones all the same.
func TestIgnoredRanges(t *testing.T) {
	b := newBench(t)
	b.proxy.Set(func(_ http.ResponseWriter, r *http.Request) bool { r.Header.Del("Range"); return false })
	r, ref := repository(t, client(t, registry.Options{}), b.ref)
	img, err := image.Read(t.Context(), r, ref, image.ReadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if l := img.Manifests[0].Layers[1]; l.Record == nil || l.Record.Level != 3 {
		t.Errorf("record of the big layer: %v, %v", l.Record, l.RecordErr)
	}
	huge := &imagetest.Fixture{}
	desc := huge.Add(ocispec.MediaTypeImageLayer, bytes.Repeat([]byte("x"), 17<<20))
	b2 := newBench(t)
	b2.proxy.Set(func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.Contains(r.URL.Path, "/blobs/") {
			return false
		}
		w.Header().Set("Content-Length", strconv.FormatInt(desc.Size, 10))
		_, _ = w.Write(huge.Blob(desc.Digest))
		return true
	})
	r, _ = repository(t, client(t, registry.Options{}), b2.ref)
	if _, err := r.FetchRange(t.Context(), desc, -10, 10); !errors.Is(err, image.ErrNoRange) {
		t.Errorf("%v, want ErrNoRange", err)
	}
	got, err := fetch(t.Context(), r, desc)
	if err != nil || int64(len(got)) != desc.Size {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}
