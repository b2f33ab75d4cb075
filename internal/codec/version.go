package codec

import (
	"runtime/debug"
	"strings"
)

// The versions in go.mod, for binaries that were linked without a list of
// their modules, as test binaries are. A test holds them against go.mod.
const (
	klauspostVersion = "1.20.3"
	datadogVersion   = "1.5.7" // of the binding, which is that of the libzstd inside
)

// klauspostName is the name and version of github.com/klauspost/compress.
func klauspostName() string {
	return "klauspost " + moduleVersion("github.com/klauspost/compress", klauspostVersion)
}

// moduleVersion is the version, without the v, of a module in this binary, as
// the linker recorded it, or otherwise.
func moduleVersion(path, otherwise string) string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return otherwise
	}
	for _, m := range info.Deps {
		if m.Path != path {
			continue
		}
		for m.Replace != nil {
			m = m.Replace
		}
		return strings.TrimPrefix(m.Version, "v")
	}
	return otherwise
}
