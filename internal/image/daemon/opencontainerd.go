package daemon

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"

	imagesapi "github.com/containerd/containerd/api/services/images/v1"
	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/errdefs"
	"github.com/containerd/errdefs/pkg/errgrpc"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/lighter-oci/lighter/internal/image"
)

// OpenContainerd reads the image name from containerd: blobs straight from its
// content store, when they are asked for. What it has not pulled is ErrNotFound;
// image.Present leaves such platforms out.
func OpenContainerd(ctx context.Context, name string, opts Options) (*Source, error) {
	t, err := Detect(ctx, "containerd", opts)
	if err != nil {
		return nil, err
	}
	d, ok := t.(*containerd)
	if !ok {
		return nil, fmt.Errorf("%s is no containerd", t.Name())
	}
	c, err := dialContainerd(ctx, d.socket, d.namespace)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", d.name, err)
	}
	return &Source{Source: &stored{c, d.name}, Ref: name, Daemon: d.name, close: func() error { c.close(); return nil }}, nil
}

// stored is one namespace of a containerd as a Source; its references are the
// names of images, written out, and digests.
type stored struct {
	conn *containerdConn
	name string
}

// Resolve implements image.Source.
func (s *stored) Resolve(ctx context.Context, ref string) (ocispec.Descriptor, error) {
	desc, err := s.find(namespaces.WithNamespace(ctx, s.conn.namespace), ref)
	if err != nil {
		return desc, s.wrap(ctx, err)
	}
	if _, err := image.ReadAll(ctx, s, desc); err != nil {
		return desc, err
	}
	return desc, nil
}

func (s *stored) find(ctx context.Context, ref string) (ocispec.Descriptor, error) {
	if d, err := digest.Parse(ref); err == nil {
		return s.findDigest(ctx, d)
	}
	got, err := s.conn.images.Get(ctx, &imagesapi.GetImageRequest{Name: ref})
	switch {
	case err != nil && errdefs.IsNotFound(errgrpc.ToNative(err)):
		return ocispec.Descriptor{}, &hinted{fmt.Errorf("%w: there is no image %q", image.ErrNotFound, ref),
			"`ctr -n " + s.conn.namespace + " images ls` lists those that there are; CONTAINERD_NAMESPACE names another namespace"}
	case err != nil:
		return ocispec.Descriptor{}, err
	case got.GetImage().GetTarget() == nil:
		return ocispec.Descriptor{}, fmt.Errorf("image %q stands for nothing", ref)
	}
	target := got.GetImage().GetTarget()
	return ocispec.Descriptor{MediaType: target.GetMediaType(), Digest: digest.Digest(target.GetDigest()), Size: target.GetSize()}, nil
}

// findDigest finds the manifest or index d, whatever names it.
func (s *stored) findDigest(ctx context.Context, d digest.Digest) (ocispec.Descriptor, error) {
	info, err := s.conn.content.Info(ctx, d)
	if err != nil {
		return ocispec.Descriptor{}, absent(d, err)
	}
	desc := ocispec.Descriptor{Digest: d, Size: info.Size}
	b, err := image.ReadAll(ctx, s, desc)
	if err != nil {
		return desc, err
	}
	if desc.MediaType = image.ManifestType(b); desc.MediaType == "" {
		return desc, fmt.Errorf("%w: %s is no manifest", image.ErrNotFound, d)
	}
	return desc, nil
}

// Fetch implements image.Source.
func (s *stored) Fetch(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
	ra, err := s.open(ctx, desc)
	if err != nil {
		return nil, err
	}
	return image.Verified(s.section(ctx, ra, 0, desc.Size), desc)
}

// FetchRange implements image.Source.
func (s *stored) FetchRange(ctx context.Context, desc ocispec.Descriptor, offset, length int64) (io.ReadCloser, error) {
	start, end, err := image.Span(desc, offset, length)
	if err != nil {
		return nil, err
	}
	ra, err := s.open(ctx, desc)
	if err != nil {
		return nil, err
	}
	return s.section(ctx, ra, start, end-start), nil
}

func (s *stored) open(ctx context.Context, desc ocispec.Descriptor) (content.ReaderAt, error) {
	if err := image.CheckDescriptor(desc); err != nil {
		return nil, err
	}
	ra, err := s.conn.content.ReaderAt(namespaces.WithNamespace(ctx, s.conn.namespace), desc)
	if err != nil {
		return nil, s.wrap(ctx, absent(desc.Digest, err))
	}
	if ra.Size() != desc.Size {
		err := fmt.Errorf("%s: %w: %s has %d bytes, not %d", s.name, image.ErrCorrupt, desc.Digest, ra.Size(), desc.Size)
		return nil, errors.Join(err, ra.Close())
	}
	return ra, nil
}

// readAhead is what is read of a blob at once: each read is a request.
const readAhead = 1 << 20

func (s *stored) section(ctx context.Context, ra content.ReaderAt, start, length int64) io.ReadCloser {
	r := io.NewSectionReader(ra, start, length)
	return &section{ctx, s, bufio.NewReaderSize(r, int(min(max(length, 16), readAhead))), ra}
}

// section is a range of a blob.
type section struct {
	ctx context.Context
	s   *stored
	r   io.Reader
	ra  content.ReaderAt
}

func (r *section) Read(p []byte) (int, error) {
	n, err := r.r.Read(p)
	if err != nil && err != io.EOF {
		err = r.s.wrap(r.ctx, err)
	}
	return n, err
}

func (r *section) Close() error { return r.ra.Close() }

// absent is err about the blob d, in image's words.
func absent(d digest.Digest, err error) error {
	if errdefs.IsNotFound(err) || errdefs.IsNotFound(errgrpc.ToNative(err)) {
		return fmt.Errorf("%w: %s", image.ErrNotFound, d)
	}
	return fmt.Errorf("%s: %w", d, plainError(err))
}

// wrap says whose error it is, without gRPC's wrapping.
func (s *stored) wrap(ctx context.Context, err error) error {
	var said *hinted
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, image.ErrNotFound), errors.Is(err, image.ErrCorrupt), errors.As(err, &said):
		return fmt.Errorf("%s: %w", s.name, err)
	}
	return fmt.Errorf("%s: %w", s.name, plainError(err))
}

var _ image.Source = (*stored)(nil)
