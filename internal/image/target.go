package image

import (
	"context"
	"io"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Target is one repository that images are written to: a registry's, a layout,
// an archive. Implementations are safe for concurrent use and pass
// imagetest.TestTarget.
//
// Blobs come first, then the manifests that name them, then tags. Whatever
// happens in between, a tag stands for what it stood for before.
type Target interface {
	// Has tells whether the blob or manifest is there, whole. An error means
	// that nobody knows.
	Has(ctx context.Context, desc ocispec.Descriptor) (bool, error)
	// Mount makes a blob that the repository from of the same store holds appear
	// here without moving it. False, without an error, is the answer of
	// whoever cannot: then it has to travel.
	Mount(ctx context.Context, desc ocispec.Descriptor, from Reference) (bool, error)
	// Upload starts a blob whose digest nobody knows yet.
	Upload(ctx context.Context) (Upload, error)
	// PutManifest stores a manifest or index, whose content b is desc's. All
	// that it names is there already.
	PutManifest(ctx context.Context, desc ocispec.Descriptor, b []byte) error
	// Tag makes name, as the target names images, stand for the manifest or
	// index desc, whose content b has been put.
	Tag(ctx context.Context, desc ocispec.Descriptor, b []byte, name string) error
}

// Upload is one blob on its way. It is for one goroutine and must be committed
// or aborted.
type Upload interface {
	// Write sends p on. A connection that breaks is repaired in here as long as
	// that is possible; after an error only Abort is.
	io.Writer
	// Written is the SHA-256 digest of what was written so far, and how many
	// bytes that is.
	Written() (digest.Digest, int64)
	// Commit makes the blob visible by the digest of desc. Where that, or its
	// size, is not of what was written, the answer is ErrCorrupt and nothing
	// becomes visible.
	Commit(ctx context.Context, desc ocispec.Descriptor) error
	// Abort gives the blob up; nothing of it stays where that can be helped. It
	// does nothing after Commit.
	Abort()
}
