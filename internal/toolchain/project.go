package toolchain

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Project is what is to be compiled. The zero value of everything but Dir is
// what the project itself says.
type Project struct {
	Dir        string   // absolute
	Use        string   // go, cargo, cargo-zigbuild, rust, zig, c, c++; "" is what Detect finds
	Command    []string // instead of those
	Output     string   // what Command makes, relative to Dir
	Flags      []string // further arguments of the known ones
	Env        map[string]string
	Features   []string // cargo's features, build tags of Go, options of zig, macros of C
	NoDefaults bool     // cargo's --no-default-features
	Binaries   []string // to make; none is the only one, or the one that the project runs by default
	Variant    string   // whose build directory this is, and {variant} in Command
	Version    string   // {version} in Command

	// Incremental has cargo compile again only what changed of the project's own crates;
	// Whole is over it, for binaries that are the same whatever was compiled before.
	Incremental, Whole bool

	// Debug leaves symbols and debug information in the binaries.
	Debug bool
	// Cache is where build directories lie; "" is under the user's cache
	// directory. Cargo's are where cargo clean finds them.
	Cache string
}

// Build is one run of a compiler, for one platform.
type Build struct {
	Tool     string // "go", "cargo"
	Platform ocispec.Platform
	Argv     []string
	Dir      string
	Env      []string // KEY=VALUE, over the environment of this process
	// Lock is what no two builds may use at a time, "" for nothing.
	Lock string
	// Notes are what a user should know of the way that was chosen.
	Notes []string

	before [][]string                            // commands that prepare the build
	prep   func() error                          // what else does
	made   func(stdout []byte) ([]Binary, error) // what the run has made
}

// Binary is one that was made.
type Binary struct {
	Name string
	Path string
	Kept bool // the compiler found nothing to do for it
}

// Plan answers one Build a platform. What can be known to be wrong before
// anything is compiled is an error here: a feature that there is not, a compiler
// or linker that is missing.
func (p Project) Plan(ctx context.Context, platforms []ocispec.Platform) ([]Build, error) {
	use := p.Use
	if len(p.Command) > 0 {
		use = "command"
	}
	if use == "" {
		var err error
		if use, err = Detect(p.Dir); err != nil {
			return nil, err
		}
	}
	isCargo := slices.Contains([]string{"cargo", "cargo-zigbuild", "rust"}, use)
	if p.NoDefaults && !isCargo {
		return nil, errors.New("no-default-features is cargo's: " + use + " has no features on by default")
	}
	if p.Incremental && !isCargo {
		return nil, &IncrementalError{use}
	}
	var targets []target
	for _, platform := range platforms {
		t, err := targetOf(platform)
		if err != nil {
			return nil, err
		}
		targets = append(targets, t)
	}
	var builds []Build
	var err error
	switch use {
	case "go":
		builds, err = p.golang(ctx, targets)
	case "cargo", "rust", "cargo-zigbuild":
		builds, err = p.cargo(ctx, targets, use == "cargo-zigbuild")
	case "zig":
		builds, err = p.zig(targets)
	case "c", "c++":
		builds, err = p.c(targets, use)
	case "command":
		builds, err = p.command(targets)
	default:
		err = fmt.Errorf("toolchain %q is not known: want go, cargo, cargo-zigbuild, zig, c or c++", use)
	}
	for i := range builds {
		builds[i].Platform = targets[i].Platform
		builds[i].Dir = p.Dir
		for key, value := range p.Env {
			builds[i].Env = append(builds[i].Env, key+"="+value)
		}
		slices.Sort(builds[i].Env[len(builds[i].Env)-len(p.Env):])
	}
	return builds, err
}

// IncrementalError is a project that wants of another compiler what only cargo does.
type IncrementalError struct{ use string }

func (e *IncrementalError) Error() string {
	return "toolchain.incremental: only cargo takes it, and what compiles here is " + e.use
}

// Hint is the next step.
func (*IncrementalError) Hint() string { return "leave it out" }

// marks are the files by which a project is known, in the order of what counts
// when there are several: a Makefile stands beside most others.
var marks = []struct{ file, use string }{
	{"go.mod", "go"}, {"Cargo.toml", "cargo"}, {"build.zig", "zig"},
	{"CMakeLists.txt", "c"}, {"Makefile", "c"}, {"makefile", "c"}, {"GNUmakefile", "c"},
}

// Detect tells which toolchain a directory wants: by the files in it, or the
// go.mod above it where it holds Go.
func Detect(dir string) (string, error) {
	for _, m := range marks {
		if _, err := os.Stat(filepath.Join(dir, m.file)); err == nil {
			return m.use, nil
		}
	}
	if exists(dir, "go.work") {
		return "", fmt.Errorf("%s is a workspace of Go modules, and none itself: name the directory of one", dir)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return "", err
	}
	for _, e := range entries {
		switch filepath.Ext(e.Name()) {
		case ".go":
			return "go", nil
		case ".c":
			return "c", nil
		case ".cc", ".cpp", ".cxx":
			return "c++", nil
		}
	}
	return "", &unknownError{dir}
}

// unknownError is a directory that looks like nothing that can be compiled.
type unknownError struct{ dir string }

func (e *unknownError) Error() string {
	return e.dir + ": no go.mod, Cargo.toml, build.zig, CMakeLists.txt, Makefile or C source here"
}

// Hint is the next step.
func (*unknownError) Hint() string {
	return `name the project's directory, or say in lighter.toml what compiles: toolchain = { command = "…", output = "PATH" }`
}

// variant is Variant as the name of a directory.
func (p Project) variant() string {
	if p.Variant == "" {
		return "default"
	}
	return p.Variant
}

// buildDir is where what is made for one target stays between runs, so that the
// next one has little to do.
func (p Project) buildDir(t target) (string, error) {
	cache := p.Cache
	if cache == "" {
		user, err := os.UserCacheDir()
		if err != nil {
			return "", fmt.Errorf("directory to build in: %w", err)
		}
		cache = filepath.Join(user, "lighter", "pack")
	}
	sum := sha256.Sum256([]byte(p.Dir))
	dir := filepath.Join(cache, filepath.Base(p.Dir)+"-"+hex.EncodeToString(sum[:6]), p.variant(), t.name())
	return dir, os.MkdirAll(dir, 0o777)
}

// choose are the binaries to make of those that there are.
func (p Project) choose(have []string, where string) ([]string, error) {
	for _, want := range p.Binaries {
		first := slices.Index(have, want)
		if first < 0 {
			return nil, fmt.Errorf("%s makes no binary %q%s", where, want, among(have))
		}
		if slices.Contains(have[first+1:], want) {
			return nil, fmt.Errorf("%s makes two binaries %q: name the directory of the one that is meant", where, want)
		}
	}
	switch {
	case len(p.Binaries) > 0:
		return p.Binaries, nil
	case len(have) == 0:
		return nil, fmt.Errorf("%s makes no binary: there is nothing to pack", where)
	case len(have) > 1:
		return nil, &severalError{where, have}
	}
	return have, nil
}

// among lists what there is, for an error.
func among(have []string) string {
	if len(have) == 0 {
		return ""
	}
	return ", but " + strings.Join(have, ", ")
}

// severalError is a project in which no binary is the obvious one.
type severalError struct {
	where string
	have  []string
}

func (e *severalError) Error() string {
	return fmt.Sprintf("%s makes %d binaries: %s", e.where, len(e.have), strings.Join(e.have, ", "))
}

// Hint is the next step.
func (e *severalError) Hint() string {
	return fmt.Sprintf("say in lighter.toml which go into the image: binaries = [%q]", e.have[0])
}
