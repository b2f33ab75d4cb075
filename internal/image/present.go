package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Present answers a source that has of the image ref only what src has whole,
// and what that leaves out, in words: "linux/arm64". A daemon that pulled an
// index has the content of its own platform and the digests of the others: the
// index is then made anew without them, under another digest. Where nothing is
// missing, which is not an error, the answer is src itself. An image of which
// no platform is whole is an error that names the first blob it lacks.
func Present(ctx context.Context, src Source, ref string) (Source, []string, error) {
	root, err := src.Resolve(ctx, ref)
	if err != nil || !IsIndex(root.MediaType) {
		return src, nil, err
	}
	p := &presence{src: src, made: &Made{Under: src}}
	reduced, ok, err := p.node(ctx, root, 0)
	switch {
	case err != nil:
		return nil, nil, err
	case !ok && p.missing != nil:
		return nil, nil, &incompleteError{fmt.Errorf("no platform of %s is there whole: %w", root.Digest, p.missing)}
	case !ok:
		return nil, nil, fmt.Errorf("%w: index %s has no image", ErrNotFound, root.Digest)
	case reduced.Digest == root.Digest:
		return src, nil, nil
	}
	p.made.Name(ref, reduced.Digest)
	return p.made, p.left, nil
}

// incompleteError is an image of which no platform is whole.
type incompleteError struct{ error }

func (e *incompleteError) Unwrap() error { return e.error }

// Hint is the next step. containerd, and Docker on it, do not fetch a layer that
// they have unpacked before, and may be told to discard layers once unpacked.
func (e *incompleteError) Hint() string {
	return "daemons do not keep, or fetch, every layer that they have unpacked: read the image from its registry"
}

// presence is the state of one Present.
type presence struct {
	src     Source
	made    *Made // indexes made anew
	left    []string
	missing error // of the first image that is not whole
	looked  int
}

// node answers what stands for desc; false for nothing.
func (p *presence) node(ctx context.Context, desc ocispec.Descriptor, depth int) (ocispec.Descriptor, bool, error) {
	if p.looked++; p.looked > maxManifests || depth > maxDepth {
		return desc, true, nil // Read says it better
	}
	if IsIndex(desc.MediaType) {
		return p.index(ctx, desc, depth)
	}
	err := p.whole(ctx, desc)
	if !errors.Is(err, ErrNotFound) {
		return desc, err == nil, err
	}
	name := leftName(desc)
	p.left = append(p.left, name)
	if p.missing == nil && !isAttestation(desc) {
		p.missing = fmt.Errorf("%s: %w", name, err)
	}
	return desc, false, nil
}

func leftName(desc ocispec.Descriptor) string {
	if isAttestation(desc) {
		return "attestation " + desc.Digest.Encoded()[:12]
	}
	if desc.Platform != nil {
		if name := platform(*desc.Platform); name != "" {
			return name
		}
	}
	return desc.Digest.String()
}

func isAttestation(desc ocispec.Descriptor) bool {
	return desc.Annotations[referenceType] == attestationType ||
		desc.Platform != nil && desc.Platform.OS == unknownPlatform && desc.Platform.Architecture == unknownPlatform
}

// index is node for one; its attestations go with what they are about.
func (p *presence) index(ctx context.Context, desc ocispec.Descriptor, depth int) (ocispec.Descriptor, bool, error) {
	b, err := ReadAll(ctx, p.src, desc)
	if errors.Is(err, ErrNotFound) && depth > 0 {
		p.left = append(p.left, leftName(desc))
		return desc, false, nil
	} else if err != nil {
		return desc, false, err
	}
	index, err := parseIndex(desc, b)
	if err != nil {
		return desc, false, err
	}
	doc, err := parseDocument(b)
	if err != nil {
		return desc, false, err
	}
	list, err := doc.list("manifests")
	if err != nil {
		return desc, false, err
	}
	kept, err := p.children(ctx, index.Manifests, list, depth+1)
	if err != nil || len(kept) == 0 {
		return desc, false, err
	}
	if slices.EqualFunc(kept, list, func(a, b document) bool { return maps.EqualFunc(a, b, slices.Equal) }) {
		return desc, true, nil
	}
	doc.set("manifests", kept)
	b, made := doc.bytes(desc.MediaType)
	made = p.made.AddBytes(made.MediaType, b)
	made.Annotations, made.Platform = desc.Annotations, desc.Platform
	return made, true, nil
}

// children answers what stays of an index, in its order: none where only
// attestations would. list are the documents of the descriptors.
func (p *presence) children(ctx context.Context, descs []ocispec.Descriptor, list []document, depth int) ([]document, error) {
	stays := make([]document, len(descs)) // nil for what goes
	var gone []digest.Digest
	images := 0
	for _, attestations := range []bool{false, true} {
		for i, child := range descs {
			if isAttestation(child) != attestations || slices.Contains(gone, digest.Digest(child.Annotations[referenceDigest])) {
				continue
			}
			if err := CheckDescriptor(child); err != nil {
				return nil, err
			}
			stands, ok, err := p.node(ctx, child, depth)
			switch {
			case err != nil:
				return nil, err
			case !ok:
				gone = append(gone, child.Digest)
				continue
			case stands.Digest != child.Digest:
				stays[i] = list[i].point(stands)
			default:
				stays[i] = list[i]
			}
			if !attestations {
				images++
			}
		}
	}
	if images == 0 {
		return nil, nil
	}
	return slices.DeleteFunc(stays, func(d document) bool { return d == nil }), nil
}

// whole answers an ErrNotFound where something of a manifest is not there.
func (p *presence) whole(ctx context.Context, desc ocispec.Descriptor) error {
	if !IsManifest(desc.MediaType) {
		return p.there(ctx, desc)
	}
	b, err := ReadAll(ctx, p.src, desc)
	if err != nil {
		return err
	}
	m, err := parseManifest(desc, b)
	if err != nil {
		return err
	}
	for _, blob := range append([]ocispec.Descriptor{m.Config}, m.Layers...) {
		if _, foreign, _ := claimed(blob.MediaType); foreign {
			continue
		}
		if err := p.there(ctx, blob); err != nil {
			return err
		}
	}
	return nil
}

// there reads one byte.
func (p *presence) there(ctx context.Context, desc ocispec.Descriptor) error {
	rc, err := p.src.FetchRange(ctx, desc, 0, 1)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, rc)
	return errors.Join(err, rc.Close())
}
