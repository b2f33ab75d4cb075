// Package imagetest owns what implementations of image.Source are tested with:
// a small image with every kind of layer, made on the spot, and the one
// conformance suite that every implementation passes.
//
// It is never imported by production code.
package imagetest

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/lighter-oci/lighter/internal/codec"
)

// Fixture is a set of blobs that make one image. The zero value is empty; the
// Add methods build it from the bottom.
type Fixture struct {
	Root ocispec.Descriptor // the last manifest or index added
	Tag  string             // what stores name the root

	// Descriptors are all contents in an order in which a registry takes them:
	// blobs before their manifests, manifests before their indexes.
	Descriptors []ocispec.Descriptor
	blobs       map[digest.Digest][]byte
}

// Layer is one layer of a fixture.
type Layer struct {
	Descriptor ocispec.Descriptor
	DiffID     digest.Digest
}

// Blob answers the content of a descriptor, nil for a foreign one.
func (f *Fixture) Blob(d digest.Digest) []byte { return f.blobs[d] }

// Clone is a fixture that can be added to without changing f.
func (f *Fixture) Clone() *Fixture {
	return &Fixture{f.Root, f.Tag, slices.Clone(f.Descriptors), maps.Clone(f.blobs)}
}

// Add adds content under a media type.
func (f *Fixture) Add(mediaType string, content []byte) ocispec.Descriptor {
	desc := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(content), Size: int64(len(content))}
	if f.blobs == nil {
		f.blobs = map[digest.Digest][]byte{}
	}
	if _, ok := f.blobs[desc.Digest]; !ok {
		f.blobs[desc.Digest] = content
		f.Descriptors = append(f.Descriptors, desc)
	}
	return desc
}

// AddJSON adds v, marshalled.
func (f *Fixture) AddJSON(t testing.TB, mediaType string, v any) ocispec.Descriptor {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return f.Add(mediaType, b)
}

// AddLayer adds a tar, compressed by lighter's own encoder, record included.
func (f *Fixture) AddLayer(t testing.TB, content []byte, c codec.Compression) Layer {
	t.Helper()
	pool := codec.NewPool(1)
	var blob bytes.Buffer
	w, err := pool.NewWriter(&blob, codec.Options{Compression: c, FrameSize: 64 << 10})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(content); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := pool.Close(); err != nil {
		t.Fatal(err)
	}
	return Layer{f.Add(c.MediaType(), blob.Bytes()), digest.FromBytes(content)}
}

// AddForeignGzip and AddForeignZstd add a tar as other tools compress it: no
// record in it.
func (f *Fixture) AddForeignGzip(t testing.TB, content []byte) Layer {
	t.Helper()
	var blob bytes.Buffer
	w := gzip.NewWriter(&blob)
	if _, err := w.Write(content); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return Layer{f.Add(ocispec.MediaTypeImageLayerGzip, blob.Bytes()), digest.FromBytes(content)}
}

// AddForeignZstd is described at AddForeignGzip.
func (f *Fixture) AddForeignZstd(t testing.TB, content []byte) Layer {
	t.Helper()
	w, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
	if err != nil {
		t.Fatal(err)
	}
	return Layer{f.Add(ocispec.MediaTypeImageLayerZstd, w.EncodeAll(content, nil)), digest.FromBytes(content)}
}

// AddImage adds config and manifest of an image of these layers.
func (f *Fixture) AddImage(t testing.TB, platform ocispec.Platform, layers ...Layer) ocispec.Descriptor {
	t.Helper()
	config := ocispec.Image{Platform: platform, RootFS: ocispec.RootFS{Type: "layers"}}
	m := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest}
	for _, l := range layers {
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, l.DiffID)
		m.Layers = append(m.Layers, l.Descriptor)
	}
	m.Config = f.AddJSON(t, ocispec.MediaTypeImageConfig, config)
	desc := f.AddJSON(t, ocispec.MediaTypeImageManifest, m)
	f.Root = desc
	desc.Platform = &platform
	return desc
}

// AddAttestation adds what BuildKit attaches to the manifest subject.
func (f *Fixture) AddAttestation(t testing.TB, subject digest.Digest) ocispec.Descriptor {
	t.Helper()
	unknown := ocispec.Platform{OS: "unknown", Architecture: "unknown"}
	statement := f.Add("application/vnd.in-toto+json", []byte(`{"_type":"https://in-toto.io/Statement/v1"}`))
	desc := f.AddImage(t, unknown, Layer{statement, statement.Digest})
	desc.Annotations = map[string]string{
		"vnd.docker.reference.type":   "attestation-manifest",
		"vnd.docker.reference.digest": subject.String(),
	}
	return desc
}

// AddIndex adds an index of these manifests.
func (f *Fixture) AddIndex(t testing.TB, manifests ...ocispec.Descriptor) ocispec.Descriptor {
	t.Helper()
	f.Root = f.AddJSON(t, ocispec.MediaTypeImageIndex, ocispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: manifests,
	})
	return f.Root
}

// Sample is an index of two platforms and an attestation, whose layers are
// zstd:3, zstd:9, gzip:6 and uncompressed with lighter's record, zstd and gzip
// without, one empty, and one too big to be read at once by a prober.
func Sample(t testing.TB) *Fixture {
	t.Helper()
	f := &Fixture{Tag: "sample"}
	big := f.AddLayer(t, Tar(t, 1, 400<<10), codec.Compression{Codec: codec.Zstd, Level: 3})
	amd := f.AddImage(t, ocispec.Platform{OS: "linux", Architecture: "amd64"},
		f.AddForeignGzip(t, Tar(t, 2, 3000)),
		big,
		f.AddLayer(t, Tar(t, 3, 3000), codec.Compression{Codec: codec.Zstd, Level: 9}),
		f.AddLayer(t, Tar(t, 4, 3000), codec.Compression{Codec: codec.Uncompressed}),
	)
	arm := f.AddImage(t, ocispec.Platform{OS: "linux", Architecture: "arm", Variant: "v7"},
		f.AddLayer(t, Tar(t, 2, 3000), codec.Compression{Codec: codec.Gzip, Level: 6}),
		f.AddForeignZstd(t, Tar(t, 5, 60<<10)),
		big,
		f.AddForeignGzip(t, Tar(t, 6, 0)),
	)
	f.AddIndex(t, amd, arm, f.AddAttestation(t, amd.Digest))
	return f
}

// Tar is a tar with one file of size bytes that compress badly, the same ones
// for the same seed; with none for size 0.
func Tar(t testing.TB, seed uint64, size int) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if size > 0 {
		data := make([]byte, size)
		source := rand.New(rand.NewPCG(seed, 0))
		for i := range data {
			data[i] = byte(source.Uint32())
		}
		if err := w.WriteHeader(&tar.Header{Name: "file", Mode: 0o644, Size: int64(size)}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(data); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// files are the files of an OCI layout with the fixture, by name.
func (f *Fixture) files(t testing.TB) (names []string, content map[string][]byte) {
	t.Helper()
	content = map[string][]byte{ocispec.ImageLayoutFile: []byte(`{"imageLayoutVersion":"1.0.0"}`)}
	root := f.Root
	root.Annotations = map[string]string{ocispec.AnnotationRefName: f.Tag}
	index, err := json.Marshal(ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, Manifests: []ocispec.Descriptor{root}})
	if err != nil {
		t.Fatal(err)
	}
	content[ocispec.ImageIndexFile] = index
	names = []string{ocispec.ImageIndexFile}
	for _, desc := range f.Descriptors {
		name := "blobs/" + desc.Digest.Algorithm().String() + "/" + desc.Digest.Encoded()
		content[name] = f.blobs[desc.Digest]
		names = append(names, name)
	}
	return append(names, ocispec.ImageLayoutFile), content
}

// WriteLayout writes the fixture as an OCI layout into a directory.
func (f *Fixture) WriteLayout(t testing.TB, dir string) {
	t.Helper()
	names, content := f.files(t)
	for _, name := range names {
		file := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, content[name], 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// Archive answers the fixture as an OCI archive.
func (f *Fixture) Archive(t testing.TB) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	names, content := f.files(t)
	for _, name := range names {
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(content[name]))}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(content[name]); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}
