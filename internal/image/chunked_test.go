package image_test

import (
	"strings"
	"testing"

	"github.com/lighter-oci/lighter/internal/codec"
	"github.com/lighter-oci/lighter/internal/image"
	"github.com/lighter-oci/lighter/internal/image/imagetest"
)

// zstd:chunked layers are the same tars, and say where their table is. Asked for
// again they stay, and asked for plainly, too: they are zstd of that level. By force
// they become plain. The proof sees all of that.
func TestChunked(t *testing.T) {
	f, d := imagetest.Sample(t), newDestination(t)
	chunked := image.CopyOptions{Variants: []codec.Compression{zstd3}, Chunked: true, Pool: newPool(t)}
	first := mustCopy(t, f, d, chunked)
	tables := 0
	for _, m := range d.read(t, "copy").Manifests {
		for _, l := range m.Layers {
			if l.Descriptor.Annotations["io.github.containers.zstd-chunked.manifest-position"] != "" {
				tables++
			}
			if m.IsImage() && (l.Record == nil || l.Record.Layout != codec.Chunked) {
				t.Errorf("%s layer %s: %+v", m.Platform, l.Descriptor.Digest, l.Record)
			}
		}
	}
	if tables != 7 { // one of the eight is an empty tar
		t.Errorf("%d layers have a table of contents, want 7", tables)
	}
	again := newDestination(t)
	second, err := image.Copy(t.Context(), d.open(t), "copy", again, []string{"copy"}, chunked)
	if err != nil || second.Root.Digest != first.Root.Digest {
		t.Fatalf("%s became %v, %v", first.Root.Digest, second, err)
	}
	toPlain := image.CopyOptions{Variants: chunked.Variants, Pool: chunked.Pool}
	kept := newDestination(t)
	if third, err := image.Copy(t.Context(), d.open(t), "copy", kept, []string{"copy"}, toPlain); err != nil || third.Root.Digest != first.Root.Digest {
		t.Fatalf("%s became %v, %v", first.Root.Digest, third, err)
	}
	toPlain.Force = true
	plain := newDestination(t)
	if _, err := image.Copy(t.Context(), d.open(t), "copy", plain, []string{"copy"}, toPlain); err != nil {
		t.Fatal(err)
	}
	for _, m := range plain.read(t, "copy").Manifests {
		for _, l := range m.Layers {
			if len(l.Descriptor.Annotations) > 0 || m.IsImage() && l.Record.Layout != codec.Even {
				t.Errorf("%s layer %s: %+v, %v", m.Platform, l.Descriptor.Digest, l.Record, l.Descriptor.Annotations)
			}
		}
	}
	for _, tt := range []struct {
		of    *destination
		opts  image.VerifyOptions
		wrong string // of every layer; "" for none
	}{
		{d, image.VerifyOptions{}, ""},
		{d, image.VerifyOptions{Chunked: true, ForceBase: true}, ""},
		{d, image.VerifyOptions{ForceBase: true}, "zstd:chunked:3, not zstd:3: it is zstd:chunked, although --force-compression was given"},
		{plain, image.VerifyOptions{ForceBase: true}, ""},
		{plain, image.VerifyOptions{Chunked: true}, "zstd:3, not zstd:chunked:3: no parts of it can be fetched"},
		{plain, image.VerifyOptions{Chunked: true, AnyLevel: true}, "zstd:3, not zstd:chunked: no parts of it can be fetched"},
	} {
		img := tt.of.read(t, "copy")
		got, layers := image.Verify(img, zstd3, tt.opts), 0
		for _, m := range img.Manifests {
			if m.IsImage() {
				layers += len(m.Layers)
			}
		}
		if tt.wrong == "" && len(got) > 0 || tt.wrong != "" && len(got) != layers {
			t.Errorf("%+v: %d of %d layers: %v", tt.opts, len(got), layers, got)
		}
		for _, m := range got {
			// The empty tar has no table that a descriptor could announce.
			if !strings.Contains(strings.Replace(m.String(), "is zstd:3, not zstd:3:", "is zstd:chunked:3, not zstd:3:", 1), tt.wrong) {
				t.Errorf("%+v: %s, want %s", tt.opts, m, tt.wrong)
			}
		}
	}
	// The way back makes all anew.
	back := newDestination(t)
	if got, err := image.Copy(t.Context(), plain.open(t), "copy", back, []string{"copy"}, chunked); err != nil || got.Root.Digest != first.Root.Digest {
		t.Fatalf("%v, %v, want %s", got, err, first.Root.Digest)
	}
}
