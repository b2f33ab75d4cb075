package tune

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/lighter-oci/lighter/internal/codec"
	"github.com/lighter-oci/lighter/internal/event"
	"github.com/lighter-oci/lighter/internal/image"
	"github.com/lighter-oci/lighter/internal/image/imagetest"
)

// tarOf is a layer with files of one size.
func tarOf(t *testing.T, files, size int) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for i := range files {
		content := bytes.Repeat(noise(max(size/4, 1), uint64(i)), 4)
		if err := w.WriteHeader(&tar.Header{Name: strings.Repeat("f", i+1), Mode: 0o644, Size: int64(len(content))}); err != nil {
			t.Fatal(err)
		}
		w.Write(content)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

var amd64 = ocispec.Platform{OS: "linux", Architecture: "amd64"}

// layersOf opens what f holds and picks its layers.
func layersOf(t *testing.T, f *imagetest.Fixture, pool *codec.Pool, platform string) (*Layers, error) {
	t.Helper()
	dir := t.TempDir()
	f.WriteLayout(t, dir)
	src, err := image.OpenLayout(dir)
	if err != nil {
		t.Fatal(err)
	}
	img, err := image.Read(t.Context(), src, "", image.ReadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	m, err := Choose(img, platform, "linux/amd64")
	if err != nil {
		return nil, err
	}
	return ImageLayers(src, m, pool)
}

func TestMeasureAnImage(t *testing.T) {
	pool := codec.NewPool(2)
	f := &imagetest.Fixture{Tag: "app:1"}
	big, small := tarOf(t, 40, 64<<10), tarOf(t, 3, 1000)
	l := f.AddLayer(t, big, codec.Compression{Codec: codec.Zstd})
	f.AddImage(t, amd64, l, f.AddForeignGzip(t, small), l) // the same blob twice
	layers, err := layersOf(t, f, pool, "")
	if err != nil {
		t.Fatal(err)
	}
	s, err := ReadSample(t.Context(), layers, 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	if s.Tar != int64(len(big)+len(small)) || s.Bytes != s.Tar || s.Entries != 43 || len(s.Parts) != 2 {
		t.Fatalf("sample of %d in %d bytes, %d entries, %d layers", s.Bytes, s.Tar, s.Entries, len(s.Parts))
	}
	var mu sync.Mutex
	var seen []string
	dir := t.TempDir()
	levels := []codec.Compression{{Codec: codec.Gzip, Level: 6}, {Codec: codec.Zstd, Level: 1}, {Codec: codec.Uncompressed}}
	r, err := Measure(t.Context(), s, Options{Pool: pool, Levels: levels, Rounds: 2, TempDir: dir, Report: func(e event.Event) {
		mu.Lock()
		defer mu.Unlock()
		if e.Layer != nil {
			seen = append(seen, e.Layer.Codec)
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Trials) != 3 || len(r.LeftOut) != 0 || len(r.Hash) != 2 || len(r.Writes) != 2 {
		t.Fatalf("%+v", r)
	}
	for i, tr := range r.Trials {
		if tr.Compression != levels[i] || len(tr.Rounds) != 2 || (tr.Rounds[0].Parallel > 0) != (i == 1) {
			t.Errorf("%+v", tr)
		}
	}
	if gz, raw := r.Trials[0].Out, r.Trials[2].Out; gz >= raw || raw != s.Bytes {
		t.Errorf("gzip makes %d bytes of %d, uncompressed %d", gz, s.Bytes, raw)
	}
	// In turn: no level twice before each was there once.
	if len(seen) != 6 || seen[0] == seen[1] || seen[1] == seen[2] || seen[3] != seen[0] || seen[4] != seen[1] {
		t.Errorf("measured in the order %q", seen)
	}
	if err := pool.Close(); err != nil { // every reader and writer was closed
		t.Fatal(err)
	}
	empty(t, dir)
}

func empty(t *testing.T, dir string) {
	t.Helper()
	left, err := os.ReadDir(dir)
	if err != nil || len(left) > 0 {
		t.Errorf("left in the temporary directory: %v, %v", left, err)
	}
}

// TestMeasureStops cancels before and between measurements: the cause comes
// back and no file stays.
func TestMeasureStops(t *testing.T) {
	s := sampled(0, 1<<20, noise(1<<20, 1))
	why := errors.New("enough")
	for at := range 3 {
		ctx, cancel := context.WithCancelCause(t.Context())
		n := 0
		dir := t.TempDir()
		if at == 0 {
			cancel(why)
		}
		_, err := Measure(ctx, s, Options{Pool: codec.NewPool(2), Levels: []codec.Compression{{Codec: codec.Zstd, Level: 1}}, TempDir: dir,
			Report: func(event.Event) {
				if n++; n == at {
					cancel(why)
				}
			}})
		if !errors.Is(err, why) {
			t.Errorf("cancelled at event %d: %v", at, err)
		}
		empty(t, dir)
	}
}

func TestNoTimeAtAll(t *testing.T) {
	s := sampled(0, 1<<20, noise(1<<20, 1))
	_, err := Measure(t.Context(), s, Options{Pool: codec.NewPool(2), Levels: []codec.Compression{{Codec: codec.Zstd, Level: 1}}, TimeLimit: 1})
	if err == nil || !strings.Contains(err.Error(), "more time") {
		t.Error(err)
	}
}

func TestBadImages(t *testing.T) {
	pool := codec.NewPool(1)
	content := tarOf(t, 2, 3000)
	foreign := func(f *imagetest.Fixture) imagetest.Layer {
		l := f.AddForeignGzip(t, content)
		l.Descriptor.MediaType = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"
		return l
	}
	for name, tt := range map[string]struct {
		make     func(f *imagetest.Fixture)
		platform string
		want     string
	}{
		"no layers":        {func(f *imagetest.Fixture) { f.AddImage(t, amd64) }, "", "it has no layers"},
		"foreign layers":   {func(f *imagetest.Fixture) { f.AddImage(t, amd64, foreign(f)) }, "", "all of its layers (1) are foreign"},
		"another platform": {func(f *imagetest.Fixture) { f.AddImage(t, amd64, f.AddForeignGzip(t, content)) }, "linux/riscv64", "it has no linux/riscv64"},
		"no tar": {func(f *imagetest.Fixture) {
			f.AddImage(t, amd64, f.AddForeignGzip(t, bytes.Repeat([]byte("no tar "), 500)))
		}, "", "it is no tar"},
		"another tar": {func(f *imagetest.Fixture) {
			l := f.AddForeignGzip(t, content)
			l.DiffID = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855" // of nothing
			f.AddImage(t, amd64, l)
		}, "", "its config says"},
		"cut short": {func(f *imagetest.Fixture) {
			l := f.AddForeignGzip(t, content)
			cut := f.Add(ocispec.MediaTypeImageLayerGzip, f.Blob(l.Descriptor.Digest)[:l.Descriptor.Size-9])
			f.AddImage(t, amd64, imagetest.Layer{Descriptor: cut, DiffID: l.DiffID})
		}, "", "layer sha256:"},
		"no files": {func(f *imagetest.Fixture) { f.AddImage(t, amd64, f.AddForeignGzip(t, make([]byte, 1024))) }, "", "no files"},
	} {
		f := &imagetest.Fixture{Tag: "bad:1"}
		tt.make(f)
		layers, err := layersOf(t, f, pool, tt.platform)
		if err == nil {
			_, err = ReadSample(t.Context(), layers, 1<<20, nil)
		}
		if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v, want %q", name, err, tt.want)
		}
	}
	if err := pool.Close(); err != nil { // nothing stays open behind an error
		t.Fatal(err)
	}
}

// TestCorruptLayer flips a byte of a blob in a layout.
func TestCorruptLayer(t *testing.T) {
	pool := codec.NewPool(1)
	f := &imagetest.Fixture{Tag: "bad:1"}
	l := f.AddLayer(t, tarOf(t, 2, 3000), codec.Compression{Codec: codec.Uncompressed})
	f.AddImage(t, amd64, l)
	dir := t.TempDir()
	f.WriteLayout(t, dir)
	path := filepath.Join(dir, "blobs", "sha256", l.Descriptor.Digest.Encoded())
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b[1500] ^= 1
	if err := os.WriteFile(path, b, 0o644); err != nil {
		t.Fatal(err)
	}
	src, err := image.OpenLayout(dir)
	if err != nil {
		t.Fatal(err)
	}
	img, err := image.Read(t.Context(), src, "", image.ReadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	layers, err := ImageLayers(src, img.Manifests[0], pool)
	if err != nil {
		t.Fatal(err)
	}
	_, err = ReadSample(t.Context(), layers, 0, nil)
	var p *Problem
	if !errors.Is(err, image.ErrCorrupt) || !strings.Contains(err.Error(), l.Descriptor.Digest.String()) || !errors.As(err, &p) {
		t.Errorf("%v, want a named corrupt layer and a next step", err)
	}
}

func TestDirectory(t *testing.T) {
	dir := t.TempDir()
	if layers, err := DirLayers(dir); err != nil {
		t.Fatal(err)
	} else if _, err := ReadSample(t.Context(), layers, 0, nil); err == nil || !strings.Contains(err.Error(), "no files") {
		t.Errorf("an empty directory: %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "a"), noise(5000, 1), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("a", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	layers, err := DirLayers(dir)
	if err != nil {
		t.Fatal(err)
	}
	s, err := ReadSample(t.Context(), layers, 0, nil)
	if err != nil || s.Tar < 5000 || s.Entries < 2 {
		t.Errorf("%+v, %v", s, err)
	}
	for _, path := range []string{filepath.Join(dir, "a"), filepath.Join(dir, "none")} {
		if _, err := DirLayers(path); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", path, err)
		}
	}
}
