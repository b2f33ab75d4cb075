package image

import (
	"context"
	_ "crypto/sha256" // digest algorithms that blobs may be named by
	_ "crypto/sha512"
	"errors"
	"fmt"
	"io"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// What can be wrong with content, whatever holds it. Sources wrap these.
var (
	// ErrNotFound: the source has no such tag, manifest or blob.
	ErrNotFound = errors.New("not found")
	// ErrCorrupt: the content is not what its descriptor says.
	ErrCorrupt error = corruptError{}
	// ErrNoRange: the source gives out whole blobs only, and this one is too big
	// to read for a part of it.
	ErrNoRange = errors.New("no part of a blob can be read")
)

type corruptError struct{}

func (corruptError) Error() string { return "content differs from its descriptor" }
func (corruptError) Hint() string  { return damaged }

// damaged is the next step where content is not what it should be.
const damaged = "try again; where that does not help, it is damaged where it lies: build or push it anew"

// Source is one repository that images are read from: a registry's, a layout, a
// store. Implementations are safe for concurrent use and pass
// imagetest.TestSource.
type Source interface {
	// Resolve answers the descriptor of the manifest or index that ref (a tag,
	// a digest, or whatever the source names images by) stands for. The content
	// was read and verified; Data may hold it.
	Resolve(ctx context.Context, ref string) (ocispec.Descriptor, error)
	// Fetch reads a whole blob or manifest. Size and digest are verified while
	// it is read: instead of io.EOF, at the latest, comes an ErrCorrupt.
	Fetch(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error)
	// FetchRange reads length bytes from offset, fewer where the blob ends; a
	// negative offset counts from the blob's end. What it reads is not verified.
	FetchRange(ctx context.Context, desc ocispec.Descriptor, offset, length int64) (io.ReadCloser, error)
}

// Span turns a FetchRange request into absolute bounds, start ≤ end, inside a
// blob of desc.Size bytes.
func Span(desc ocispec.Descriptor, offset, length int64) (start, end int64, err error) {
	if err := CheckDescriptor(desc); err != nil {
		return 0, 0, err
	}
	if length < 0 {
		return 0, 0, fmt.Errorf("%s: range of %d bytes", desc.Digest, length)
	}
	if offset < 0 {
		offset = max(0, desc.Size+offset)
	}
	start = min(offset, desc.Size)
	return start, start + min(length, desc.Size-start), nil
}

// CheckDescriptor refuses what no blob can have: a digest that is none, or of
// an algorithm that cannot be verified, and a negative size. Digests that pass
// are safe as file names.
func CheckDescriptor(desc ocispec.Descriptor) error {
	if err := desc.Digest.Validate(); err != nil {
		return fmt.Errorf("descriptor with digest %.100q: %w", string(desc.Digest), err)
	}
	if desc.Size < 0 {
		return fmt.Errorf("descriptor of %s: size %d", desc.Digest, desc.Size)
	}
	return nil
}

// CheckContent holds content against its descriptor.
func CheckContent(desc ocispec.Descriptor, b []byte) error {
	if err := CheckDescriptor(desc); err != nil {
		return err
	}
	if got := desc.Digest.Algorithm().FromBytes(b); got != desc.Digest || int64(len(b)) != desc.Size {
		return fmt.Errorf("%w: %s of %d bytes has the content of %s, %d bytes", ErrCorrupt, desc.Digest, desc.Size, got, len(b))
	}
	return nil
}

// Verified wraps the content of desc, as a Source's Fetch answers it, so that
// reading it to the end fails where size or digest are not desc's. The last
// bytes are given out only when the digest is right, so a reader that stops at
// desc.Size bytes has verified content too. It owns rc.
func Verified(rc io.ReadCloser, desc ocispec.Descriptor) (io.ReadCloser, error) {
	if err := CheckDescriptor(desc); err != nil {
		_ = rc.Close()
		return nil, err
	}
	return &verified{rc: rc, desc: desc, digester: desc.Digest.Algorithm().Digester()}, nil
}

type verified struct {
	rc       io.ReadCloser
	desc     ocispec.Descriptor
	digester digest.Digester
	n        int64
	checked  bool  // all desc.Size bytes came and their digest is right
	err      error // sticky
}

func (v *verified) Read(p []byte) (int, error) {
	if v.err != nil || len(p) == 0 {
		return 0, v.err
	}
	n, err := v.rc.Read(p)
	v.n += int64(n)
	_, _ = v.digester.Hash().Write(p[:n])
	switch {
	case v.n > v.desc.Size:
		v.err = fmt.Errorf("%w: %s is longer than %d bytes", ErrCorrupt, v.desc.Digest, v.desc.Size)
		return 0, v.err
	case v.n == v.desc.Size && !v.checked:
		if got := v.digester.Digest(); got != v.desc.Digest {
			v.err = fmt.Errorf("%w: %s has the content of %s", ErrCorrupt, v.desc.Digest, got)
			return 0, v.err
		}
		v.checked = true
	}
	// A wrapped io.EOF is a failure further down, and comes out as it is.
	if err == io.EOF && !v.checked {
		err = fmt.Errorf("%w: %s ends after %d of %d bytes", ErrCorrupt, v.desc.Digest, v.n, v.desc.Size)
	}
	v.err = err
	return n, err
}

func (v *verified) Close() error { return v.rc.Close() }

// ReadAll reads a manifest, config or other small content whole, verified. A
// descriptor of more than MaxJSON bytes is refused before anything is read.
// Descriptors that carry their content are not fetched.
func ReadAll(ctx context.Context, src Source, desc ocispec.Descriptor) ([]byte, error) {
	if err := CheckDescriptor(desc); err != nil {
		return nil, err
	}
	if desc.Size > MaxJSON {
		return nil, fmt.Errorf("%s has %d bytes, more than the %d that are read of a manifest or config", desc.Digest, desc.Size, MaxJSON)
	}
	if int64(len(desc.Data)) == desc.Size && desc.Digest.Algorithm().FromBytes(desc.Data) == desc.Digest {
		return desc.Data, nil
	}
	rc, err := src.Fetch(ctx, desc)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(io.LimitReader(rc, MaxJSON+1))
	return b, errors.Join(err, rc.Close())
}

// MaxJSON bounds every manifest, index and config in bytes. Registries refuse
// manifests above 4 MiB (distribution specification, "Pushing Manifests").
const MaxJSON = 8 << 20
