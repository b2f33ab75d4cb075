package image

import (
	"context"
	"fmt"
	"maps"
	"reflect"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// child is one entry of an index.
type child struct {
	doc  document
	desc ocispec.Descriptor
	m    *Manifest // of the source; nil for an index
}

func (c *child) image() bool       { return c.m != nil && c.m.IsImage() }
func (c *child) attestation() bool { return c.m != nil && c.m.Attestation }

// subject is what this entry says that it is about: one attestation may stand in
// an index for several images.
func (c *child) subject() digest.Digest { return digest.Digest(c.desc.Annotations[referenceDigest]) }

// index writes an index: for each variant all images with what is attached to
// them, the variants one after the other, because old clients take the first
// image of their platform.
func (p *publisher) index(ctx context.Context, desc ocispec.Descriptor, b []byte) (ocispec.Descriptor, error) {
	same := ocispec.Descriptor{MediaType: desc.MediaType, Digest: desc.Digest, Size: desc.Size}
	doc, err := parseDocument(b)
	if err != nil {
		return same, fmt.Errorf("index %s: %w", desc.Digest, err)
	}
	children, err := p.children(doc)
	if err != nil {
		return same, fmt.Errorf("index %s: %w", desc.Digest, err)
	}
	var entries []document
	for i := range p.variants {
		// Attestations come behind their images everywhere, but need not.
		for _, attached := range []bool{false, true} {
			for k := range children {
				if children[k].attestation() != attached {
					continue
				}
				entry, err := p.entry(ctx, children, k, i)
				if err != nil {
					return same, err
				}
				if entry != nil {
					entries = append(entries, entry)
				}
			}
		}
	}
	mediaType := desc.MediaType
	if p.oci {
		mediaType = ocispec.MediaTypeImageIndex
	}
	if mediaType == desc.MediaType && sameEntries(entries, children) {
		return same, p.put(ctx, same, b)
	}
	doc.set("mediaType", mediaType)
	doc.set("manifests", entries)
	made, out := doc.bytes(mediaType)
	p.replaced[desc.Digest] = out.Digest
	return out, p.put(ctx, out, made)
}

func sameEntries(entries []document, children []child) bool {
	if len(entries) != len(children) {
		return false
	}
	for i := range entries {
		if !reflect.DeepEqual(entries[i], children[i].doc) {
			return false
		}
	}
	return true
}

// children reads the entries of an index of the source.
func (p *publisher) children(doc document) ([]child, error) {
	children, err := entriesOf(doc)
	for i := range children {
		children[i].m = p.manifests[children[i].desc.Digest]
	}
	return children, err
}

// entriesOf are the entries of any index.
func entriesOf(doc document) ([]child, error) {
	docs, err := doc.list("manifests")
	if err != nil {
		return nil, err
	}
	children := make([]child, len(docs))
	for i, d := range docs {
		desc, err := d.descriptor()
		if err != nil {
			return nil, err
		}
		children[i] = child{doc: d, desc: desc}
	}
	return children, nil
}

// entry is what stands for child k in variant i; nil where nothing does.
func (p *publisher) entry(ctx context.Context, children []child, k, i int) (document, error) {
	c := &children[k]
	switch {
	case c.attestation():
		return p.attestation(ctx, children, c, i)
	case c.image():
		if p.again(children, k) {
			return nil, nil
		}
		made, err := p.variant(ctx, c.m, i)
		return c.pointed(made, p.marked(c.desc.Annotations, p.variants[i])), err
	case i > 0:
		return nil, nil
	}
	made, err := p.node(ctx, c.desc)
	if err != nil {
		return nil, err
	}
	return c.pointed(made[0], c.desc.Annotations), nil
}

// again tells an entry that holds the same image as one before it, compressed
// another way: every variant is made from one of them.
func (p *publisher) again(children []child, k int) bool {
	if p.variants[0] == nil {
		return false
	}
	for i := range children[:k] {
		if children[i].image() && children[i].m.same(children[k].m) {
			return true
		}
	}
	return false
}

// pointed is the entry's document with another content; the document itself
// where that is the same.
func (c *child) pointed(made ocispec.Descriptor, annotations map[string]string) document {
	if made.Digest == c.desc.Digest && made.MediaType == c.desc.MediaType && maps.Equal(annotations, c.desc.Annotations) {
		return c.doc
	}
	made.Annotations = annotations
	return c.doc.point(made)
}

// attestation is the entry of what is attached to an image, for variant i of
// that image.
func (p *publisher) attestation(ctx context.Context, children []child, c *child, i int) (document, error) {
	about := digest.Digest("")
	for k := range children {
		if !children[k].image() || children[k].desc.Digest != c.subject() {
			continue
		}
		if p.again(children, k) {
			return nil, nil
		}
		made, err := p.variant(ctx, children[k].m, i)
		if err != nil {
			return nil, err
		}
		about = made.Digest
	}
	if about == "" && i > 0 {
		return nil, nil // of nothing that is known here: once
	}
	desc, err := p.attached(ctx, c, about)
	if err != nil {
		return nil, err
	}
	annotations := c.desc.Annotations
	if about != "" {
		annotations = maps.Clone(annotations)
		annotations[referenceDigest] = about.String()
	}
	return c.pointed(desc, annotations), nil
}

// attached writes the manifest of an attestation. One that names its subject
// itself names the new one.
func (p *publisher) attached(ctx context.Context, c *child, about digest.Digest) (ocispec.Descriptor, error) {
	same := ocispec.Descriptor{MediaType: c.desc.MediaType, Digest: c.desc.Digest, Size: c.desc.Size}
	b, err := ReadAll(ctx, p.src, c.desc)
	if err != nil {
		return same, err
	}
	doc, err := parseDocument(b)
	if err != nil {
		return same, fmt.Errorf("attestation %s: %w", c.desc.Digest, err)
	}
	var subject document
	if raw := doc["subject"]; raw != nil {
		if subject, err = parseDocument(raw); err != nil {
			return same, fmt.Errorf("attestation %s: subject: %w", c.desc.Digest, err)
		}
	}
	made, ok := p.content[about]
	if subject == nil || !ok || about == c.subject() {
		return same, p.put(ctx, same, b)
	}
	was, err := subject.descriptor()
	if err != nil {
		return same, fmt.Errorf("attestation %s: subject: %w", c.desc.Digest, err)
	}
	was.Digest, was.Size = about, int64(len(made))
	if p.oci && was.MediaType == DockerManifest {
		was.MediaType = ocispec.MediaTypeImageManifest
	}
	doc.set("subject", subject.point(was))
	content, desc := doc.bytes(c.desc.MediaType)
	return desc, p.put(ctx, desc, content)
}
