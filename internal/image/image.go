// Package image owns what an image is wherever it is kept: references,
// descriptor graphs, the sources they are read from, and the proof of what
// their layers are.
//
// It never compresses (codec does), never looks into a layer's tar (layer
// does), never speaks to a network (registry does) and never prints. It trusts
// no media type, size or digest that it has not verified.
package image

import (
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/lighter-oci/lighter/internal/codec"
)

// Image is an image as it was read from a source: all its platforms, and what
// its layers really are.
type Image struct {
	Root      ocispec.Descriptor   // what the reference stands for: a manifest or an index
	Indexes   []ocispec.Descriptor // every index on the way, the root first where it is one
	Manifests []*Manifest          // in the order of the indexes, each digest once
	// Annotations of the root, an index's or a manifest's own.
	Annotations map[string]string
}

// Manifest is one platform of an image, or something attached to one.
type Manifest struct {
	Descriptor ocispec.Descriptor
	// Platform is "linux/amd64" or "linux/arm/v7", from the index or else from
	// the config; "" for attestations and other artifacts.
	Platform string
	// Attestation tells that this holds provenance or an SBOM of Subject.
	Attestation bool
	Subject     digest.Digest
	// Config is the zero value where the manifest is no image of a file system,
	// as attestations and other artifacts are not; their layers are not probed.
	Config           ocispec.Image
	ConfigDescriptor ocispec.Descriptor
	Layers           []Layer
	// Annotations of the manifest itself, not of its descriptor.
	Annotations map[string]string
	// ArtifactType is what the manifest says it holds, "" in most images.
	ArtifactType string
}

// IsImage tells whether the layers are a file system's.
func (m *Manifest) IsImage() bool {
	return !m.Attestation && isImageConfig(m.ConfigDescriptor.MediaType)
}

// Layer is one layer as the manifest, the config and its own bytes describe
// it. Only the manifest's digest and the config's are verified: the blob's are
// when somebody reads all of it.
type Layer struct {
	Descriptor ocispec.Descriptor
	DiffID     digest.Digest // "" outside of images
	// Foreign layers are fetched from their URLs, not from the source; they are
	// not probed.
	Foreign bool
	// Codec is what the first bytes say, "" where they were not read.
	Codec codec.Codec
	// Claimed is the codec that the media type names, "" for an unknown one.
	Claimed codec.Codec
	// Record is what the blob says about itself; nil where it carries none, and
	// where RecordErr says why it could not be read.
	Record    *codec.Record
	RecordErr error
	// Frames is what a zstd blob's seek table says; nil where there is none.
	Frames *codec.Frames
}
