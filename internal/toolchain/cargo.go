package toolchain

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containerd/platforms"
	"github.com/pelletier/go-toml/v2"
)

// cargo plans builds with cargo, through cargo-zigbuild where that is asked for,
// or where no other linker is here for a platform.
func (p Project) cargo(ctx context.Context, targets []target, zigbuild bool) ([]Build, error) {
	if _, err := exec.LookPath("cargo"); err != nil {
		return nil, &missingError{what: "cargo", platform: targets[0].Platform, by: rust()}
	}
	meta, err := p.cargoMetadata(ctx)
	if err != nil {
		return nil, err
	}
	selection, err := p.cargoSelection(meta)
	if err != nil {
		return nil, err
	}
	targetDir := filepath.Join(meta.Target, "lighter", p.variant())
	builds := make([]Build, len(targets))
	for i, t := range targets {
		b, triple, err := p.cargoTarget(ctx, t, zigbuild)
		if err != nil {
			return nil, err
		}
		sub := "build"
		if b.Tool == "cargo-zigbuild" {
			sub = "zigbuild"
		}
		b.Argv = []string{"cargo", sub, "--release", "--message-format=json-render-diagnostics", "--target", triple, "--target-dir", targetDir}
		if _, err := os.Stat(filepath.Join(meta.Root, "Cargo.lock")); err == nil {
			b.Argv = append(b.Argv, "--locked")
		}
		b.Argv = append(append(b.Argv, selection...), p.Flags...)
		b.Lock = targetDir
		strip := "symbols"
		if p.Debug {
			strip = "none"
			b.Env = append(b.Env, "CARGO_PROFILE_RELEASE_DEBUG=1")
		}
		b.Env = append(b.Env, "CARGO_PROFILE_RELEASE_STRIP="+strip)
		// CARGO_INCREMENTAL and build.incremental, which are the user's, go before it. And so
		// do codegen-units: a line of ripgrep 13 takes 3 s with cargo's 256, 21 s with 16.
		if name := "CARGO_PROFILE_RELEASE_INCREMENTAL"; p.Incremental && !p.Whole && os.Getenv(name) == "" {
			b.Env = append(b.Env, name+"=true")
		}
		if _, err := exec.LookPath("sccache"); err == nil && os.Getenv("RUSTC_WRAPPER") == "" {
			b.Env = append(b.Env, "RUSTC_WRAPPER=sccache")
		}
		b.made = cargoMade
		builds[i] = b
	}
	return builds, nil
}

// cargoPackage is what cargo metadata says of one.
type cargoPackage struct {
	Name       string              `json:"name"`
	Manifest   string              `json:"manifest_path"`
	Features   map[string][]string `json:"features"`
	DefaultRun string              `json:"default_run"`
	Targets    []struct {
		Name string   `json:"name"`
		Kind []string `json:"kind"`
	} `json:"targets"`
}

type cargoMetadata struct {
	Packages []cargoPackage `json:"packages"`
	Target   string         `json:"target_directory"`
	Root     string         `json:"workspace_root"`
}

// cargoMetadata asks cargo what there is to build, which needs no network.
func (p Project) cargoMetadata(ctx context.Context) (cargoMetadata, error) {
	var meta cargoMetadata
	cmd := exec.CommandContext(ctx, "cargo", "metadata", "--no-deps", "--format-version=1")
	cmd.Dir = p.Dir
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err == nil {
		err = json.Unmarshal(out, &meta)
	}
	if ctx.Err() != nil {
		return meta, context.Cause(ctx)
	}
	if err != nil {
		if why := strings.TrimSpace(strings.TrimPrefix(said.String(), "error: ")); why != "" {
			err = errors.New(why)
		}
		return meta, fmt.Errorf("cargo metadata %s: %w", p.Dir, err)
	}
	// The package of this directory alone, where it has one.
	here := filepath.Join(p.Dir, "Cargo.toml")
	if i := slices.IndexFunc(meta.Packages, func(c cargoPackage) bool { return sameFile(c.Manifest, here) }); i >= 0 {
		meta.Packages = meta.Packages[i : i+1]
	}
	return meta, nil
}

func sameFile(a, b string) bool {
	one, err1 := os.Stat(a)
	other, err2 := os.Stat(b)
	return err1 == nil && err2 == nil && os.SameFile(one, other)
}

// cargoSelection are the arguments that say which binaries with which features.
func (p Project) cargoSelection(meta cargoMetadata) ([]string, error) {
	features, packages := map[string]bool{}, map[string]string{}
	var have, plain []string
	runs := ""
	for _, c := range meta.Packages {
		for f := range c.Features {
			features[f], features[c.Name+"/"+f] = true, true
			plain = append(plain, f)
		}
		slices.Sort(plain)
		for _, t := range c.Targets {
			if slices.Contains(t.Kind, "bin") {
				have = append(have, t.Name)
				packages[t.Name] = c.Name
			}
		}
		if c.DefaultRun != "" {
			runs = c.DefaultRun
		}
	}
	if runs != "" && len(p.Binaries) == 0 {
		have = []string{runs}
	}
	chosen, err := p.choose(have, filepath.Join(p.Dir, "Cargo.toml"))
	if err != nil {
		return nil, err
	}
	var args []string
	for _, f := range p.Features {
		// A feature of a dependency, "serde/derive", is for cargo to know.
		if owner, _, ok := strings.Cut(f, "/"); !features[f] && (!ok || packagesHave(packages, owner)) {
			return nil, fmt.Errorf("%s has no feature %q%s", filepath.Join(p.Dir, "Cargo.toml"), f, among(plain))
		}
	}
	if p.NoDefaults {
		args = append(args, "--no-default-features")
	}
	if len(p.Features) > 0 {
		args = append(args, "--features", strings.Join(p.Features, ","))
	}
	var owners []string
	for _, name := range chosen {
		if owner := packages[name]; !slices.Contains(owners, owner) {
			owners = append(owners, owner)
			args = append(args, "--package", owner)
		}
		args = append(args, "--bin", name)
	}
	return args, nil
}

func packagesHave(packages map[string]string, name string) bool {
	return slices.Contains(slices.Collect(maps.Values(packages)), name)
}

// cargoTarget chooses Rust's target for a platform and the linker for it: musl
// where its library is installed, else GNU's, linked statically. Rust's own
// linker for musl is the C compiler, too.
func (p Project) cargoTarget(ctx context.Context, t target, zigbuild bool) (Build, string, error) {
	b := Build{Tool: "cargo"}
	gnu, musl := t.rust+"-unknown-linux-"+t.abi, t.rust+"-unknown-linux-"+strings.Replace(t.abi, "gnu", "musl", 1)
	triple := musl
	if !p.rustHas(ctx, musl) {
		if triple = gnu; !p.rustHas(ctx, gnu) {
			return b, "", p.noRustFor(ctx, t, musl)
		}
	}
	// Only in a target's own variable do flags leave those of a configuration alone.
	variable := "CARGO_TARGET_" + strings.ToUpper(strings.ReplaceAll(triple, "-", "_"))
	static := "-Ctarget-feature=+crt-static"
	if flags := os.Getenv("RUSTFLAGS"); flags != "" { // which is then the only one that counts
		b.Env = append(b.Env, "RUSTFLAGS="+flags+" "+static)
	} else {
		b.Env = append(b.Env, variable+"_RUSTFLAGS="+strings.TrimSpace(os.Getenv(variable+"_RUSTFLAGS")+" "+static))
	}
	_, zigErr := exec.LookPath("cargo-zigbuild")
	if !zigbuild {
		if t.native() || os.Getenv(variable+"_LINKER") != "" || p.cargoLinks(triple) {
			return b, triple, nil
		}
		cc, err := t.cc(false)
		if err == nil {
			b.Env = append(b.Env, variable+"_LINKER="+cc)
			return b, triple, nil
		}
		if zigErr != nil {
			var missing *missingError
			if errors.As(err, &missing) {
				missing.what = "linker, " + t.gnu() + "-gcc or cargo-zigbuild"
			}
			return b, "", err
		}
		b.Notes = append(b.Notes, platforms.Format(t.Platform)+" is linked by cargo-zigbuild")
	}
	if zigErr != nil {
		return b, "", &missingError{what: "cargo-zigbuild", platform: t.Platform, by: zigbuildTool()}
	}
	b.Tool = "cargo-zigbuild"
	return b, triple, nil
}

// rustHas tells whether the standard library for a target is here.
func (p Project) rustHas(ctx context.Context, triple string) bool {
	cmd := exec.CommandContext(ctx, "rustc", "--print", "target-libdir", "--target", triple)
	cmd.Dir = p.Dir // whose rust-toolchain.toml may name another Rust
	out, err := cmd.Output()
	if err != nil {
		return false
	}
	found, _ := filepath.Glob(filepath.Join(strings.TrimSpace(string(out)), "libstd-*.rlib"))
	return len(found) > 0
}

// rustRoot is where the rustc of this project has its libraries.
func (p Project) rustRoot(ctx context.Context) string {
	cmd := exec.CommandContext(ctx, "rustc", "--print", "sysroot")
	cmd.Dir = p.Dir
	out, err := cmd.Output()
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(out))
}

// rustupHas tells whether rustup adds to what lies there.
func rustupHas(sysroot string) bool {
	home := os.Getenv("RUSTUP_HOME")
	if home == "" {
		user, _ := os.UserHomeDir()
		home = filepath.Join(user, ".rustup")
	}
	return strings.HasPrefix(sysroot, filepath.Join(home, "toolchains")+string(filepath.Separator))
}

// noRustFor names what brings the standard library.
func (p Project) noRustFor(ctx context.Context, t target, triple string) error {
	by := install{"else": "use rustup, whose Rust compiles for other targets: https://rustup.rs"}
	switch sysroot := p.rustRoot(ctx); {
	case rustupHas(sysroot):
		by = install{"else": "rustup target add " + triple}
	case sysroot == "/usr" && t.native():
		by["apt-get"] = "libstd-rust-dev"
	case sysroot == "/usr":
		by["apt-get"] = "libstd-rust-dev:" + t.Architecture + " (after dpkg --add-architecture " + t.Architecture + " and apt-get update)"
	}
	return &missingError{what: "standard library of Rust for " + triple, platform: t.Platform, by: by}
}

// cargoLinks tells whether a configuration of cargo names a linker for a target.
// Source: "Hierarchical structure" in the Cargo book.
func (p Project) cargoLinks(triple string) bool {
	home := os.Getenv("CARGO_HOME")
	if home == "" {
		user, _ := os.UserHomeDir()
		home = filepath.Join(user, ".cargo")
	}
	dirs := []string{home}
	for dir := p.Dir; ; dir = filepath.Dir(dir) {
		dirs = append(dirs, filepath.Join(dir, ".cargo"))
		if dir == filepath.Dir(dir) {
			break
		}
	}
	for _, dir := range dirs {
		for _, name := range []string{"config.toml", "config"} {
			var config struct {
				Target map[string]struct {
					Linker string `toml:"linker"`
				} `toml:"target"`
			}
			b, err := os.ReadFile(filepath.Join(dir, name))
			if err == nil && toml.Unmarshal(b, &config) == nil && config.Target[triple].Linker != "" {
				return true
			}
		}
	}
	return false
}

// cargoMade reads cargo's messages, one JSON object a line.
func cargoMade(stdout []byte) ([]Binary, error) {
	var made []Binary
	for line := range bytes.Lines(stdout) {
		var message struct {
			Reason     string `json:"reason"`
			Executable string `json:"executable"`
			Fresh      bool   `json:"fresh"`
		}
		if json.Unmarshal(line, &message) != nil || message.Reason != "compiler-artifact" || message.Executable == "" {
			continue
		}
		made = append(made, Binary{filepath.Base(message.Executable), message.Executable, message.Fresh})
	}
	if len(made) == 0 {
		return nil, errors.New("cargo built no executable")
	}
	return made, nil
}
