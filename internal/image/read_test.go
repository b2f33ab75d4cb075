package image_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/lighter-oci/lighter/internal/codec"
	"github.com/lighter-oci/lighter/internal/image"
	"github.com/lighter-oci/lighter/internal/image/imagetest"
)

var (
	amd64 = ocispec.Platform{OS: "linux", Architecture: "amd64"}
	zstd3 = codec.Compression{Codec: codec.Zstd, Level: 3}
)

// source answers the fixture as a source that counts what is asked.
func source(f *imagetest.Fixture) *liar {
	l := &liar{root: f.Root, content: map[digest.Digest][]byte{}}
	for _, desc := range f.Descriptors {
		l.content[desc.Digest] = f.Blob(desc.Digest)
	}
	return l
}

func TestReadHostile(t *testing.T) {
	layer := func(f *imagetest.Fixture) imagetest.Layer { return f.AddLayer(t, imagetest.Tar(t, 1, 10), zstd3) }
	config := func(diffIDs ...digest.Digest) ocispec.Image {
		return ocispec.Image{Platform: amd64, RootFS: ocispec.RootFS{Type: "layers", DiffIDs: diffIDs}}
	}
	manifest := func(f *imagetest.Fixture, m ocispec.Manifest) {
		m.SchemaVersion = 2
		f.Root = f.AddJSON(t, ocispec.MediaTypeImageManifest, m)
	}
	raw := func(f *imagetest.Fixture, mediaType, content string) { f.Root = f.Add(mediaType, []byte(content)) }
	for label, tt := range map[string]struct {
		make func(f *imagetest.Fixture)
		want string
	}{
		"schema 1": {func(f *imagetest.Fixture) {
			raw(f, "application/vnd.docker.distribution.manifest.v1+prettyjws", `{"schemaVersion":1}`)
		}, "schema 1"},
		"schema 1 in an index": {func(f *imagetest.Fixture) {
			f.AddIndex(t, f.Add("application/vnd.docker.distribution.manifest.v1+json", []byte(`{}`)))
		}, "schema 1"},
		"no image":  {func(f *imagetest.Fixture) { raw(f, "text/plain", `hello`) }, "is no image"},
		"no JSON":   {func(f *imagetest.Fixture) { raw(f, ocispec.MediaTypeImageManifest, `hello`) }, "no JSON"},
		"version 3": {func(f *imagetest.Fixture) { raw(f, ocispec.MediaTypeImageManifest, `{"schemaVersion":3}`) }, "schema version 3"},
		"other type inside": {func(f *imagetest.Fixture) {
			raw(f, ocispec.MediaTypeImageManifest, `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}`)
		}, "calls itself"},
		"manifest and index at once": {func(f *imagetest.Fixture) {
			raw(f, ocispec.MediaTypeImageManifest, `{"schemaVersion":2,"manifests":[],"layers":[]}`)
		}, "two images"},
		"index and manifest at once": {func(f *imagetest.Fixture) {
			raw(f, ocispec.MediaTypeImageIndex, `{"schemaVersion":2,"manifests":[],"config":{}}`)
		}, "two images"},
		"layers in capitals": {func(f *imagetest.Fixture) {
			raw(f, ocispec.MediaTypeImageManifest, `{"schemaVersion":2,"config":{},"Layers":[]}`)
		}, `"Layers" is spelled`},
		"manifests twice": {func(f *imagetest.Fixture) {
			raw(f, ocispec.MediaTypeImageIndex, `{"schemaVersion":2,"manifests":[],"manifests":[]}`)
		}, `"manifests" comes twice`},
		"two digests": {func(f *imagetest.Fixture) {
			raw(f, ocispec.MediaTypeImageIndex, `{"schemaVersion":2,"manifests":[{"digest":"sha256:1","DIGEST":"sha256:2"}]}`)
		}, `"DIGEST" is spelled`},
		"two sizes": {func(f *imagetest.Fixture) {
			one := f.AddImage(t, amd64, layer(f))
			other := one
			other.Size++
			f.AddIndex(t, one, other)
		}, "bytes in one place"},
		"no child": {func(f *imagetest.Fixture) {
			raw(f, ocispec.MediaTypeImageIndex, `{"schemaVersion":2,"manifests":[null]}`)
		}, "index sha256:"},
		"layer of no bytes": {func(f *imagetest.Fixture) {
			l := layer(f)
			l.Descriptor.Size = 0
			f.AddImage(t, amd64, l)
		}, "content differs"},
		"no config": {func(f *imagetest.Fixture) {
			raw(f, ocispec.MediaTypeImageManifest, `{"schemaVersion":2,"layers":[]}`)
		}, "config"},
		"missing config": {func(f *imagetest.Fixture) {
			desc := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageConfig, Digest: digest.FromString("x"), Size: 1}
			manifest(f, ocispec.Manifest{Config: desc})
		}, "not found"},
		"fewer diffIDs": {func(f *imagetest.Fixture) {
			c := f.AddJSON(t, ocispec.MediaTypeImageConfig, config())
			manifest(f, ocispec.Manifest{Config: c, Layers: []ocispec.Descriptor{layer(f).Descriptor}})
		}, "1 layers, its config"},
		"broken diffID": {func(f *imagetest.Fixture) {
			c := f.AddJSON(t, ocispec.MediaTypeImageConfig, config("sha256:../../x"))
			manifest(f, ocispec.Manifest{Config: c, Layers: []ocispec.Descriptor{layer(f).Descriptor}})
		}, "diffID 1"},
		"broken layer digest": {func(f *imagetest.Fixture) {
			c := f.AddJSON(t, ocispec.MediaTypeImageConfig, config("sha256:../../x"))
			manifest(f, ocispec.Manifest{Config: c, Layers: []ocispec.Descriptor{{Digest: "sha256:../../x"}}})
		}, "layer 1"},
		"negative size": {func(f *imagetest.Fixture) {
			f.AddIndex(t, ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromString("x"), Size: -1})
		}, "size -1"},
		"layer longer than said": {func(f *imagetest.Fixture) {
			l := layer(f)
			l.Descriptor.Size += 100
			f.AddImage(t, amd64, l)
		}, "content differs"},
		"missing layer": {func(f *imagetest.Fixture) {
			l := layer(f)
			l.Descriptor.Digest = digest.FromString("x")
			f.AddImage(t, amd64, l)
		}, "not found"},
		"manifest of 9 MiB": {func(f *imagetest.Fixture) {
			f.AddIndex(t, ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromString("x"), Size: 9 << 20})
		}, "more than the"},
		"config of 9 MiB": {func(f *imagetest.Fixture) {
			manifest(f, ocispec.Manifest{Config: ocispec.Descriptor{MediaType: ocispec.MediaTypeImageConfig, Digest: digest.FromString("x"), Size: 9 << 20}})
		}, "more than the"},
		"100 MiB of manifests": {func(f *imagetest.Fixture) {
			var all []ocispec.Descriptor
			for i := range 20 {
				all = append(all, ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromString(fmt.Sprint(i)), Size: 5 << 20})
			}
			f.AddIndex(t, all...)
		}, "MiB of manifests"},
		"2000 manifests": {func(f *imagetest.Fixture) {
			var all []ocispec.Descriptor
			for i := range 2000 {
				all = append(all, ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromString(fmt.Sprint(i)), Size: 1})
			}
			f.AddIndex(t, all...)
		}, "1000 manifests"},
		"six indexes deep": {func(f *imagetest.Fixture) {
			desc := f.AddImage(t, amd64, layer(f))
			for range 6 {
				desc = f.AddIndex(t, desc)
			}
		}, "in more than 4"},
		"20000 layers": {func(f *imagetest.Fixture) {
			c := config()
			m := ocispec.Manifest{}
			for i := range 20_000 {
				d := digest.FromString(fmt.Sprint(i))
				c.RootFS.DiffIDs = append(c.RootFS.DiffIDs, d)
				m.Layers = append(m.Layers, ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: d})
			}
			m.Config = f.AddJSON(t, ocispec.MediaTypeImageConfig, c)
			manifest(f, m)
		}, "20000 layers"},
	} {
		t.Run(label, func(t *testing.T) {
			f := &imagetest.Fixture{}
			tt.make(f)
			_, err := image.Read(t.Context(), source(f), "x", image.ReadOptions{})
			if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("%v, want one line with %q", err, tt.want)
			}
		})
	}
}

// Names of annotations are anybody's, also where fields are called like them.
func TestReadAnnotations(t *testing.T) {
	f := &imagetest.Fixture{}
	desc := f.AddImage(t, amd64, f.AddLayer(t, imagetest.Tar(t, 1, 10), zstd3))
	desc.Annotations = map[string]string{"Digest": "a", "digest": "b", "LAYERS": "c"}
	f.AddIndex(t, desc)
	read(t, f)
}

// An index that contains itself cannot be written with honest digests.
func TestReadCycle(t *testing.T) {
	a, b := digest.FromString("a"), digest.FromString("b")
	index := func(d digest.Digest) []byte {
		return fmt.Appendf(nil, `{"schemaVersion":2,"manifests":[{"mediaType":%q,"digest":%q,"size":9}]}`, ocispec.MediaTypeImageIndex, d)
	}
	l := &liar{root: ocispec.Descriptor{MediaType: ocispec.MediaTypeImageIndex, Digest: a, Size: 9},
		content: map[digest.Digest][]byte{a: index(b), b: index(a)}}
	if _, err := image.Read(t.Context(), l, "x", image.ReadOptions{}); err == nil || !strings.Contains(err.Error(), "contains itself") {
		t.Errorf("%v, want a refusal", err)
	}
}

// An attestation is known by the index's platform, by its annotation, and where
// it is named itself by its config.
func TestReadAttestations(t *testing.T) {
	f := &imagetest.Fixture{}
	app := f.AddImage(t, amd64, f.AddLayer(t, imagetest.Tar(t, 1, 10), zstd3))
	byPlatform := f.AddAttestation(t, app.Digest)
	byAnnotation := byPlatform
	byPlatform.Annotations, byAnnotation.Platform = nil, nil
	for label, attestation := range map[string]ocispec.Descriptor{"platform": byPlatform, "annotation": byAnnotation, "config": {}} {
		own := f.Clone()
		if label != "config" {
			own.AddIndex(t, app, attestation)
		}
		img := read(t, own)
		last := img.Manifests[len(img.Manifests)-1]
		if !last.Attestation || last.IsImage() || last.Platform != "" || (last.Subject == app.Digest) != (label == "annotation") {
			t.Errorf("by %s: %+v", label, last)
		}
		if got := image.Verify(img, zstd3, image.VerifyOptions{}); len(got) != 0 {
			t.Errorf("by %s: %v", label, got)
		}
	}
}

// What an index holds twice is read once, and an unknown kind of artifact in it
// is left alone.
func TestReadShares(t *testing.T) {
	f := &imagetest.Fixture{}
	l := f.AddLayer(t, imagetest.Tar(t, 1, 100<<10), zstd3)
	one := f.AddImage(t, amd64, l, l)
	two := f.AddImage(t, ocispec.Platform{OS: "linux", Architecture: "arm64"}, l)
	other := f.Add("application/vnd.example.manifest+json", []byte(`{}`))
	f.AddIndex(t, one, f.AddIndex(t, one, two), other, one)
	src := source(f)
	img, err := image.Read(t.Context(), src, "x", image.ReadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	want := "linux/amd64\n" + strings.Repeat("  zstd called zstd, zstd:3\n", 2) + "linux/arm64\n  zstd called zstd, zstd:3\nartifact\n"
	if got := imagetest.Describe(img); got != want {
		t.Errorf("got:\n%swant:\n%s", got, want)
	}
	if len(img.Indexes) != 2 || img.Indexes[0].Digest != f.Root.Digest {
		t.Errorf("indexes: %v", img.Indexes)
	}
	if n := src.fetched[l.Descriptor.Digest]; n != 2 {
		t.Errorf("the layer was asked for %d times, want its head and its tail", n)
	}
	if n := src.fetched[one.Digest]; n != 1 {
		t.Errorf("a manifest was fetched %d times", n)
	}
	if n := src.fetched[other.Digest]; n != 0 {
		t.Errorf("the artifact was fetched %d times", n)
	}
}

// noRange is a source that cannot read the end of a big blob.
type noRange struct{ *liar }

func (n noRange) FetchRange(ctx context.Context, desc ocispec.Descriptor, offset, length int64) (io.ReadCloser, error) {
	if offset > 0 {
		return nil, fmt.Errorf("host: %w", image.ErrNoRange)
	}
	return n.liar.FetchRange(ctx, desc, offset, length)
}

func TestReadWithoutRanges(t *testing.T) {
	f := &imagetest.Fixture{}
	f.AddImage(t, amd64, f.AddLayer(t, imagetest.Tar(t, 1, 100<<10), zstd3))
	img, err := image.Read(t.Context(), noRange{source(f)}, "x", image.ReadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	l := img.Manifests[0].Layers[0]
	if l.Codec != codec.Zstd || l.Record != nil || !errors.Is(l.RecordErr, image.ErrNoRange) {
		t.Errorf("%s, record %v, %v", l.Codec, l.Record, l.RecordErr)
	}
	got := image.Verify(img, zstd3, image.VerifyOptions{})
	if len(got) != 1 || !strings.Contains(got[0].String(), "could not be read") {
		t.Errorf("%v", got)
	}
}

// Content that a descriptor carries is used where it is right, and only there.
func TestReadAllData(t *testing.T) {
	content := []byte("hello")
	desc := ocispec.Descriptor{Digest: digest.FromBytes(content), Size: 5, Data: content}
	src := &liar{content: map[digest.Digest][]byte{desc.Digest: []byte("from the store")}}
	if b, err := image.ReadAll(t.Context(), src, desc); err != nil || string(b) != "hello" {
		t.Errorf("%q, %v", b, err)
	}
	desc.Data = []byte("jello")
	if b, err := image.ReadAll(t.Context(), src, desc); err != nil || string(b) != "from the store" {
		t.Errorf("wrong data was taken: %q, %v", b, err)
	}
}

// What skopeo writes can be read, in both forms of a layout.
func TestReadSkopeo(t *testing.T) {
	f := imagetest.Sample(t)
	ours := t.TempDir()
	f.WriteLayout(t, ours)
	dir, file := filepath.Join(t.TempDir(), "dir"), filepath.Join(t.TempDir(), "image.tar")
	for _, dst := range []string{"oci:" + dir + ":copy", "oci-archive:" + file + ":copy"} {
		out, err := exec.CommandContext(t.Context(), "skopeo", "copy", "--all", "--preserve-digests", "oci:"+ours+":sample", dst).CombinedOutput()
		if err != nil {
			t.Fatalf("skopeo copy to %s: %v: %s", dst, err, out)
		}
	}
	fromDir, err := image.OpenLayout(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer closeOK(t, fromDir)
	fromFile, err := image.OpenArchive(file)
	if err != nil {
		t.Fatal(err)
	}
	defer closeOK(t, fromFile)
	for _, src := range []image.Source{fromDir, fromFile} {
		img, err := image.Read(t.Context(), src, "copy", image.ReadOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if img.Root.Digest != f.Root.Digest || len(img.Manifests) != 3 || len(img.Manifests[1].Layers) != 4 {
			t.Errorf("root %s with %d manifests, want %s with 3:\n%s", img.Root.Digest, len(img.Manifests), f.Root.Digest, imagetest.Describe(img))
		}
	}
}

// FuzzRead walks graphs of hostile JSON: the fuzzer's bytes are index, manifest
// and config at once.
func FuzzRead(f *testing.F) {
	d := digest.FromString("x")
	for _, mediaType := range []string{ocispec.MediaTypeImageIndex, ocispec.MediaTypeImageManifest} {
		f.Add(mediaType, fmt.Appendf(nil, `{"schemaVersion":2,"manifests":[{"mediaType":%q,"digest":%q,"size":3}]}`, ocispec.MediaTypeImageManifest, d))
		f.Add(mediaType, fmt.Appendf(nil, `{"schemaVersion":2,"config":{"mediaType":%q,"digest":%q,"size":3},"layers":[{"mediaType":%q,"digest":%q,"size":3}],"rootfs":{"diff_ids":[%q]},"os":"linux"}`,
			ocispec.MediaTypeImageConfig, d, ocispec.MediaTypeImageLayerZstd, d, d))
	}
	f.Fuzz(func(t *testing.T, mediaType string, content []byte) {
		l := &liar{root: ocispec.Descriptor{MediaType: mediaType, Digest: d, Size: int64(len(content))}, content: map[digest.Digest][]byte{d: content}}
		img, err := image.Read(t.Context(), l, "x", image.ReadOptions{})
		if err != nil {
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("more than one line: %q", err)
			}
			return
		}
		for _, m := range image.Verify(img, zstd3, image.VerifyOptions{}) {
			if s := m.String(); strings.Contains(s, "\n") {
				t.Errorf("more than one line: %q", s)
			}
		}
	})
}
