package image_test

import (
	"bytes"
	"errors"
	"slices"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/lighter-oci/lighter/internal/codec"
	"github.com/lighter-oci/lighter/internal/image"
	"github.com/lighter-oci/lighter/internal/image/imagetest"
)

// Half of the image was made here, the other half lies under it.
func TestMadeIsASource(t *testing.T) {
	imagetest.TestSource(t, func(_ *testing.T, f *imagetest.Fixture) imagetest.Opened {
		var top, under image.Made
		top.Under = &under
		content := map[digest.Digest][]byte{}
		for i, desc := range f.Descriptors {
			content[desc.Digest] = bytes.Clone(f.Blob(desc.Digest))
			half := &top
			if i%2 == 0 {
				half = &under
			}
			half.Add(desc, bytes.NewReader(content[desc.Digest]))
		}
		under.Name(f.Tag, f.Root.Digest)
		return imagetest.Opened{Source: &top, Ref: f.Tag, Damage: func(_ testing.TB, d digest.Digest) {
			b := content[d]
			b[len(b)/2] ^= 1
		}}
	})
}

// Layers of a base stay as they came, but for those who could not read them.
func TestCopyKeepsTheBase(t *testing.T) {
	f := &imagetest.Fixture{Tag: "app"}
	zstd9 := codec.Compression{Codec: codec.Zstd, Level: 9}
	base := f.AddLayer(t, imagetest.Tar(t, 1, 3000), zstd9)
	own := f.AddLayer(t, imagetest.Tar(t, 2, 3000), codec.Compression{Codec: codec.Uncompressed})
	f.AddImage(t, ocispec.Platform{OS: "linux", Architecture: "amd64"}, base, own)
	for _, tt := range []struct {
		name     string
		variants []codec.Compression
		force    bool
		want     []string
	}{
		{"zstd", []codec.Compression{{Codec: codec.Zstd}}, false, []string{"zstd:9", "zstd:3"}},
		{"gzip alone", []codec.Compression{gzip6}, false, []string{"zstd:9", "gzip:6"}},
		{"gzip for old clients", []codec.Compression{gzip6, {Codec: codec.Zstd}}, false, []string{"gzip:6", "gzip:6", "zstd:9", "zstd:3"}},
		{"force", []codec.Compression{{Codec: codec.Zstd}}, true, []string{"zstd:3", "zstd:3"}},
	} {
		d := newDestination(t)
		mustCopy(t, f, d, image.CopyOptions{Variants: tt.variants, Force: tt.force, Base: []digest.Digest{base.DiffID}, Pool: newPool(t)})
		var got []string
		for _, m := range d.read(t, "copy").Manifests {
			for _, l := range m.Layers {
				got = append(got, l.Record.Compression.String())
			}
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("%s: layers are %v, want %v", tt.name, got, tt.want)
		}
	}
}

func TestMadeHasNothingElse(t *testing.T) {
	var s image.Made
	blob := s.AddBytes(ocispec.MediaTypeImageLayer, []byte("tar"))
	if _, err := s.Resolve(t.Context(), blob.Digest.String()); !errors.Is(err, image.ErrNotFound) {
		t.Errorf("a layer is no image: %v", err)
	}
}
