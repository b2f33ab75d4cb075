package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/containerd/containerd/v2/core/content"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/lighter-oci/lighter/internal/image"
)

// Provider is a source as Load reads it, by ranges. Nothing is verified here.
func Provider(src image.Source) content.Provider { return provider{src} }

type provider struct{ src image.Source }

func (p provider) ReaderAt(ctx context.Context, desc ocispec.Descriptor) (content.ReaderAt, error) {
	if err := image.CheckDescriptor(desc); err != nil {
		return nil, err
	}
	return &rangeReader{ctx, p.src, desc}, nil
}

// rangeReader asks the source once for each ReadAt; who reads on end has a
// buffer.
type rangeReader struct {
	ctx  context.Context
	src  image.Source
	desc ocispec.Descriptor
}

func (r *rangeReader) Size() int64  { return r.desc.Size }
func (r *rangeReader) Close() error { return nil }

func (r *rangeReader) ReadAt(p []byte, off int64) (int, error) {
	switch {
	case off < 0:
		return 0, fmt.Errorf("%s: read at %d", r.desc.Digest, off)
	case off >= r.desc.Size:
		return 0, io.EOF
	case len(p) == 0:
		return 0, nil
	}
	want := min(int64(len(p)), r.desc.Size-off)
	rc, err := r.src.FetchRange(r.ctx, r.desc, off, want)
	if err != nil {
		return 0, err
	}
	n, err := io.ReadFull(rc, p[:want])
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = fmt.Errorf("%w: %s ends at byte %d of %d", image.ErrCorrupt, r.desc.Digest, off+int64(n), r.desc.Size)
	}
	if err = errors.Join(err, rc.Close()); err == nil && n < len(p) {
		err = io.EOF
	}
	return n, err
}
