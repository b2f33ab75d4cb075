package image

import (
	"fmt"
	"slices"
	"strings"

	"github.com/containerd/platforms"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/lighter-oci/lighter/internal/codec"
)

// Tables of contents that layers may carry, by the names of their formats.
const (
	TOCChunked = "zstd:chunked"
	TOCStargz  = "eStargz"
)

// Annotations of layers: where the table of contents is (containers/storage,
// pkg/chunked; stargz-snapshotter, docs/estargz.md), and what an attestation
// states (BuildKit, docs/attestations).
const (
	chunkedPosition = "io.github.containers.zstd-chunked.manifest-position"
	stargzDigest    = "containerd.io/snapshot/stargz/toc.digest"
	predicateType   = "in-toto.io/predicate-type"
)

// TOC names the table of contents that lets clients fetch single files of the
// layer; "" where its descriptor announces none, so that nobody will look for
// one.
func (l *Layer) TOC() string {
	switch a := l.Descriptor.Annotations; {
	case a[chunkedPosition] != "":
		return TOCChunked
	case a[stargzDigest] != "":
		return TOCStargz
	}
	return ""
}

// TypeProblem says what is wrong with the media type of a layer that was
// probed, in one clause; "" where nothing is.
func (m *Manifest) TypeProblem(l *Layer) string {
	_, _, wrong := claimed(l.Descriptor.MediaType)
	switch {
	case l.Foreign:
		return ""
	case wrong:
		return "no specification has that media type, and some clients refuse it"
	case l.Claimed != l.Codec, m.Descriptor.MediaType == DockerManifest && l.Codec == codec.Zstd:
		return "clients that go by the media type cannot unpack it"
	}
	return ""
}

// TarSize is how many bytes the layer decodes to, as far as that can be told
// without decoding: for a tar as it is, and by a seek table's claim.
func (l *Layer) TarSize() (size int64, known bool) {
	switch {
	case l.Foreign:
		return 0, false
	case l.Codec == codec.Uncompressed:
		return l.Descriptor.Size, true
	case l.Frames != nil:
		return l.Frames.Size, true
	}
	return 0, false
}

// Predicates are what an attestation states, one a layer: "https://slsa.dev/provenance/v1",
// "https://spdx.dev/Document", "" where a layer does not say.
func (m *Manifest) Predicates() []string {
	var out []string
	for _, l := range m.Layers {
		out = append(out, l.Descriptor.Annotations[predicateType])
	}
	return out
}

// Kind is what a manifest that is no image calls itself: its artifact type, or
// the media type of its config.
func (m *Manifest) Kind() string {
	switch {
	case m.ArtifactType != "":
		return m.ArtifactType
	case m.ConfigDescriptor.MediaType != "":
		return m.ConfigDescriptor.MediaType
	}
	return m.Descriptor.MediaType
}

// PullSize is the bytes that a client without any layer fetches: manifest,
// config and layers, each blob once. Foreign layers count, wherever they are.
func (m *Manifest) PullSize() int64 { return sum(m.blobs()) }

// Size is the bytes of everything in the image, each blob once.
func (img *Image) Size() int64 {
	all := append([]ocispec.Descriptor(nil), img.Indexes...)
	for _, m := range img.Manifests {
		all = append(all, m.blobs()...)
	}
	return sum(all)
}

func (m *Manifest) blobs() []ocispec.Descriptor {
	all := []ocispec.Descriptor{m.Descriptor, m.ConfigDescriptor}
	for _, l := range m.Layers {
		all = append(all, l.Descriptor)
	}
	return all
}

func sum(blobs []ocispec.Descriptor) int64 {
	seen := map[digest.Digest]bool{}
	var n int64
	for _, b := range blobs {
		if !seen[b.Digest] {
			seen[b.Digest] = true
			n += b.Size
		}
	}
	return n
}

// Only is the image with nothing but one platform ("linux/arm64",
// "linux/arm/v7") and what is attached to it. The error lists what there is.
func (img *Image) Only(platform string) (*Image, error) {
	want, err := platforms.Parse(platform)
	if err != nil {
		return nil, fmt.Errorf("platform %.100q: want OS/ARCHITECTURE[/VARIANT]", platform)
	}
	matches := platforms.NewMatcher(want)
	out := &Image{Root: img.Root, Indexes: img.Indexes, Annotations: img.Annotations}
	kept := map[digest.Digest]bool{}
	var have []string
	for _, m := range img.Manifests {
		if !m.IsImage() || m.Platform == "" {
			continue
		}
		have = append(have, m.Platform)
		if p, err := platforms.Parse(m.Platform); err == nil && matches.Match(p) {
			kept[m.Descriptor.Digest] = true
		}
	}
	if len(kept) == 0 {
		return nil, fmt.Errorf("platform %s: %w: the image has %s", platforms.Format(want), ErrNotFound, strings.Join(slices.Compact(have), ", "))
	}
	for _, m := range img.Manifests {
		if kept[m.Descriptor.Digest] || kept[m.Subject] {
			out.Manifests = append(out.Manifests, m)
		}
	}
	return out, nil
}
