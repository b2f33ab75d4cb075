package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/lighter-oci/lighter/internal/codec"
	"github.com/lighter-oci/lighter/internal/engine/buildkit"
	"github.com/lighter-oci/lighter/internal/term"
)

// stamped is the release, set by the linker; a plain go build leaves it empty.
var stamped string

type versionCmd struct{}

// version is the release, the module's version, or the commit.
func version() string {
	if stamped != "" {
		return stamped
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	v := info.Main.Version
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && (v == "" || v == "(devel)") {
			v = s.Value
		}
	}
	if v == "" {
		v = "(devel)"
	}
	return v
}

// Run prints what this binary is made of.
func (versionCmd) Run(out *term.Output) error {
	fmt.Fprintf(out.Out, "lighter  %s\n", version())
	fmt.Fprintf(out.Out, "zstd     %s\n", codec.Encoder(codec.Compression{Codec: codec.Zstd, Level: 3}))
	fmt.Fprintf(out.Out, "gzip     %s\n", codec.Encoder(codec.Compression{Codec: codec.Gzip, Level: 6}))
	fmt.Fprintf(out.Out, "engine   BuildKit %s\n", buildkit.Version)
	fmt.Fprintf(out.Out, "go       %s %s/%s\n", runtime.Version(), runtime.GOOS, runtime.GOARCH)
	return nil
}
