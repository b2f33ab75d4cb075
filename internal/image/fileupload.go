package image

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// FileUpload is an Upload that is a temporary file until its digest is known.
type FileUpload struct {
	ctx  context.Context
	f    *os.File // nil when it is over
	hash hash.Hash
	n    int64
	keep func(ctx context.Context, desc ocispec.Descriptor, f *os.File) error
}

var _ Upload = (*FileUpload)(nil)

// NewFileUpload begins one in f, which is its own. keep makes a content of the
// file, which is whole then and what its descriptor says; it owns the file from
// then on, and is to close and to remove or rename it.
func NewFileUpload(ctx context.Context, f *os.File, keep func(ctx context.Context, desc ocispec.Descriptor, f *os.File) error) *FileUpload {
	return &FileUpload{ctx: ctx, f: f, hash: sha256.New(), keep: keep}
}

var errUploadOver = errors.New("the upload is over")

func (u *FileUpload) Write(p []byte) (int, error) {
	switch {
	case u.f == nil:
		return 0, errUploadOver
	case u.ctx.Err() != nil:
		return 0, u.ctx.Err()
	}
	n, err := u.f.Write(p)
	u.hash.Write(p[:n])
	u.n += int64(n)
	return n, err
}

// Written implements Upload.
func (u *FileUpload) Written() (digest.Digest, int64) {
	return digest.NewDigest(digest.SHA256, u.hash), u.n
}

// Commit implements Upload.
func (u *FileUpload) Commit(ctx context.Context, desc ocispec.Descriptor) error {
	if u.f == nil {
		return errUploadOver
	}
	defer u.Abort()
	if err := CheckDescriptor(desc); err != nil {
		return err
	}
	if err := u.check(desc); err != nil {
		return err
	}
	if err := errors.Join(ctx.Err(), u.ctx.Err()); err != nil {
		return err
	}
	f := u.f
	u.f = nil
	return u.keep(ctx, desc, f)
}

// check holds what was written against what it shall be called.
func (u *FileUpload) check(desc ocispec.Descriptor) error {
	got, n := u.Written()
	if algorithm := desc.Digest.Algorithm(); algorithm != digest.SHA256 {
		var err error
		if got, err = algorithm.FromReader(io.NewSectionReader(u.f, 0, n)); err != nil {
			return err
		}
	}
	if desc.Digest != got || desc.Size != n {
		return fmt.Errorf("%w: %s of %d bytes has the content of %s, %d bytes", ErrCorrupt, desc.Digest, desc.Size, got, n)
	}
	return nil
}

// Abort implements Upload.
func (u *FileUpload) Abort() {
	if u.f == nil {
		return
	}
	_ = u.f.Close()
	_ = os.Remove(u.f.Name())
	u.f = nil
}
