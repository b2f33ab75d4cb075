package image_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"sync"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/lighter-oci/lighter/internal/image"
)

// liar is a source that verifies nothing, so that graphs can be built that no
// hash function allows: an index that contains itself.
type liar struct {
	root    ocispec.Descriptor
	content map[digest.Digest][]byte

	mu      sync.Mutex
	fetched map[digest.Digest]int
}

func (l *liar) Resolve(context.Context, string) (ocispec.Descriptor, error) { return l.root, nil }

func (l *liar) get(desc ocispec.Descriptor) ([]byte, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.fetched == nil {
		l.fetched = map[digest.Digest]int{}
	}
	l.fetched[desc.Digest]++
	b, ok := l.content[desc.Digest]
	if !ok {
		return nil, fmt.Errorf("%w: %s", image.ErrNotFound, desc.Digest)
	}
	return b, nil
}

func (l *liar) Fetch(_ context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
	b, err := l.get(desc)
	return io.NopCloser(bytes.NewReader(b)), err
}

func (l *liar) FetchRange(_ context.Context, desc ocispec.Descriptor, offset, length int64) (io.ReadCloser, error) {
	start, end, err := image.Span(desc, offset, length)
	if err != nil {
		return nil, err
	}
	b, err := l.get(desc)
	n := int64(len(b))
	return io.NopCloser(bytes.NewReader(b[min(start, n):min(end, n)])), err
}
