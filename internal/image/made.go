package image

import (
	"bytes"
	"context"
	"fmt"
	"io"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Made is a source of content that was made here, before that of another. What
// is added must be there before it is read from several goroutines.
type Made struct {
	Under   Source // may be nil
	content map[digest.Digest]made
	names   map[string]digest.Digest
}

// made is one content.
type made struct {
	io.ReaderAt
	desc ocispec.Descriptor
}

// Add puts content of desc in. It is not closed.
func (s *Made) Add(desc ocispec.Descriptor, content io.ReaderAt) {
	if s.content == nil {
		s.content = map[digest.Digest]made{}
	}
	s.content[desc.Digest] = made{content, ocispec.Descriptor{MediaType: desc.MediaType, Digest: desc.Digest, Size: desc.Size}}
}

// AddBytes puts small content in and answers its descriptor.
func (s *Made) AddBytes(mediaType string, b []byte) ocispec.Descriptor {
	desc := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(b), Size: int64(len(b))}
	s.Add(desc, bytes.NewReader(b))
	return desc
}

// Name makes ref stand for a manifest or index that was added.
func (s *Made) Name(ref string, d digest.Digest) {
	if s.names == nil {
		s.names = map[string]digest.Digest{}
	}
	s.names[ref] = d
}

// Resolve implements Source.
func (s *Made) Resolve(ctx context.Context, ref string) (ocispec.Descriptor, error) {
	d, ok := s.names[ref]
	if !ok {
		d = digest.Digest(ref)
	}
	c, ok := s.content[d]
	switch {
	case ok && (IsManifest(c.desc.MediaType) || IsIndex(c.desc.MediaType)):
		_, err := ReadAll(ctx, s, c.desc)
		return c.desc, err
	case s.Under == nil:
		return ocispec.Descriptor{}, fmt.Errorf("%w: %.200q", ErrNotFound, ref)
	}
	return s.Under.Resolve(ctx, ref)
}

// Fetch implements Source.
func (s *Made) Fetch(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
	c, ok := s.content[desc.Digest]
	switch {
	case ok:
		return Verified(&part{ctx, io.NewSectionReader(c, 0, c.desc.Size), nothing}, desc)
	case s.Under == nil:
		return nil, fmt.Errorf("%w: %s", ErrNotFound, desc.Digest)
	}
	return s.Under.Fetch(ctx, desc)
}

// FetchRange implements Source.
func (s *Made) FetchRange(ctx context.Context, desc ocispec.Descriptor, offset, length int64) (io.ReadCloser, error) {
	c, ok := s.content[desc.Digest]
	switch {
	case !ok && s.Under == nil:
		return nil, fmt.Errorf("%w: %s", ErrNotFound, desc.Digest)
	case !ok:
		return s.Under.FetchRange(ctx, desc, offset, length)
	}
	start, end, err := Span(desc, offset, length)
	if err != nil {
		return nil, err
	}
	if desc.Size != c.desc.Size {
		return nil, fmt.Errorf("%w: %s has %d bytes, not %d", ErrCorrupt, desc.Digest, c.desc.Size, desc.Size)
	}
	return &part{ctx, io.NewSectionReader(c, start, end-start), nothing}, nil
}
