package toolchain

import (
	"cmp"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"

	"github.com/containerd/platforms"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// target is a platform in the words of compilers.
type target struct {
	ocispec.Platform
	cpu  string // "x86_64", as in triples
	abi  string // "gnu", "gnueabihf"; musl's has the same ending
	rust string // the first part of Rust's triple: "riscv64gc"
	deb  string // the package of Debian's cross compiler, without "gcc-"
}

// cpus are the architectures of Linux that compilers make static binaries for.
// Sources: Debian's gcc-ARCH packages, "Platform Support" of the rustc book.
var cpus = map[string]target{
	"amd64":   {cpu: "x86_64", abi: "gnu"},
	"386":     {cpu: "i686", abi: "gnu"},
	"arm64":   {cpu: "aarch64", abi: "gnu"},
	"arm/v7":  {cpu: "arm", abi: "gnueabihf", rust: "armv7"},
	"arm/v6":  {cpu: "arm", abi: "gnueabihf"},
	"arm/v5":  {cpu: "arm", abi: "gnueabi", rust: "armv5te"},
	"ppc64le": {cpu: "powerpc64le", abi: "gnu"},
	"riscv64": {cpu: "riscv64", abi: "gnu", rust: "riscv64gc"},
	"s390x":   {cpu: "s390x", abi: "gnu"},
}

func targetOf(p ocispec.Platform) (target, error) {
	p = platforms.Normalize(p)
	arch := p.Architecture
	if arch == "arm" {
		if p.Variant == "" {
			p.Variant = "v7"
		}
		arch += "/" + p.Variant
	}
	t, ok := cpus[arch]
	if p.OS != "linux" || !ok {
		return t, fmt.Errorf("platform %s: nothing here compiles for it: want linux/amd64, linux/arm64 or another Linux", platforms.Format(p))
	}
	t.Platform = p
	if t.rust == "" {
		t.rust = t.cpu
	}
	t.deb = strings.ReplaceAll(t.gnu(), "_", "-")
	return t, nil
}

// name is the platform as the name of a directory.
func (t target) name() string { return strings.ReplaceAll(platforms.Format(t.Platform), "/", "-") }

// gnu is the prefix of GNU's tools for the target: "aarch64-linux-gnu".
func (t target) gnu() string { return t.cpu + "-linux-" + t.abi }

// musl is the same for musl's.
func (t target) musl() string { return t.cpu + "-linux-" + strings.Replace(t.abi, "gnu", "musl", 1) }

// zig is zig's name of the target.
func (t target) zig() string { return strings.Replace(t.musl(), "i686", "x86", 1) }

// native tells whether what this machine's own compiler makes runs there.
func (t target) native() bool {
	return runtime.GOOS == "linux" && runtime.GOARCH == t.Architecture
}

// cc answers the C compiler (or, for c++, the C++ compiler) for the target: the
// one that the environment names, this machine's own, or a cross compiler.
func (t target) cc(cxx bool) (string, error) {
	variable, own, gnu, clang := "CC", "cc", "gcc", "clang"
	if cxx {
		variable, own, gnu, clang = "CXX", "c++", "g++", "clang++"
	}
	if t.native() {
		if named := os.Getenv(variable); named != "" {
			return named, nil
		}
		for _, name := range []string{own, gnu, clang} {
			if _, err := exec.LookPath(name); err == nil {
				return name, nil
			}
		}
		return "", &missingError{what: "C compiler", platform: t.Platform, by: t.gcc(cxx)}
	}
	for _, prefix := range []string{t.gnu(), t.musl(), t.cpu + "-unknown-linux-gnu", t.cpu + "-unknown-linux-musl"} {
		if _, err := exec.LookPath(prefix + "-" + gnu); err == nil {
			return prefix + "-" + gnu, nil
		}
	}
	return "", &missingError{what: "C compiler " + t.gnu() + "-" + gnu, platform: t.Platform, by: t.gcc(cxx)}
}

// missingError is a tool without which a platform cannot be compiled for.
type missingError struct {
	doing    string // "be stripped"; "" is "be compiled for"
	what     string
	platform ocispec.Platform
	by       install
}

func (e *missingError) Error() string {
	return fmt.Sprintf("%s cannot %s here: no %s", platforms.Format(e.platform), cmp.Or(e.doing, "be compiled for"), e.what)
}

// Hint is the next step.
func (e *missingError) Hint() string {
	return e.by.line(manager())
}
