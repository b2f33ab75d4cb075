package image_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/lighter-oci/lighter/internal/codec"
	"github.com/lighter-oci/lighter/internal/image"
	"github.com/lighter-oci/lighter/internal/image/imagetest"
)

const dockerZstd = "application/vnd.docker.image.rootfs.diff.tar.zstd"

// summary is one line a mismatch: note or not, layer, what it is, the flag.
func summary(all []image.Mismatch) []string {
	var out []string
	for _, m := range all {
		kind := "wrong"
		if m.Note {
			kind = "note"
		}
		out = append(out, fmt.Sprintf("%s %s %d: %s, not %s, %s", kind, m.Platform, m.Layer, m.Got, m.Want, m.Flag))
	}
	return out
}

func TestVerify(t *testing.T) {
	const force, oci = "--force-compression", "--output type=image,oci-mediatypes=true"
	f := &imagetest.Fixture{}
	base := f.AddForeignGzip(t, imagetest.Tar(t, 1, 100))
	right := f.AddLayer(t, imagetest.Tar(t, 2, 100), zstd3)
	zstd9 := f.AddLayer(t, imagetest.Tar(t, 3, 100), codec.Compression{Codec: codec.Zstd, Level: 9})
	mute := f.AddForeignZstd(t, imagetest.Tar(t, 4, 100))
	gzip := f.AddLayer(t, imagetest.Tar(t, 5, 100), codec.Compression{Codec: codec.Gzip, Level: 6})
	plain := f.AddLayer(t, imagetest.Tar(t, 6, 100), codec.Compression{Codec: codec.Uncompressed})
	retype := func(l imagetest.Layer, mediaType string) imagetest.Layer {
		l.Descriptor.MediaType = mediaType
		return l
	}
	foreign := imagetest.Layer{DiffID: right.DiffID, Descriptor: ocispec.Descriptor{
		MediaType: "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", Digest: digest.FromString("elsewhere"), Size: 7, URLs: []string{"https://example.com/x"}}}
	gzip6 := codec.Compression{Codec: codec.Gzip, Level: 6}
	known := image.VerifyOptions{BaseDiffIDs: []digest.Digest{base.DiffID}}
	forced := image.VerifyOptions{BaseDiffIDs: known.BaseDiffIDs, ForceBase: true}
	old := image.VerifyOptions{BaseDiffIDs: []digest.Digest{base.DiffID, plain.DiffID, zstd9.DiffID}, OldClients: true}

	for _, tt := range []struct {
		label  string
		layers []imagetest.Layer
		want   codec.Compression
		opts   image.VerifyOptions
		out    []string
	}{
		{"as asked", []imagetest.Layer{right, right}, zstd3, known, nil},
		{"default level", []imagetest.Layer{right}, codec.Compression{}, known, nil},
		{"gzip as asked", []imagetest.Layer{gzip}, gzip6, known, nil},
		{"Docker's gzip", []imagetest.Layer{retype(gzip, "application/vnd.docker.image.rootfs.diff.tar.gzip")}, gzip6, known, nil},
		{"uncompressed as asked", []imagetest.Layer{plain, retype(plain, "application/vnd.docker.image.rootfs.diff.tar")}, codec.Compression{Codec: codec.Uncompressed}, known, nil},
		{"base kept", []imagetest.Layer{base, right}, zstd3, known, []string{"note linux/amd64 1: gzip, not zstd:3, " + force}},
		{"base kept though forced", []imagetest.Layer{base, right}, zstd3, forced, []string{"wrong linux/amd64 1: gzip, not zstd:3, --no-cache"}},
		{"who knows whose", []imagetest.Layer{base}, zstd3, image.VerifyOptions{}, []string{"wrong linux/amd64 1: gzip, not zstd:3, " + force}},
		{"base kept for old clients", []imagetest.Layer{base, plain, gzip}, gzip6, old, []string{"note linux/amd64 1: gzip of unknown level, not gzip:6, " + force, "note linux/amd64 2: uncompressed, not gzip:6, " + force}},
		{"base that they cannot read", []imagetest.Layer{zstd9}, gzip6, old, []string{"wrong linux/amd64 1: zstd, not gzip:6, " + force}},
		{"cached before", []imagetest.Layer{right, gzip}, zstd3, known, []string{"wrong linux/amd64 2: gzip, not zstd:3, " + force}},
		{"never compressed", []imagetest.Layer{plain}, zstd3, known, []string{"wrong linux/amd64 1: uncompressed, not zstd:3, " + force}},
		{"other level", []imagetest.Layer{zstd9}, zstd3, known, []string{"wrong linux/amd64 1: zstd:9, not zstd:3, " + force}},
		{"any level", []imagetest.Layer{zstd9, mute}, zstd3, image.VerifyOptions{AnyLevel: true}, nil},
		{"any level of another codec", []imagetest.Layer{gzip}, zstd3, image.VerifyOptions{AnyLevel: true}, []string{"wrong linux/amd64 1: gzip, not zstd, " + force}},
		{"unknown level", []imagetest.Layer{mute}, zstd3, known, []string{"wrong linux/amd64 1: zstd of unknown level, not zstd:3, " + force}},
		{"unknown level kept, another level not", []imagetest.Layer{mute, zstd9}, zstd3, image.VerifyOptions{KeepUnknown: true},
			[]string{"note linux/amd64 1: zstd of unknown level, not zstd:3, " + force, "wrong linux/amd64 2: zstd:9, not zstd:3, " + force}},
		{"Docker's zstd", []imagetest.Layer{retype(right, dockerZstd)}, zstd3, known, []string{`wrong linux/amd64 1: zstd by the name of "` + dockerZstd + `", not zstd:3, ` + oci}},
		{"zstd called gzip", []imagetest.Layer{retype(right, ocispec.MediaTypeImageLayerGzip)}, zstd3, known, []string{`wrong linux/amd64 1: zstd by the name of "` + ocispec.MediaTypeImageLayerGzip + `", not zstd:3, ` + force}},
		{"gzip called zstd", []imagetest.Layer{retype(gzip, ocispec.MediaTypeImageLayerZstd)}, zstd3, known, []string{"wrong linux/amd64 1: gzip, not zstd:3, " + force}},
		{"called nothing", []imagetest.Layer{retype(right, "")}, zstd3, known, []string{`wrong linux/amd64 1: zstd by the name of "", not zstd:3, ` + force}},
		{"foreign", []imagetest.Layer{foreign}, zstd3, forced, []string{"note linux/amd64 1: a foreign layer, not zstd:3, "}},
		{"no layer", nil, zstd3, known, nil},
	} {
		t.Run(tt.label, func(t *testing.T) {
			own := f.Clone()
			own.AddIndex(t, own.AddImage(t, amd64, tt.layers...), own.AddAttestation(t, right.DiffID))
			got := image.Verify(read(t, own), tt.want, tt.opts)
			if s := summary(got); !slices.Equal(s, tt.out) {
				t.Errorf("got  %q\nwant %q", s, tt.out)
			}
			for _, m := range got {
				if s := m.String(); strings.Contains(s, "\n") || !strings.Contains(s, m.Why) || m.Why == "" || m.DiffID == "" {
					t.Errorf("%+v: %q", m, s)
				}
			}
		})
	}
}

// OCI zstd layers in a Docker manifest are what some registries take and most
// clients do not.
func TestVerifyDockerManifest(t *testing.T) {
	f := &imagetest.Fixture{}
	l := f.AddLayer(t, imagetest.Tar(t, 1, 100), zstd3)
	config := f.AddJSON(t, image.DockerConfig, ocispec.Image{Platform: amd64, RootFS: ocispec.RootFS{DiffIDs: []digest.Digest{l.DiffID}}})
	f.Root = f.AddJSON(t, image.DockerManifest, ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: image.DockerManifest, Config: config, Layers: []ocispec.Descriptor{l.Descriptor}})
	got := image.Verify(read(t, f), zstd3, image.VerifyOptions{})
	if len(got) != 1 || got[0].Flag != "--output type=image,oci-mediatypes=true" {
		t.Errorf("%v", got)
	}
}

func TestMismatchString(t *testing.T) {
	f := &imagetest.Fixture{}
	l := f.AddForeignGzip(t, imagetest.Tar(t, 1, 100))
	f.AddImage(t, amd64, l)
	got := image.Verify(read(t, f), zstd3, image.VerifyOptions{BaseDiffIDs: []digest.Digest{}})
	want := "linux/amd64 layer 1 (" + l.Descriptor.Digest.String()[:19] + ") is gzip, not zstd:3: " +
		"an earlier build or push made it, or a cache brought it, and it was used again; mend it with --force-compression"
	if len(got) != 1 || got[0].String() != want {
		t.Errorf("got  %v\nwant %s", got, want)
	}
}

func read(t *testing.T, f *imagetest.Fixture) *image.Image {
	t.Helper()
	img, err := image.Read(t.Context(), source(f), f.Tag, image.ReadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return img
}
