package buildkit

import (
	"time"

	"github.com/moby/buildkit/util/resolver/config"

	"github.com/lighter-oci/lighter/internal/codec"
	"github.com/lighter-oci/lighter/internal/engine"
)

// Config is how an embedded engine runs. The zero value of every field but
// State works.
type Config struct {
	State      string // directory that the engine owns; locked by the caller
	CacheLimit int64  // bytes of build cache to keep; 0 is BuildKit's own default for the disk
	Workers    int    // goroutines that compress; 0 is one a core
	// RegistryTimeout is how long a registry may be silent in the middle of a
	// request; 0 is five minutes.
	RegistryTimeout time.Duration
	// Registries answers what is configured of them, by host; it is asked before
	// each build. Nil is nothing.
	Registries func() (map[string]config.RegistryConfig, error)
	// Mounts makes what reads and fills the directories of cache mounts, with the
	// engine's pool; nil lets none travel.
	Mounts func(*codec.Pool) engine.MountAgent

	LogLevel string // "debug", "info", …; "" is warnings
}

// Version is that of the BuildKit inside; a test holds it against go.mod.
const Version = "v0.33.1"
