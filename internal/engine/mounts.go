package engine

import (
	"context"
	"io"
	"strings"
)

// CacheMount names what RUN --mount=type=cache mounts, on any machine.
type CacheMount struct {
	ID       string // the namespace of BUILDKIT_CACHE_MOUNT_NS, "/", the id: "//root/.cache/go-build", "/apt"
	Platform string // "linux/amd64", of the step
	Base     string // digest of how what the mount starts from is made; "" where that is an empty directory
}

// Name is the id as the Dockerfile has it, where there is no namespace.
func (m CacheMount) Name() string { return strings.TrimPrefix(m.ID, "/") }

// Mounts is where the contents of cache mounts come from and go to. The other
// end of conn is the engine's MountAgent. What the two say to each other is
// theirs, and conn is over when the call returns. Safe for concurrent use.
type Mounts interface {
	// Restore fills a mount that the engine has made new, before the first step
	// sees it. After an error the mount is empty, and the build goes on.
	Restore(ctx context.Context, m CacheMount, conn io.ReadWriteCloser) error
	// Save takes in what mounts hold after a build.
	Save(ctx context.Context, mounts []CacheMount, conn io.ReadWriteCloser) error
}

// MountAgent is the engine's side of Mounts: it stands beside the directories
// and does with them what the other end of conn asks for, until conn ends.
type MountAgent interface {
	Serve(ctx context.Context, dirs map[CacheMount]MountDir, conn io.ReadWriteCloser) error
}

// MountDir is the directory of a cache mount on an engine's machine.
type MountDir struct {
	Dir string
	// Record is a file that is the agent's to remember the directory by. It
	// outlives the engine, and may be lost at any time.
	Record string
	// New tells that no step has seen the directory: what is in it is what it begins
	// with.
	New bool
	// Err is why the directory cannot be had, in place of Dir.
	Err string
}
