// Package engine owns the question put to a build engine: what to build, from
// what, into what. It knows no engine; the one in the buildkit folder answers.
//
// It never parses flags and never prints.
package engine

import (
	"context"
	"io"
	"time"

	"github.com/lighter-oci/lighter/internal/codec"
	"github.com/lighter-oci/lighter/internal/event"
)

// CacheAnswer is how long a place may take to say what a cache of layers, or of cache
// mounts, holds: two megabytes at most. Whoever asks can do without, and would not be
// faster with a slower one.
const CacheAnswer = 15 * time.Second

// Engine builds images. Implementations are safe for concurrent use.
type Engine interface {
	// Build runs one build and reports what happens to sink while it runs.
	// The error names what failed and where; sink has seen a Result either way.
	Build(ctx context.Context, req Request, sink Sink) (*Response, error)
	// Close releases the connection; an engine that is a process of its own
	// goes on for whoever else uses it.
	Close() error
}

// RequestError is a request that makes no sense, whatever engine it is put to;
// nothing was begun.
type RequestError struct{ Err error }

func (e *RequestError) Error() string { return e.Err.Error() }
func (e *RequestError) Unwrap() error { return e.Err }

// Sink receives the events of one build, in order, from one goroutine.
type Sink func(event.Event)

// Request is one build. The zero value of every field but Context means "as
// docker buildx build does without the flag".
type Request struct {
	Context       string            // directory, git or http URL, or "-" for a tar or Dockerfile on Stdin
	Dockerfile    string            // path, "-" for Stdin, "" for Context/Dockerfile
	Stdin         io.Reader         // read only where Context or Dockerfile is "-"
	Target        string            // stage to build; "" is the last
	Platforms     []string          // "linux/amd64"; empty is the engine's own
	BuildArgs     map[string]string // --build-arg
	Labels        map[string]string // --label
	NamedContexts map[string]string // --build-context name=path|oci-layout://|docker-image://|URL
	Secrets       []Secret
	SSH           []SSH
	NoCache       bool
	NoCacheFilter []string // stages
	Pull          bool
	AddHosts      []string // "name:ip"
	Network       string   // "", "default", "none", "host"
	ShmSize       int64    // bytes; 0 is the default
	Ulimits       []string // "nofile=1024:2048"
	CgroupParent  string
	Allow         []string // entitlements: "network.host", "security.insecure", "device"

	Attests     map[string]string // "provenance" → "mode=max", "sbom" → ""; "disabled=true" turns one off
	Annotations []string          // "[type[platform]:]key=value"

	CacheFrom []Entry
	CacheTo   []Entry
	Mounts    Mounts // where cache mounts come from; nil leaves new ones empty
	SaveTo    Mounts // where those that steps have used go after the build; nil for nowhere
	// SaveFailed sends them after a build that failed, too.
	SaveFailed bool

	Outputs     []Output
	Compression codec.Compression // for every layer the build makes, cache export included
	Force       bool              // base layers too
	// AddCompression makes further variants of each image, in one index with the
	// one in Compression.
	AddCompression []codec.Compression

	Check bool // lint the Dockerfile, build nothing
}

// Entry is a type and its attributes, as in --cache-to type=registry,ref=….
type Entry struct {
	Type  string
	Attrs map[string]string
}

// Output is one way out: type image, oci, docker, local or tar.
type Output struct {
	Entry
	Dest string                                                // file or directory, where the type writes one
	File func(attrs map[string]string) (io.WriteCloser, error) // overrides Dest for types that write one stream
}

// Secret is a value that steps may read and that reaches no layer, log or
// cache. Exactly one of File and Env names its source.
type Secret struct {
	ID   string
	File string
	Env  string
}

// SSH is an agent socket or keys offered to RUN --mount=type=ssh.
type SSH struct {
	ID    string
	Paths []string
}

// Response is what a finished build made.
type Response struct {
	Digest       string          // manifest or index, the last output's; "" for local and tar outputs
	Digests      []string        // the same of each output; "" where it makes no image, or the engine names only the last one's
	ConfigDigest string          // "" for an index
	Names        []string        // references it was given
	Metadata     map[string]any  // what --metadata-file writes
	Warnings     []event.Warning // of the Dockerfile checks
	CheckFailed  bool            // Check found an error
	CheckReport  string          // what Check prints
	CheckJSON    []byte          // the same for programs, as docker buildx build --call=check,format=json
	Outline      *Outline        // of the Dockerfile; nil where it was not read here
	Context      []ContextFile   // by path; nil where the context was not read here, empty where nothing needed it
	BaseDiffIDs  []string        // layers that came with base images; nil where the engine does not say
}
