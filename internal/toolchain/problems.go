package toolchain

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/platforms"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Problem is a pair of things that do not go together: of two tools, or of a tool
// and a project. It is known to end in an error later, or in a binary that fails.
type Problem struct {
	Tools string // "cargo-zigbuild and rustc"
	What  string
	Fix   string
}

// Able tells whether the toolchain of p compiles for a platform here: of a project
// by planning it, of no project (a Project without a Dir) by asking for the tools.
func (p Project) Able(ctx context.Context, platform ocispec.Platform) error {
	if p.Dir != "" {
		_, err := p.Plan(ctx, []ocispec.Platform{platform})
		return err
	}
	t, err := targetOf(platform)
	if err != nil {
		return err
	}
	switch p.Use {
	case "go":
		_, err = p.goEnv(t)
	case "cargo", "rust", "cargo-zigbuild":
		_, _, err = p.cargoTarget(ctx, t, p.Use == "cargo-zigbuild")
	case "c", "c++":
		_, err = t.cc(p.Use == "c++")
	}
	return err
}

// Problems looks for known bad pairs among what compiles the project, or, without a
// Dir, whatever is here, for these platforms.
func (p Project) Problems(ctx context.Context, list []ocispec.Platform) []Problem {
	var found []Problem
	add := func(tools, fix, format string, args ...any) {
		found = append(found, Problem{tools, fmt.Sprintf(format, args...), fix})
	}
	var targets []target
	for _, platform := range list {
		if t, err := targetOf(platform); err == nil {
			targets = append(targets, t)
		}
	}
	all := p.Use == ""
	if all || p.Use == "go" {
		p.goProblems(ctx, add)
	}
	if all || strings.HasPrefix(p.Use, "cargo") || p.Use == "rust" {
		p.rustProblems(ctx, targets, add)
	}
	if all || p.Use == "c" || p.Use == "c++" || p.Use == "go" && p.cgo() {
		staticC(ctx, targets, add)
	}
	return found
}

type adder func(tools, fix, format string, args ...any)

// goProblems holds Go against go.mod. Modules that are of no use without cgo
// compile without it, and say so when they run.
func (p Project) goProblems(ctx context.Context, add adder) {
	path, err := exec.LookPath("go")
	if err != nil || p.Dir == "" {
		return
	}
	mod, err := goMod(p.Dir)
	if err != nil {
		return
	}
	has, err := version(ctx, path, "go")
	wants := regexp.MustCompile(`(?m)^go\s+(\S+)`).FindStringSubmatch(mod)
	if err == nil && len(wants) > 1 && less(has, wants[1]) {
		// Since 1.21 go fetches another one by itself, unless it is told not to.
		if less(has, "1.21") || goToolchain(ctx, p.Dir) == "local" {
			add("go and go.mod", "install Go "+wants[1]+": https://go.dev/doc/install", "go.mod wants Go %s, this is %s, which fetches no other", wants[1], has)
		}
	}
	for _, module := range []string{"github.com/mattn/go-sqlite3"} {
		if strings.Contains(mod, module+" ") && !p.cgo() {
			add("cgo and "+module, `toolchain = { env = { CGO_ENABLED = "1" } } in lighter.toml, or a module of Go alone: modernc.org/sqlite`,
				"%s is C: without cgo it compiles, and fails when it runs", module)
		}
	}
}

func goMod(dir string) (string, error) {
	for ; ; dir = filepath.Dir(dir) {
		b, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		if err == nil || dir == filepath.Dir(dir) {
			return string(b), err
		}
	}
}

// goToolchain is what go does about another Go: "auto", "local".
func goToolchain(ctx context.Context, dir string) string {
	cmd := exec.CommandContext(ctx, "go", "env", "GOTOOLCHAIN")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOFLAGS=")
	if setting := os.Getenv("GOTOOLCHAIN"); setting != "" { // go itself fails where it is too old
		return setting
	}
	out, _ := cmd.Output()
	return strings.TrimSpace(string(out))
}

// rustProblems holds cargo, rustc, rustup, cargo-zigbuild and zig against each
// other, and against the project.
func (p Project) rustProblems(ctx context.Context, targets []target, add adder) {
	cargo, err := exec.LookPath("cargo")
	if err != nil {
		return
	}
	rustc, err := exec.LookPath("rustc")
	if err != nil {
		add("cargo and rustc", rust().line(manager()), "%s is there, and no rustc", cargo)
		return
	}
	root := p.rustRoot(ctx)
	if _, err := exec.LookPath("rustup"); err == nil && root != "" && !rustupHas(root) {
		add("rustc and rustup", "put ~/.cargo/bin first in PATH, or install targets as "+root+"'s Rust came", "rustc is %s, which is not rustup's: what rustup target add brings is not for it", rustc)
	}
	has, _ := version(ctx, rustc, "rustc")
	p.zigProblems(ctx, has, targets, add)
	if p.Dir == "" {
		return
	}
	cargoIs, _ := version(ctx, cargo, "cargo")
	lock, _ := os.ReadFile(filepath.Join(p.Dir, "Cargo.lock"))
	// Source: "Cargo.lock" in the Cargo changelog, 1.78.
	if regexp.MustCompile(`(?m)^version = 4$`).Match(lock) && less(cargoVersion(cargoIs), "1.78") {
		add("cargo and Cargo.lock", "use a newer Rust, of https://rustup.rs", "the lock file has version 4, which cargo before 1.78 does not read; this is %s", cargoIs)
	}
	manifest, _ := os.ReadFile(filepath.Join(p.Dir, "Cargo.toml"))
	if wants := regexp.MustCompile(`(?m)^rust-version\s*=\s*"([^"]+)"`).FindSubmatch(manifest); wants != nil && less(has, string(wants[1])) {
		add("rustc and Cargo.toml", "use a newer Rust, of https://rustup.rs", "Cargo.toml wants Rust %s, this is %s", wants[1], has)
	}
	p.crateProblems(ctx, string(lock), targets, add)
}

// cargoVersion: Debian's cargo 0.66 is upstream's 1.65.
func cargoVersion(v string) string {
	if rest, ok := strings.CutPrefix(v, "0."); ok {
		minor, _, _ := strings.Cut(rest, ".")
		if n, err := strconv.Atoi(minor); err == nil {
			return "1." + strconv.Itoa(n-1)
		}
	}
	return v
}

// crateProblems: crates that compile C need a compiler for Rust's target, and for
// musl's that is another one than for GNU's.
func (p Project) crateProblems(ctx context.Context, lock string, targets []target, add adder) {
	if !regexp.MustCompile(`(?m)^name = "cc"$`).MatchString(lock) || p.Use == "cargo-zigbuild" {
		return
	}
	for _, t := range targets {
		musl := strings.Replace(t.rust+"-unknown-linux-"+t.abi, "-gnu", "-musl", 1)
		variable := "CC_" + strings.ReplaceAll(musl, "-", "_")
		if !p.rustHas(ctx, musl) || os.Getenv(variable) != "" || p.Env[variable] != "" || p.Env["CC"] != "" {
			continue
		}
		names := []string{t.musl() + "-gcc"}
		by := t.gcc(false)
		if t.native() {
			names, by = append(names, "musl-gcc"), muslGCC()
		}
		if !slices.ContainsFunc(names, func(n string) bool { _, err := exec.LookPath(n); return err == nil }) {
			add("Rust's "+musl+" and C", by.line(manager()), "crates compile C for it, and there is no %s", names[len(names)-1])
		}
	}
}

// zigProblems: zig refuses linker arguments that it does not know, and
// cargo-zigbuild takes away those that it knows of. Sources: zig's issues 10050 and
// 14663; cargo-zigbuild's 96, 171 and 452; cargo-lambda's 534.
func (p Project) zigProblems(ctx context.Context, rust string, targets []target, add adder) {
	path, err := exec.LookPath("cargo-zigbuild")
	if err != nil {
		return
	}
	has, _ := version(ctx, path, "cargo-zigbuild")
	zig, err := exec.LookPath("zig")
	if err != nil {
		add("cargo-zigbuild and zig", zigTool().line(manager()), "cargo-zigbuild is there, and no zig")
		return
	}
	is, _ := version(ctx, zig, "zig")
	const newer = "cargo install cargo-zigbuild"
	switch {
	case less(is, "0.10"):
		add("cargo-zigbuild and zig", "install a newer zig: https://ziglang.org/download", "zig %s refuses linker arguments that Rust passes: want 0.10 or later", is)
	case less(has, "0.16.3") && !less(rust, "1.70"):
		add("cargo-zigbuild and rustc", newer, "Rust from 1.70 passes --no-undefined-version, which zig refuses and cargo-zigbuild %s lets through: want 0.16.3 or later", has)
	case less(has, "0.23") && !less(rust, "1.98") && slices.ContainsFunc(targets, func(t target) bool { return t.Architecture == "arm64" }):
		add("cargo-zigbuild and rustc", newer, "for arm64 Rust from 1.98 passes --fix-cortex-a53-843419, which zig refuses and cargo-zigbuild %s lets through: want 0.23 or later", has)
	}
}

// staticC looks for the C library as an archive, which static linking needs and
// Fedora has in a package of its own.
func staticC(ctx context.Context, targets []target, add adder) {
	for _, t := range targets {
		cc, err := t.cc(false)
		if err != nil {
			continue // which Able says
		}
		argv := append(strings.Fields(cc), "-print-file-name=libc.a")
		out, err := exec.CommandContext(ctx, argv[0], argv[1:]...).Output()
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			continue // one that does not know the question
		}
		if err == nil && !filepath.IsAbs(strings.TrimSpace(string(out))) {
			by := install{"apt-get": "libc6-dev", "dnf": "glibc-static", "apk": "musl-dev"}
			if !t.native() {
				by = install{"apt-get": "libc6-dev-" + t.Architecture + "-cross", "else": "install the C library's archive for " + t.gnu()}
			}
			add(cc+" and libc.a", by.line(manager()), "%s links nothing statically for %s: it has no libc.a", cc, platforms.Format(t.Platform))
		}
	}
}

// less compares versions by their numbers; one that is not known is not less.
func less(a, b string) bool {
	x, y := numbers(a), numbers(b)
	if len(x) == 0 || len(y) == 0 {
		return false
	}
	for len(x) < len(y) {
		x = append(x, 0)
	}
	for len(y) < len(x) {
		y = append(y, 0)
	}
	return slices.Compare(x, y) < 0
}

func numbers(version string) []int {
	var out []int
	for _, part := range regexp.MustCompile(`^\d+(\.\d+)*`).FindAllString(version, 1) {
		for s := range strings.SplitSeq(part, ".") {
			n, err := strconv.Atoi(s)
			if err != nil {
				return nil
			}
			out = append(out, n)
		}
	}
	return out
}
