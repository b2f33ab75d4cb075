package daemon

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"sync"
	"testing"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/lighter-oci/lighter/internal/codec"
)

// source keeps blobs in memory and counts what is read of each.
type source struct {
	pool *codec.Pool

	mu     sync.Mutex
	blobs  map[digest.Digest][]byte
	read   map[digest.Digest]int64
	before func(d digest.Digest, off int64) // before each read
}

func newSource(t *testing.T) *source {
	s := &source{pool: codec.NewPool(0), blobs: map[digest.Digest][]byte{}, read: map[digest.Digest]int64{}}
	t.Cleanup(func() { s.pool.Close() })
	return s
}

func (s *source) ReaderAt(_ context.Context, desc ocispec.Descriptor) (content.ReaderAt, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b, ok := s.blobs[desc.Digest]
	if !ok {
		return nil, fmt.Errorf("no such blob")
	}
	return &reading{s, desc.Digest, bytes.NewReader(b)}, nil
}

type reading struct {
	s *source
	d digest.Digest
	*bytes.Reader
}

func (r *reading) ReadAt(p []byte, off int64) (int, error) {
	if r.s.before != nil {
		r.s.before(r.d, off)
	}
	n, err := r.Reader.ReadAt(p, off)
	r.s.mu.Lock()
	r.s.read[r.d] += int64(n)
	r.s.mu.Unlock()
	return n, err
}

func (r *reading) Close() error { return nil }

// forget sets the counts to zero.
func (s *source) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.read)
}

func (s *source) bytesRead(d digest.Digest) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.read[d]
}

func (s *source) add(mediaType string, b []byte) ocispec.Descriptor {
	d := digest.FromBytes(b)
	s.blobs[d] = b
	return ocispec.Descriptor{MediaType: mediaType, Digest: d, Size: int64(len(b))}
}

func (s *source) addJSON(t *testing.T, mediaType string, v any) ocispec.Descriptor {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return s.add(mediaType, b)
}

// testLayer is a blob and the tar that is in it.
type testLayer struct {
	desc   ocispec.Descriptor
	diffID digest.Digest
}

// layer compresses a tar of files; a name that ends in / is a directory, one
// with -> a symlink.
func (s *source) layer(t *testing.T, compression string, files map[string][]byte) testLayer {
	t.Helper()
	c, err := codec.Parse(compression)
	if err != nil {
		t.Fatal(err)
	}
	var blob bytes.Buffer
	w, err := s.pool.NewWriter(&blob, codec.Options{Compression: c, DiffID: true})
	if err != nil {
		t.Fatal(err)
	}
	tw := tar.NewWriter(w)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		h := &tar.Header{Name: name, Mode: 0o755, Size: int64(len(files[name])), Typeflag: tar.TypeReg}
		if target, ok := bytes.CutPrefix(files[name], []byte("-> ")); ok {
			h.Typeflag, h.Linkname, h.Size = tar.TypeSymlink, string(target), 0
		}
		if err := tw.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if h.Typeflag == tar.TypeReg {
			if _, err := tw.Write(files[name]); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := tw.Close(); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return testLayer{s.add(c.MediaType(), blob.Bytes()), w.Result().DiffID}
}

// base is a layer with a shell and tools, about 1 MB compressed.
func (s *source) base(t *testing.T, compression string) testLayer {
	t.Helper()
	file, err := exec.LookPath("busybox")
	if err != nil {
		t.Fatal("these tests need busybox-static: ", err)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return s.layer(t, compression, map[string][]byte{"bin/busybox": b, "bin/cat": []byte("-> busybox"), "bin/sh": []byte("-> busybox")})
}

// hello is a layer that holds what the image prints.
func (s *source) hello(t *testing.T, text string) testLayer {
	return s.layer(t, "zstd", map[string][]byte{"hello": []byte(text)})
}

// noise is a layer of n bytes that cannot be compressed.
func (s *source) noise(t *testing.T, n int) testLayer {
	b := make([]byte, n)
	if _, err := rand.Read(b); err != nil {
		t.Fatal(err)
	}
	return s.layer(t, "zstd", map[string][]byte{"noise": b})
}

// image is a manifest for this machine's architecture that prints /hello.
func (s *source) image(t *testing.T, layers ...testLayer) ocispec.Descriptor {
	return s.imageFor(t, runtime.GOARCH, layers...)
}

func (s *source) imageFor(t *testing.T, arch string, layers ...testLayer) ocispec.Descriptor {
	t.Helper()
	config := ocispec.Image{Platform: ocispec.Platform{OS: "linux", Architecture: arch}}
	config.Config.Cmd = []string{"/bin/cat", "/hello"}
	config.RootFS.Type = "layers"
	m := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest}
	for _, l := range layers {
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, l.diffID)
		config.History = append(config.History, ocispec.History{CreatedBy: "test"})
		m.Layers = append(m.Layers, l.desc)
	}
	m.Config = s.addJSON(t, ocispec.MediaTypeImageConfig, config)
	return s.addJSON(t, m.MediaType, m)
}

// configOf is the digest of an image's config, by which Docker and podman call it.
func (s *source) configOf(t *testing.T, manifest ocispec.Descriptor) digest.Digest {
	t.Helper()
	var m ocispec.Manifest
	if err := json.Unmarshal(s.blobs[manifest.Digest], &m); err != nil {
		t.Fatal(err)
	}
	return m.Config.Digest
}

// index has one manifest an architecture, and BuildKit's provenance of the first.
func (s *source) index(t *testing.T, manifests map[string]ocispec.Descriptor) ocispec.Descriptor {
	t.Helper()
	index := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex}
	for _, arch := range slices.Sorted(maps.Keys(manifests)) {
		m := manifests[arch]
		m.Platform = &ocispec.Platform{OS: "linux", Architecture: arch}
		index.Manifests = append(index.Manifests, m)
	}
	statement := s.add("application/vnd.in-toto+json", []byte(`{"_type":"https://in-toto.io/Statement/v0.1"}`))
	config := ocispec.Image{Platform: ocispec.Platform{OS: "unknown", Architecture: "unknown"}}
	config.RootFS = ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{statement.Digest}}
	a := s.addJSON(t, ocispec.MediaTypeImageManifest, ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: ocispec.MediaTypeImageManifest,
		Config:    s.addJSON(t, ocispec.MediaTypeImageConfig, config),
		Layers:    []ocispec.Descriptor{statement},
	})
	a.Platform = &config.Platform
	a.Annotations = map[string]string{
		"vnd.docker.reference.type":   "attestation-manifest",
		"vnd.docker.reference.digest": index.Manifests[0].Digest.String(),
	}
	index.Manifests = append(index.Manifests, a)
	return s.addJSON(t, index.MediaType, index)
}

var _ io.ReaderAt = (*reading)(nil)
