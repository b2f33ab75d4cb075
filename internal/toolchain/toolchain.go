// Package toolchain owns what this machine can compile with: which compilers
// there are, where, and of what version; which of them a project wants, and the
// command line and environment that make its binaries for another platform.
//
// It runs compilers and never looks into what they make, which is pack's. It
// never installs anything; what is missing is named with the line that brings it.
package toolchain

import (
	"context"
	"maps"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Compiler is one that was looked for. Path is "" where it is not there.
type Compiler struct {
	Language string // "Go", "C", "Rust"; "C, any target" for zig
	Name     string // "gcc"
	Path     string
	Version  string // "1.26.0"; "" where it does not say
	Err      error  // why it does not say
}

// known are the compilers, by language, the first that is there counts.
func known() []Compiler {
	return []Compiler{
		{Language: "Go", Name: "go"},
		{Language: "C", Name: "gcc"}, {Language: "C", Name: "cc"}, {Language: "C", Name: "clang"},
		{Language: "Rust", Name: "cargo"},
		{Language: "C, any target", Name: "zig"},
	}
}

// patience bounds the question for a version. Rust's proxy takes 50 ms.
const patience = 10 * time.Second

// Find answers one compiler a language. Of a language that has none, the
// answer is the first name without a path.
func Find(ctx context.Context) []Compiler {
	var found []Compiler
	for _, c := range known() {
		last := len(found) - 1
		if last >= 0 && found[last].Language == c.Language && found[last].Path != "" {
			continue
		}
		path, err := exec.LookPath(c.Name)
		if err == nil {
			c.Path = path
			c.Version, c.Err = version(ctx, path, c.Name)
		}
		switch {
		case last < 0 || found[last].Language != c.Language:
			found = append(found, c)
		case c.Path != "":
			found[last] = c
		}
	}
	return found
}

// Helpers are what compilers are used with, and cross compilers: those that are here.
func Helpers(ctx context.Context) []Compiler {
	names := []Compiler{
		{Language: "Rust", Name: "rustc"}, {Language: "Rust", Name: "rustup"}, {Language: "Rust", Name: "cargo-zigbuild"},
		{Name: "sccache"}, {Language: "C", Name: "cmake"}, {Language: "C", Name: "make"}, {Language: "C", Name: "musl-gcc"}, {Name: "upx"},
	}
	for _, arch := range slices.Sorted(maps.Keys(cpus)) {
		t := cpus[arch]
		for _, name := range []string{t.gnu() + "-gcc", t.musl() + "-gcc"} {
			names = append(names, Compiler{Language: "C", Name: name})
		}
	}
	var found []Compiler
	for _, c := range names {
		var err error
		if c.Path, err = exec.LookPath(c.Name); err == nil {
			c.Version, c.Err = version(ctx, c.Path, c.Name)
			found = append(found, c)
		}
	}
	return found
}

// version asks a compiler, away from any project: a file in one may name
// another version, which go and rustup would download.
func version(ctx context.Context, path, name string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	args := []string{"--version"}
	if name == "go" || name == "zig" {
		args = []string{"version"}
	}
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Dir = os.TempDir()
	cmd.Env = append(os.Environ(), "GOTOOLCHAIN=local", "GOFLAGS=-mod=mod", "RUSTUP_AUTO_INSTALL=0", "LC_ALL=C")
	cmd.WaitDelay = time.Second
	out, err := cmd.Output()
	if err != nil {
		return "", err
	}
	first, _, _ := strings.Cut(string(out), "\n")
	return Number(first), nil
}

// Number is the version number in a line that a program says about itself:
// "1.26.0" of "go version go1.26.0 linux/amd64", the last of several that stand
// in brackets and not ("gcc (Debian 12.2.0-14) 12.2.0").
func Number(line string) string {
	numbers := regexp.MustCompile(`\d+(\.\d+)+[0-9A-Za-z.+~-]*`).FindAllString(line, -1)
	if len(numbers) == 0 {
		return ""
	}
	if strings.Contains(line, "(") && !strings.HasSuffix(strings.TrimSpace(line), ")") {
		return numbers[len(numbers)-1]
	}
	return numbers[0]
}
