package image

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/lighter-oci/lighter/internal/codec"
)

// publisher writes the manifests that follow from a copier's blobs, children
// first.
type publisher struct {
	*copier
	variants []*codec.Compression
	// oci: manifests and indexes become OCI ones. zstd has no place in Docker's,
	// and Quay refuses an index that mixes the two.
	oci      bool
	replaced map[digest.Digest]digest.Digest
	content  map[digest.Digest][]byte
}

// publish puts manifests and indexes and sets the tags.
func (c *copier) publish(ctx context.Context, names []string) (*Copied, error) {
	p := &publisher{copier: c, variants: c.variants(), replaced: map[digest.Digest]digest.Digest{}, content: map[digest.Digest][]byte{}}
	p.oci = len(p.variants) > 1
	for _, v := range p.variants {
		p.oci = p.oci || v != nil && v.Codec == codec.Zstd
	}
	roots, err := p.node(ctx, c.img.Root)
	if err != nil {
		return nil, err
	}
	root := roots[0]
	if len(roots) > 1 {
		if root, err = p.together(ctx, roots); err != nil {
			return nil, err
		}
	}
	for _, name := range names {
		if err := c.dst.Tag(ctx, root, p.content[root.Digest], name); err != nil {
			return nil, err
		}
	}
	if root.Digest != c.img.Root.Digest {
		p.replaced[c.img.Root.Digest] = root.Digest
	}
	out := &Copied{Source: c.img, Root: root, Replaced: p.replaced}
	for _, j := range c.order {
		if !j.config && j.layer.Codec != "" {
			out.Layers = append(out.Layers, j.made)
		}
	}
	return out, nil
}

// node writes what stands for a manifest or index of the source: one for each
// variant of an image, one of everything else.
func (p *publisher) node(ctx context.Context, desc ocispec.Descriptor) ([]ocispec.Descriptor, error) {
	if m := p.manifests[desc.Digest]; m != nil && m.IsImage() {
		var out []ocispec.Descriptor
		for i := range p.variants {
			made, err := p.variant(ctx, m, i)
			if err != nil {
				return nil, err
			}
			out = append(out, made)
		}
		return out, nil
	}
	b, err := ReadAll(ctx, p.src, desc)
	if err != nil {
		return nil, err
	}
	made := ocispec.Descriptor{MediaType: desc.MediaType, Digest: desc.Digest, Size: desc.Size}
	if IsIndex(desc.MediaType) {
		made, err = p.index(ctx, desc, b)
	} else {
		err = p.put(ctx, made, b)
	}
	return []ocispec.Descriptor{made}, err
}

// variant writes variant i of an image, from whichever of the source's
// manifests for that image is nearest to it.
func (p *publisher) variant(ctx context.Context, m *Manifest, i int) (ocispec.Descriptor, error) {
	from := p.best(m, p.variants[i])
	b, err := ReadAll(ctx, p.src, from.Descriptor)
	if err != nil {
		return from.Descriptor, err
	}
	made, content, err := p.image(from, b, p.variants[i])
	if err != nil {
		return made, fmt.Errorf("manifest %s: %w", from.Descriptor.Digest, err)
	}
	if i == 0 && made.Digest != m.Descriptor.Digest {
		p.replaced[m.Descriptor.Digest] = made.Digest
	}
	err = p.put(ctx, made, content)
	if err != nil && slices.ContainsFunc(from.Layers, func(l Layer) bool { return l.Foreign }) {
		err = fmt.Errorf("of its layers some lie elsewhere, which registries may refuse: %w", err)
	}
	return made, err
}

// put writes a manifest or index once.
func (p *publisher) put(ctx context.Context, desc ocispec.Descriptor, b []byte) error {
	if p.content[desc.Digest] != nil {
		return nil
	}
	if err := p.dst.PutManifest(ctx, desc, b); err != nil {
		return err
	}
	p.content[desc.Digest] = b
	return nil
}

// image is the manifest of one variant: m's own bytes where nothing changes.
func (p *publisher) image(m *Manifest, b []byte, variant *codec.Compression) (ocispec.Descriptor, []byte, error) {
	same := ocispec.Descriptor{MediaType: m.Descriptor.MediaType, Digest: m.Descriptor.Digest, Size: m.Descriptor.Size}
	if variant == nil {
		return same, b, nil
	}
	doc, err := parseDocument(b)
	if err != nil {
		return same, nil, err
	}
	docker := m.Descriptor.MediaType == DockerManifest && !p.oci
	layers, err := doc.list("layers")
	if err != nil {
		return same, nil, err
	}
	changed := p.oci && m.Descriptor.MediaType == DockerManifest
	for i := range m.Layers {
		made := p.layer(&m.Layers[i], variant, docker)
		if old := m.Layers[i].Descriptor; made.Digest != old.Digest || made.MediaType != old.MediaType {
			layers[i], changed = layers[i].point(made), true
		}
	}
	if !changed {
		return same, b, nil
	}
	mediaType, config := m.Descriptor.MediaType, m.ConfigDescriptor
	if p.oci {
		mediaType, config.MediaType = ocispec.MediaTypeImageManifest, ocispec.MediaTypeImageConfig
	}
	doc.set("mediaType", mediaType)
	if config.MediaType != m.ConfigDescriptor.MediaType {
		doc.set("config", config)
	}
	doc.set("layers", layers)
	made, desc := doc.bytes(mediaType)
	return desc, made, nil
}

// layer is the descriptor of a layer in a variant.
func (p *publisher) layer(l *Layer, variant *codec.Compression, docker bool) ocispec.Descriptor {
	out := l.Descriptor
	c := l.Codec
	if want := p.wanted(l, variant); want != nil {
		made := p.blobs[blobKey{l.Descriptor.Digest, want.String()}].made.Blob
		out.Digest, out.Size, out.Annotations, c = made.Digest, made.Size, lasting(l.Descriptor.Annotations), want.Codec
		if out.Annotations == nil {
			out.Annotations = made.Annotations
		} else {
			maps.Copy(out.Annotations, made.Annotations)
		}
	}
	out.MediaType = layerType(c, l.Foreign, docker, l.Descriptor.MediaType)
	return out
}

// layerType is the media type of a layer in codec c. Foreign layers keep their
// own in Docker manifests, whatever it says of the codec.
func layerType(c codec.Codec, foreign, docker bool, was string) string {
	switch {
	case foreign && docker:
		return was
	case foreign:
		if claims, _, _ := claimed(was); claims == codec.Gzip {
			return ociForeign + "+gzip"
		}
		return ociForeign
	case docker && c == codec.Gzip:
		return dockerLayer + ".gzip"
	case docker && c == codec.Uncompressed:
		return dockerLayer
	}
	return codec.Compression{Codec: c}.MediaType()
}

// lasting are the annotations of a layer that still hold when its blob is
// another: those of eStargz and zstd:chunked are offsets in the old one.
func lasting(annotations map[string]string) map[string]string {
	out := maps.Clone(annotations)
	for key := range out {
		if strings.HasPrefix(key, "containerd.io/snapshot/stargz/") || strings.HasPrefix(key, "io.containers.estargz.") ||
			strings.HasPrefix(key, "io.github.containers.zstd-chunked.") {
			delete(out, key)
		}
	}
	return out
}

// together is an index of the variants of a root that is a single image.
func (p *publisher) together(ctx context.Context, variants []ocispec.Descriptor) (ocispec.Descriptor, error) {
	var entries []document
	for i, desc := range variants {
		desc.Platform = &p.img.Manifests[0].Config.Platform
		desc.Annotations = p.marked(nil, p.variants[i])
		entries = append(entries, document{}.point(desc))
	}
	b, desc := document{}.index(entries)
	return desc, p.put(ctx, desc, b)
}

// marked are the annotations of a variant in an index.
func (p *publisher) marked(annotations map[string]string, variant *codec.Compression) map[string]string {
	if variant == nil {
		return annotations
	}
	return marked(annotations, variant.Codec, len(p.variants) > 1)
}
