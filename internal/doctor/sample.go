package doctor

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"fmt"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/lighter-oci/lighter/internal/codec"
	"github.com/lighter-oci/lighter/internal/image"
)

// blob is some content and what it is called.
type blob struct {
	desc    ocispec.Descriptor
	content []byte
}

func newBlob(mediaType string, content []byte) blob {
	return blob{ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(content), Size: int64(len(content))}, content}
}

// sample is what a probe pushes: one file of a few bytes in a zstd layer and in
// a gzip one, each with an image around it.
type sample struct {
	zstd, gzip, config blob
	oci, docker        blob // manifests
	index, mixed       blob // of the OCI manifest, and of both
	pieces             blob // no layer: what is sent in two pieces
}

// newSample makes content that no registry has seen before: nonce is in it, so
// that nothing is there already by accident.
func newSample(nonce string) (*sample, error) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	text := "lighter doctor was here: " + nonce + "\n"
	if err := w.WriteHeader(&tar.Header{Name: "lighter-doctor", Mode: 0o644, Size: int64(len(text)), ModTime: time.Unix(0, 0)}); err != nil {
		return nil, err
	}
	if _, err := w.Write([]byte(text)); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	s := &sample{pieces: newBlob("application/octet-stream", bytes.Repeat([]byte(text), 4))}
	var err error
	if s.zstd, err = layer(b.Bytes(), codec.Compression{Codec: codec.Zstd, Level: 3}); err != nil {
		return nil, err
	}
	if s.gzip, err = layer(b.Bytes(), codec.Compression{Codec: codec.Gzip, Level: 6}); err != nil {
		return nil, err
	}
	config := ocispec.Image{
		Platform: ocispec.Platform{OS: "linux", Architecture: "amd64"},
		RootFS:   ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{digest.FromBytes(b.Bytes())}},
	}
	s.config = document(ocispec.MediaTypeImageConfig, config)
	s.manifests(config.Platform)
	return s, nil
}

func (s *sample) manifests(platform ocispec.Platform) {
	manifest := func(mediaType, config string, layer blob, layerType string) blob {
		c, l := s.config.desc, layer.desc
		c.MediaType, l.MediaType = config, layerType
		return document(mediaType, ocispec.Manifest{
			Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: mediaType, Config: c, Layers: []ocispec.Descriptor{l},
		})
	}
	s.oci = manifest(ocispec.MediaTypeImageManifest, ocispec.MediaTypeImageConfig, s.zstd, ocispec.MediaTypeImageLayerZstd)
	s.docker = manifest(image.DockerManifest, image.DockerConfig, s.gzip, "application/vnd.docker.image.rootfs.diff.tar.gzip")
	index := func(of ...blob) blob {
		doc := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex}
		for _, m := range of {
			m.desc.Platform = &platform
			doc.Manifests = append(doc.Manifests, m.desc)
		}
		return document(ocispec.MediaTypeImageIndex, doc)
	}
	s.index, s.mixed = index(s.oci), index(s.docker, s.oci)
}

func document(mediaType string, v any) blob {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // of strings and numbers
	}
	return newBlob(mediaType, b)
}

func layer(tar []byte, c codec.Compression) (blob, error) {
	pool := codec.NewPool(1)
	defer pool.Close()
	var b bytes.Buffer
	w, err := pool.NewWriter(&b, codec.Options{Compression: c})
	if err != nil {
		return blob{}, err
	}
	if _, err := w.Write(tar); err != nil {
		return blob{}, err
	}
	if err := w.Close(); err != nil {
		return blob{}, fmt.Errorf("compress: %w", err)
	}
	return newBlob(c.MediaType(), b.Bytes()), nil
}
