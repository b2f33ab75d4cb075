package image

import (
	"fmt"
	"maps"
	"slices"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/lighter-oci/lighter/internal/codec"
)

// An image in several variants is one index: all images of the first variant
// with what is attached to them, then all of the next. Gzip is the first,
// because clients that know nothing else take the first image of their
// platform; images in zstd are marked for those that know what the mark means.
// Variants of one image have its config in common.

// zstdVariant tells clients that know zstd which one to take of two images for
// one platform (containers/image, since 5.25). Others take the first.
const zstdVariant = "io.github.containers.compression.zstd"

// Variants are compressions in the order of their index. The error is one line
// that names two of one codec: no client could tell them apart.
func Variants(list ...codec.Compression) ([]codec.Compression, error) {
	var out []codec.Compression
	for _, c := range list {
		c = c.Resolve()
		if i := slices.IndexFunc(out, func(other codec.Compression) bool { return other.Codec == c.Codec }); i >= 0 {
			return nil, fmt.Errorf("%s: there is a %s variant already", c, out[i])
		}
		out = append(out, c)
	}
	slices.SortStableFunc(out, inOrder)
	return out, nil
}

// inOrder compares variants by their place in an index.
func inOrder(a, b codec.Compression) int {
	place := func(c codec.Compression) int {
		if c.Codec == codec.Gzip {
			return 0
		}
		return 1
	}
	return place(a) - place(b)
}

// marked are the annotations of an image in an index, where it may be one of
// several variants.
func marked(annotations map[string]string, c codec.Codec, several bool) map[string]string {
	out := maps.Clone(annotations)
	delete(out, zstdVariant)
	if several && c == codec.Zstd {
		if out == nil {
			out = map[string]string{}
		}
		out[zstdVariant] = "true"
	}
	return out
}

// index makes a document one index of entries; what else it says stays.
func (d document) index(entries []document) ([]byte, ocispec.Descriptor) {
	d.set("schemaVersion", 2)
	d.set("mediaType", ocispec.MediaTypeImageIndex)
	d.set("manifests", entries)
	return d.bytes(ocispec.MediaTypeImageIndex)
}

// Variant is one variant of an image: an OCI index of all its platforms and
// attestations.
type Variant struct {
	Compression codec.Compression
	Index       []byte
}

// Join is the one index of several variants. What the first says of the whole
// image holds. An image that is the same in two variants, because it has no
// layer that differs, is listed once.
func Join(variants []Variant) ([]byte, ocispec.Descriptor, error) {
	variants = slices.Clone(variants)
	slices.SortStableFunc(variants, func(a, b Variant) int { return inOrder(a.Compression, b.Compression) })
	var whole document
	var entries []document
	listed := map[string]bool{}
	for _, v := range variants {
		doc, err := parseDocument(v.Index)
		var children []child
		if err == nil {
			children, err = entriesOf(doc)
		}
		if err != nil {
			return nil, ocispec.Descriptor{}, fmt.Errorf("index of the %s variant: %w", v.Compression, err)
		}
		if whole == nil {
			whole = doc
		}
		for _, c := range children {
			key := c.desc.Digest.String() + " " + c.subject().String()
			if listed[key] {
				continue
			}
			listed[key] = true
			if c.subject() == "" {
				c.doc = c.pointed(c.desc, marked(c.desc.Annotations, v.Compression.Codec, len(variants) > 1))
			}
			entries = append(entries, c.doc)
		}
	}
	b, desc := whole.index(entries)
	return b, desc, nil
}

// Variants are the n variants of an image that was read, each as an image of
// its own. Where there is one image for all of them, it is in each.
func (img *Image) Variants(n int) []*Image {
	out := make([]*Image, n)
	for i := range out {
		part := *img
		part.Manifests = nil
		out[i] = &part
	}
	for k, m := range img.Manifests {
		if !m.IsImage() || slices.ContainsFunc(img.Manifests[:k], m.same) {
			continue
		}
		var these []*Manifest
		for _, other := range img.Manifests[k:] {
			if m.same(other) {
				these = append(these, other)
			}
		}
		for i := range out {
			out[i].Manifests = append(out[i].Manifests, these[min(i, len(these)-1)])
		}
	}
	return out
}

// VariantCount is how many variants an image has that was read: 2 where a
// platform has one image in gzip and one in zstd.
func (img *Image) VariantCount() int {
	n := 0
	for _, m := range img.Manifests {
		these := 0
		for _, other := range img.Manifests {
			if m.same(other) {
				these++
			}
		}
		n = max(n, these)
	}
	return n
}
