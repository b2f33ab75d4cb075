package engine

import (
	"context"
	"io"
)

// CacheMount names what RUN --mount=type=cache mounts, on any machine.
type CacheMount struct {
	ID       string // with the namespace that BUILDKIT_CACHE_MOUNT_NS gives, "/root/.cache/go-build" without
	Platform string // "linux/amd64", of the step
	Base     string // digest of the step that makes what the mount starts from; "" where that is an empty directory
}

// Mounts is where the contents of cache mounts come from and go to. The other
// end of conn is the MountAgent beside the mount's directory; what the two say
// to each other is theirs, and conn ends with the call. Safe for concurrent
// use.
type Mounts interface {
	// Restore fills a mount that the engine has made new, before the first step
	// sees it. After an error the mount is empty, and the build goes on.
	Restore(ctx context.Context, m CacheMount, conn io.ReadWriter) error
	// Save takes in what a mount holds after the build.
	Save(ctx context.Context, m CacheMount, conn io.ReadWriter) error
}

// MountAgent is the engine's side of Mounts.
type MountAgent interface {
	// Fill makes root, an empty directory, what the other end says. After an
	// error root may hold anything, and is thrown away.
	Fill(ctx context.Context, root string, conn io.ReadWriter) error
	// Read tells the other end what is in root, which steps may be changing.
	Read(ctx context.Context, root string, conn io.ReadWriter) error
}
