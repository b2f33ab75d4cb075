package image_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/lighter-oci/lighter/internal/codec"
	"github.com/lighter-oci/lighter/internal/event"
	"github.com/lighter-oci/lighter/internal/image"
	"github.com/lighter-oci/lighter/internal/image/imagetest"
)

var gzip6 = codec.Compression{Codec: codec.Gzip, Level: 6}

// destination is a layout that is copied to, and counts what arrives.
type destination struct {
	*image.LayoutTarget
	dir     string
	uploads atomic.Int64
}

func (d *destination) Upload(ctx context.Context) (image.Upload, error) {
	d.uploads.Add(1)
	return d.LayoutTarget.Upload(ctx)
}

func newDestination(t *testing.T) *destination {
	t.Helper()
	d := &destination{dir: filepath.Join(t.TempDir(), "layout")}
	var err error
	if d.LayoutTarget, err = image.CreateLayout(d.dir); err != nil {
		t.Fatal(err)
	}
	return d
}

func (d *destination) open(t *testing.T) *image.Layout {
	t.Helper()
	l, err := image.OpenLayout(d.dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeOK(t, l) })
	return l
}

func (d *destination) read(t *testing.T, ref string) *image.Image {
	t.Helper()
	img, err := image.Read(t.Context(), d.open(t), ref, image.ReadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func newPool(t *testing.T) *codec.Pool {
	t.Helper()
	pool := codec.NewPool(2)
	t.Cleanup(func() { pool.Close() })
	return pool
}

func mustCopy(t *testing.T, f *imagetest.Fixture, d *destination, opts image.CopyOptions) *image.Copied {
	t.Helper()
	d.uploads.Store(0)
	got, err := image.Copy(t.Context(), source(f), f.Tag, d, []string{"copy"}, opts)
	if err != nil {
		t.Fatal(err)
	}
	checkTars(t, d)
	return got
}

// checkTars holds every layer's tar against the config's diffID.
func checkTars(t *testing.T, d *destination) {
	t.Helper()
	l, pool := d.open(t), newPool(t)
	img := d.read(t, "copy")
	for _, m := range img.Manifests {
		if !m.IsImage() {
			continue
		}
		for _, layer := range m.Layers {
			rc, err := l.Fetch(t.Context(), layer.Descriptor)
			if err != nil {
				t.Fatal(err)
			}
			tar, err := pool.NewReader(rc)
			if err != nil {
				t.Fatal(err)
			}
			got, err := digest.FromReader(tar)
			if err != nil || got != layer.DiffID {
				t.Errorf("%s layer %s: tar %s, %v; want %s", m.Platform, layer.Descriptor.Digest, got, err, layer.DiffID)
			}
			if err := errors.Join(tar.Close(), rc.Close()); err != nil {
				t.Error(err)
			}
		}
	}
}

func TestCopyUnchanged(t *testing.T) {
	f, d := imagetest.Sample(t), newDestination(t)
	got := mustCopy(t, f, d, image.CopyOptions{})
	if got.Root.Digest != f.Root.Digest || len(got.Replaced) > 0 {
		t.Errorf("root %s, want %s; replaced %v", got.Root.Digest, f.Root.Digest, got.Replaced)
	}
	for _, desc := range f.Descriptors {
		if has, err := d.Has(t.Context(), desc); err != nil || !has {
			t.Errorf("%s %s: %v, %v", desc.MediaType, desc.Digest, has, err)
		}
	}
	mustCopy(t, f, d, image.CopyOptions{})
	if d.uploads.Load() != 0 {
		t.Errorf("the second copy sent %d blobs", d.uploads.Load())
	}
}

func TestConvert(t *testing.T) {
	f, d := imagetest.Sample(t), newDestination(t)
	var made []event.Layer
	got := mustCopy(t, f, d, image.CopyOptions{Variants: []codec.Compression{zstd3}, Pool: newPool(t), Report: func(e event.Event) {
		if e.Layer != nil && e.Layer.Action == event.LayerConverted {
			made = append(made, *e.Layer)
		}
	}})
	img := d.read(t, "copy")
	if img.Root.Digest != got.Root.Digest || got.Replaced[f.Root.Digest] != got.Root.Digest {
		t.Errorf("tagged %s, answered %s, replaced %v", img.Root.Digest, got.Root.Digest, got.Replaced)
	}
	// Layers of the codec stay where nobody knows their level; others do not.
	want := `linux/amd64
  zstd called zstd, zstd:3
  zstd called zstd, zstd:3
  zstd called zstd, zstd:3
  zstd called zstd, zstd:3
linux/arm/v7
  zstd called zstd, zstd:3
  zstd called zstd, no record
  zstd called zstd, zstd:3
  zstd called zstd, zstd:3
attestation of true
`
	if s := imagetest.Describe(img); s != want {
		t.Errorf("got:\n%swant:\n%s", s, want)
	}
	if len(made) != 5 { // the first layer is one tar in two blobs
		t.Errorf("%d layers were converted: %+v", len(made), made)
	}
	if amd, attestation := img.Manifests[0], img.Manifests[2]; attestation.Subject != amd.Descriptor.Digest {
		t.Errorf("the attestation is about %s, the image is %s", attestation.Subject, amd.Descriptor.Digest)
	}
	if again := mustCopy(t, f, newDestination(t), image.CopyOptions{Variants: []codec.Compression{zstd3}, Pool: newPool(t)}); again.Root.Digest != got.Root.Digest {
		t.Errorf("%s, and again %s", got.Root.Digest, again.Root.Digest)
	}
	forced := newDestination(t)
	mustCopy(t, f, forced, image.CopyOptions{Variants: []codec.Compression{zstd3}, Pool: newPool(t), Force: true})
	if s := imagetest.Describe(forced.read(t, "copy")); strings.Contains(s, "no record") {
		t.Errorf("forced:\n%s", s)
	}
}

// The gzip images come first and carry no annotation, the zstd ones behind them
// do; what is right already is shared.
func TestTwoVariants(t *testing.T) {
	f, d := imagetest.Sample(t), newDestination(t)
	both := image.CopyOptions{Variants: []codec.Compression{gzip6, zstd3}, Pool: newPool(t)}
	first := mustCopy(t, f, d, both)
	img := d.read(t, "copy")
	var kinds []string
	for _, m := range img.Manifests {
		kind := m.Platform + " " + m.Descriptor.Annotations["io.github.containers.compression.zstd"]
		if m.Attestation {
			kind = "attestation"
		}
		kinds = append(kinds, strings.TrimSpace(kind))
	}
	want := []string{"linux/amd64", "linux/arm/v7", "attestation", "linux/amd64 true", "linux/arm/v7 true"}
	if !slices.Equal(kinds, want) {
		t.Errorf("%q, want %q", kinds, want)
	}
	index := descriptors(t, d, img.Root)
	if len(index) != 6 || index[2].Annotations["vnd.docker.reference.digest"] != index[0].Digest.String() ||
		index[5].Annotations["vnd.docker.reference.digest"] != index[3].Digest.String() {
		t.Errorf("attestations point elsewhere: %+v", index)
	}

	// Both variants again, out of both: nothing to do.
	again := newDestination(t)
	second, err := image.Copy(t.Context(), d.open(t), "copy", again, []string{"copy"}, both)
	if err != nil {
		t.Fatal(err)
	}
	if second.Root.Digest != first.Root.Digest {
		t.Errorf("%s became %s", first.Root.Digest, second.Root.Digest)
	}
	// One of them, out of both: each platform once, nothing converted.
	one := newDestination(t)
	third, err := image.Copy(t.Context(), d.open(t), "copy", one, []string{"copy"}, image.CopyOptions{Variants: []codec.Compression{zstd3}, Pool: newPool(t)})
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range third.Layers {
		if l.Action == event.LayerConverted {
			t.Errorf("converted %+v", l)
		}
	}
	if got := descriptors(t, one, one.read(t, "copy").Root); len(got) != 3 {
		t.Errorf("%d entries, want 3: %+v", len(got), got)
	}
}

func descriptors(t *testing.T, d *destination, root ocispec.Descriptor) []ocispec.Descriptor {
	t.Helper()
	b, err := image.ReadAll(t.Context(), d.open(t), root)
	if err != nil {
		t.Fatal(err)
	}
	var index ocispec.Index
	if err := json.Unmarshal(b, &index); err != nil {
		t.Fatal(err)
	}
	return index.Manifests
}

// A Docker image becomes an OCI image where zstd comes in, and stays one where
// only gzip does. Fields that nobody knows survive.
func TestConvertDocker(t *testing.T) {
	f := &imagetest.Fixture{}
	l := f.AddLayer(t, imagetest.Tar(t, 1, 3000), codec.Compression{Codec: codec.Uncompressed})
	l.Descriptor.MediaType = "application/vnd.docker.image.rootfs.diff.tar"
	config := f.AddJSON(t, image.DockerConfig, ocispec.Image{Platform: amd64, RootFS: ocispec.RootFS{DiffIDs: []digest.Digest{l.DiffID}}})
	manifest := struct {
		ocispec.Manifest
		Odd string `json:"odd"`
	}{ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: image.DockerManifest, Config: config, Layers: []ocispec.Descriptor{l.Descriptor}}, "kept"}
	f.Root, f.Tag = f.AddJSON(t, image.DockerManifest, manifest), "docker"
	for _, tt := range []struct {
		variant              codec.Compression
		root, config, layers string
	}{
		{zstd3, ocispec.MediaTypeImageManifest, ocispec.MediaTypeImageConfig, ocispec.MediaTypeImageLayerZstd},
		{gzip6, image.DockerManifest, image.DockerConfig, "application/vnd.docker.image.rootfs.diff.tar.gzip"},
	} {
		d := newDestination(t)
		mustCopy(t, f, d, image.CopyOptions{Variants: []codec.Compression{tt.variant}, Pool: newPool(t)})
		img := d.read(t, "copy")
		m := img.Manifests[0]
		if img.Root.MediaType != tt.root || m.ConfigDescriptor.MediaType != tt.config || m.Layers[0].Descriptor.MediaType != tt.layers {
			t.Errorf("%s: %s, %s, %s", tt.variant, img.Root.MediaType, m.ConfigDescriptor.MediaType, m.Layers[0].Descriptor.MediaType)
		}
		b, err := image.ReadAll(t.Context(), d.open(t), img.Root)
		if err != nil || !bytes.Contains(b, []byte(`"odd":"kept"`)) {
			t.Errorf("%s, %v", b, err)
		}
	}
}

func TestCopyErrors(t *testing.T) {
	zstd := image.CopyOptions{Variants: []codec.Compression{zstd3}, Pool: newPool(t)}
	content := imagetest.Tar(t, 1, 300<<10)
	for label, tt := range map[string]struct {
		change func(f *imagetest.Fixture, l imagetest.Layer) imagetest.Layer
		want   string
	}{
		"wrong diffID": {func(_ *imagetest.Fixture, l imagetest.Layer) imagetest.Layer {
			l.DiffID = digest.FromString("another")
			return l
		}, "its config says"},
		"truncated gzip": {func(f *imagetest.Fixture, l imagetest.Layer) imagetest.Layer {
			b := f.Blob(l.Descriptor.Digest)
			return imagetest.Layer{Descriptor: f.Add(ocispec.MediaTypeImageLayerGzip, b[:len(b)/2]), DiffID: l.DiffID}
		}, "EOF"},
		"damaged gzip": {func(f *imagetest.Fixture, l imagetest.Layer) imagetest.Layer {
			b := bytes.Clone(f.Blob(l.Descriptor.Digest))
			b[len(b)-5] ^= 1
			return imagetest.Layer{Descriptor: f.Add(ocispec.MediaTypeImageLayerGzip, b), DiffID: l.DiffID}
		}, "gzip"},
		"missing layer": {func(_ *imagetest.Fixture, l imagetest.Layer) imagetest.Layer {
			l.Descriptor.Digest = digest.FromString("absent")
			return l
		}, "not found"},
	} {
		t.Run(label, func(t *testing.T) {
			f := &imagetest.Fixture{Tag: "broken"}
			f.AddImage(t, amd64, tt.change(f, f.AddForeignGzip(t, content)))
			d := newDestination(t)
			_, err := image.Copy(t.Context(), source(f), f.Tag, d, []string{"copy"}, zstd)
			if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("%v, want one line with %q", err, tt.want)
			}
			if all := d.open(t).Descriptors(); len(all) > 0 {
				t.Errorf("tagged all the same: %+v", all)
			}
			if left, _ := filepath.Glob(filepath.Join(d.dir, "blobs", ".upload-*")); len(left) > 0 {
				t.Errorf("left behind: %q", left)
			}
		})
	}
}

// What was converted before and is still at the destination is not made again,
// whatever became of the copy that made it.
func TestJournal(t *testing.T) {
	f, d := imagetest.Sample(t), newDestination(t)
	opts := image.CopyOptions{Variants: []codec.Compression{zstd3}, Pool: newPool(t), Journal: image.OpenJournal(filepath.Join(t.TempDir(), "journal"))}
	first := mustCopy(t, f, d, opts)
	if err := os.Remove(filepath.Join(d.dir, "index.json")); err != nil { // as if it had been killed before the tag
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(d.dir, "index.json"), []byte(emptyIndexJSON), 0o644); err != nil {
		t.Fatal(err)
	}
	second := mustCopy(t, f, d, opts)
	if second.Root.Digest != first.Root.Digest || d.uploads.Load() > 0 {
		t.Errorf("%s, then %s with %d uploads", first.Root.Digest, second.Root.Digest, d.uploads.Load())
	}
	for _, l := range second.Layers {
		if l.Action != event.LayerExists {
			t.Errorf("%+v", l)
		}
	}
	lost := newDestination(t)
	if third := mustCopy(t, f, lost, opts); third.Root.Digest != first.Root.Digest || lost.uploads.Load() == 0 {
		t.Errorf("into an empty destination: %s with %d uploads", third.Root.Digest, lost.uploads.Load())
	}
}

const emptyIndexJSON = `{"schemaVersion":2,"manifests":[]}`

func TestArchiveTarget(t *testing.T) {
	f := imagetest.Sample(t)
	var files [][]byte
	for range 2 {
		name := filepath.Join(t.TempDir(), "image.tar")
		target, err := image.CreateArchive(name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := image.Copy(t.Context(), source(f), f.Tag, target, []string{"copy"}, image.CopyOptions{}); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(name); err == nil {
			t.Error("the archive is there before it is finished")
		}
		if err := target.Finish(); err != nil {
			t.Fatal(err)
		}
		l, err := image.OpenArchive(name)
		if err != nil {
			t.Fatal(err)
		}
		if desc, err := l.Resolve(t.Context(), "copy"); err != nil || desc.Digest != f.Root.Digest {
			t.Errorf("%s, %v", desc.Digest, err)
		}
		closeOK(t, l)
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, b)
		if left, _ := os.ReadDir(filepath.Dir(name)); len(left) != 1 {
			t.Errorf("beside the archive: %v", left)
		}
	}
	if !bytes.Equal(files[0], files[1]) {
		t.Error("the same image made two archives")
	}
}
