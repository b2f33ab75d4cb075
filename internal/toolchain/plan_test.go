package toolchain_test

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/lighter-oci/lighter/internal/toolchain"
)

// recorders puts programs into a path of its own that write down how they were
// called, and then do what script says.
func recorders(t *testing.T, scripts map[string]string) (log string) {
	t.Helper()
	dir := t.TempDir()
	log = filepath.Join(dir, "log")
	for name, script := range scripts {
		body := "#!/bin/sh\necho \"" + name + " $*\" >>" + log + "\nenv | grep -E '^(CARGO_(PROFILE_|TARGET_|INCREMENTAL)|RUSTFLAGS|RUSTC_WRAPPER)' | sort >>" + log + "\n" + script + "\n"
		if err := os.WriteFile(filepath.Join(dir, name), []byte(body), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"sh", "env", "grep", "sort", "mkdir", "cat", "touch", "chmod"} {
		if err := os.Symlink("/bin/"+name, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", dir)
	for _, name := range []string{"CC", "CXX", "RUSTFLAGS", "RUSTC_WRAPPER", "CARGO_HOME", "CGO_ENABLED"} {
		t.Setenv(name, "")
		os.Unsetenv(name) // which Setenv restores
	}
	t.Setenv("HOME", dir)
	return log
}

func linux(arch, variant string) ocispec.Platform {
	return ocispec.Platform{OS: "linux", Architecture: arch, Variant: variant}
}

// other is an architecture that this machine has not.
func other() string {
	if runtime.GOARCH == "arm64" {
		return "amd64"
	}
	return "arm64"
}

func plan(t *testing.T, p toolchain.Project, platforms ...ocispec.Platform) []toolchain.Build {
	t.Helper()
	builds, err := p.Plan(t.Context(), platforms)
	if err != nil {
		t.Fatal(err)
	}
	return builds
}

func run(t *testing.T, b toolchain.Build) []toolchain.Binary {
	t.Helper()
	made, err := b.Run(t.Context(), io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	return made
}

// logged is what the recorders wrote, without the machine's paths.
func logged(t *testing.T, log string, paths ...string) string {
	t.Helper()
	b, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	return strings.NewReplacer(paths...).Replace(string(b))
}

func write(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
}

// zig's command line, which is all that can be tested without zig.
func TestZig(t *testing.T) {
	dir, cache := t.TempDir(), t.TempDir()
	log := recorders(t, map[string]string{"zig": `while [ "$1" != --prefix ]; do shift; done; mkdir -p $2/bin; touch $2/bin/app; chmod +x $2/bin/app`})
	write(t, dir, map[string]string{"build.zig": ""})
	p := toolchain.Project{Dir: dir, Cache: cache, Features: []string{"tls", "log=info"}, Flags: []string{"--verbose"}}
	builds := plan(t, p, linux("arm64", ""), linux("386", ""), linux("arm", "v7"))
	for _, b := range builds {
		if made := run(t, b); len(made) != 1 || made[0].Name != "app" {
			t.Errorf("%s made %v", b.Title(), made)
		}
	}
	want := `zig build -Dtarget=aarch64-linux-musl -Doptimize=ReleaseSafe --prefix CACHE/linux-arm64 -Dtls -Dlog=info --verbose
zig build -Dtarget=x86-linux-musl -Doptimize=ReleaseSafe --prefix CACHE/linux-386 -Dtls -Dlog=info --verbose
zig build -Dtarget=arm-linux-musleabihf -Doptimize=ReleaseSafe --prefix CACHE/linux-arm-v7 -Dtls -Dlog=info --verbose
`
	at := filepath.Dir(strings.Fields(logged(t, log))[5])
	if got := logged(t, log, at, "CACHE"); got != want {
		t.Errorf("%s\nwant\n%s", got, want)
	}
}

// metadata is what cargo says of a project with features and two binaries.
func metadata(t *testing.T, dir string) string {
	t.Helper()
	b, err := json.Marshal(map[string]any{
		"target_directory": filepath.Join(dir, "target"), "workspace_root": dir,
		"packages": []any{map[string]any{
			"name": "app", "manifest_path": filepath.Join(dir, "Cargo.toml"), "default_run": "app",
			"features": map[string]any{"tls": []string{}, "loud": []string{}},
			"targets":  []any{map[string]any{"name": "app", "kind": []string{"bin"}}, map[string]any{"name": "tool", "kind": []string{"bin"}}},
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// cargos are a cargo that knows that project, and a rustc with the standard
// library of the targets in has.
func cargos(t *testing.T, dir, has string) map[string]string {
	lib := t.TempDir()
	write(t, lib, map[string]string{"libstd-1.rlib": ""})
	write(t, dir, map[string]string{"Cargo.toml": "", "Cargo.lock": "", "metadata": metadata(t, dir)})
	return map[string]string{
		"cargo": `[ "$1" = metadata ] && exec cat metadata
echo '{"reason":"compiler-artifact","executable":"/made/app","fresh":true}'`,
		"rustc": `[ "$2" != sysroot ] || { echo ${SYSROOT:-/usr}; exit; }; case " ` + has + ` " in *" $4 "*) echo ` + lib + `;; *) echo /nowhere;; esac`,
	}
}

// cargo-zigbuild's command line: asked for, or because no other linker is here.
func TestCargoZigbuild(t *testing.T) {
	for _, use := range []string{"cargo-zigbuild", "cargo"} {
		dir := t.TempDir()
		scripts := cargos(t, dir, "aarch64-unknown-linux-musl x86_64-unknown-linux-musl")
		scripts["cargo-zigbuild"], scripts["sccache"] = "", ""
		log := recorders(t, scripts)
		p := toolchain.Project{Dir: dir, Use: use, Features: []string{"tls", "serde/derive"}, NoDefaults: true, Variant: "small", Flags: []string{"--offline"}}
		b := plan(t, p, linux(other(), ""))[0]
		if err := os.Remove(log); err != nil { // of planning
			t.Fatal(err)
		}
		if made := run(t, b); len(made) != 1 || made[0] != (toolchain.Binary{Name: "app", Path: "/made/app", Kept: true}) {
			t.Errorf("made %v", made)
		}
		cpu := map[string]string{"arm64": "aarch64", "amd64": "x86_64"}[other()]
		want := `cargo zigbuild --release --message-format=json-render-diagnostics --target CPU-unknown-linux-musl --target-dir DIR/target/lighter/small --locked --no-default-features --features tls,serde/derive --package app --bin app --offline
CARGO_PROFILE_RELEASE_STRIP=symbols
CARGO_TARGET_UP_UNKNOWN_LINUX_MUSL_RUSTFLAGS=-Ctarget-feature=+crt-static
RUSTC_WRAPPER=sccache
`
		if got := logged(t, log, dir, "DIR", cpu, "CPU", strings.ToUpper(cpu), "UP"); got != want {
			t.Errorf("%s: %s\nwant\n%s", use, got, want)
		}
		if noted := len(b.Notes) == 1; noted != (use == "cargo") {
			t.Errorf("%s: notes %q", use, b.Notes)
		}
	}
}

// Incremental is the profile's, so that the user's own word goes before it, and never
// of what is to be compiled whole.
func TestCargoIncremental(t *testing.T) {
	const name = "CARGO_PROFILE_RELEASE_INCREMENTAL"
	for _, tt := range []struct {
		p    toolchain.Project
		mine string // in the environment
		want string
	}{
		{toolchain.Project{}, "", ""},
		{toolchain.Project{Incremental: true}, "", "true"},
		{toolchain.Project{Incremental: true, Use: "rust", Debug: true}, "", "true"},
		{toolchain.Project{Incremental: true, Use: "cargo-zigbuild"}, "", "true"},
		{toolchain.Project{Incremental: true, Whole: true}, "", ""},
		{toolchain.Project{Incremental: true}, "false", "false"},
		{toolchain.Project{Incremental: true, Env: map[string]string{name: "false"}}, "", "false"},
	} {
		dir := t.TempDir()
		scripts := cargos(t, dir, "aarch64-unknown-linux-musl x86_64-unknown-linux-musl")
		scripts["cargo-zigbuild"] = ""
		log := recorders(t, scripts)
		if t.Setenv(name, tt.mine); tt.mine == "" {
			os.Unsetenv(name)
		}
		tt.p.Dir = dir
		b := plan(t, tt.p, linux(runtime.GOARCH, ""))[0]
		if err := os.Remove(log); err != nil { // of planning
			t.Fatal(err)
		}
		run(t, b)
		got := ""
		for line := range strings.Lines(logged(t, log)) {
			if value, ok := strings.CutPrefix(line, name+"="); ok {
				got = strings.TrimSpace(value)
			}
			if strings.Contains(line, "CODEGEN_UNITS") || strings.Contains(line, "CARGO_INCREMENTAL") {
				t.Errorf("%+v sets %s", tt.p, line)
			}
		}
		if got != tt.want {
			t.Errorf("%+v with %q in the environment: %q, want %q", tt.p, tt.mine, got, tt.want)
		}
	}
}

// A linker that the project's configuration names is left alone; one that is
// found is named; the user's own flags stay.
func TestCargoLinker(t *testing.T) {
	cpu := map[string]string{"arm64": "aarch64", "amd64": "x86_64"}[other()]
	triple := cpu + "-unknown-linux-gnu"
	linker := "CARGO_TARGET_" + strings.ToUpper(strings.ReplaceAll(triple, "-", "_")) + "_LINKER=" + cpu + "-linux-gnu-gcc"
	dir := t.TempDir()
	scripts := cargos(t, dir, triple)
	scripts[cpu+"-linux-gnu-gcc"] = ""
	recorders(t, scripts)
	t.Setenv("RUSTFLAGS", "-Cforce-frame-pointers")
	b := plan(t, toolchain.Project{Dir: dir, Env: map[string]string{"B": "2", "A": "1"}}, linux(other(), ""))[0]
	env := strings.Join(b.Env, "\n")
	for _, want := range []string{linker, "RUSTFLAGS=-Cforce-frame-pointers -Ctarget-feature=+crt-static", "A=1\nB=2"} {
		if !strings.Contains(env, want) {
			t.Errorf("no %s in\n%s", want, env)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, ".cargo"), 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, ".cargo"), map[string]string{"config.toml": "[target." + triple + "]\nlinker = \"mine\"\n"})
	b = plan(t, toolchain.Project{Dir: dir}, linux(other(), ""))[0]
	if env := strings.Join(b.Env, "\n"); strings.Contains(env, "_LINKER") {
		t.Errorf("a linker over the project's own:\n%s", env)
	}
}

// Go's flags: the project's own join ours, cgo gets a compiler and is static.
func TestGo(t *testing.T) {
	dir := t.TempDir()
	gcc := map[string]string{"arm64": "aarch64-linux-gnu-gcc", "amd64": "x86_64-linux-gnu-gcc"}[other()]
	log := recorders(t, map[string]string{
		"go": `[ "$1" = list ] && { echo; echo example.com/app/cmd/server/v2 /elsewhere; }; exit 0`, gcc: "",
	})
	write(t, dir, map[string]string{"go.mod": ""})
	p := toolchain.Project{Dir: dir, Cache: t.TempDir(), Features: []string{"a", "b"},
		Flags: []string{"-ldflags", "-X main.v=1", "-tags=c", "-mod=vendor", "-race"}, Env: map[string]string{"CGO_ENABLED": "1"}}
	b := plan(t, p, linux(other(), ""))[0]
	got := strings.Join(b.Argv, " ")
	want := "go build -trimpath -ldflags=-s -w -linkmode=external -extldflags=-static -X main.v=1 -tags=netgo,osusergo,a,b,c -mod=vendor -race -o "
	if !strings.HasPrefix(got, want) || !strings.HasSuffix(got, " example.com/app/cmd/server/v2") {
		t.Errorf("%s\nwant %s…", got, want)
	}
	if env := strings.Join(b.Env, " "); env != "GOOS=linux GOARCH="+other()+" CGO_ENABLED=1 CC="+gcc+" CGO_ENABLED=1" {
		t.Errorf("environment: %s", env)
	}
	if got := logged(t, log); !strings.Contains(got, "-tags=a,b,c -mod=vendor ./...") {
		t.Errorf("go list was asked %s", got)
	}
	p = toolchain.Project{Dir: dir, Cache: p.Cache, Debug: true}
	for _, b := range plan(t, p, linux("arm", "v6"), linux("amd64", "v3")) {
		if argv := strings.Join(b.Argv, " "); strings.Contains(argv, "ldflags") {
			t.Errorf("symbols were to stay: %s", argv)
		}
		env := strings.Join(b.Env, " ")
		if want := map[string]string{"arm": "GOARCH=arm GOARM=6", "amd64": "GOARCH=amd64 GOAMD64=v3"}[b.Platform.Architecture]; !strings.Contains(env, want) {
			t.Errorf("no %s in %s", want, env)
		}
	}
}

// What cannot be planned ends with the next step.
func TestPlanErrors(t *testing.T) {
	dir := t.TempDir()
	recorders(t, cargos(t, dir, ""))
	empty, several := t.TempDir(), t.TempDir()
	write(t, several, map[string]string{"a.c": ""})
	work := t.TempDir()
	write(t, work, map[string]string{"go.work": "go 1.24\n"})
	for _, tt := range []struct {
		p          toolchain.Project
		want, hint string
	}{
		{toolchain.Project{Dir: empty}, "no go.mod, Cargo.toml, build.zig, CMakeLists.txt, Makefile or C source here", "toolchain = {"},
		{toolchain.Project{Dir: dir, Use: "zig"}, "linux/s390x cannot be compiled for here: no zig", "https://ziglang.org/download"},
		{toolchain.Project{Dir: dir}, "no standard library of Rust for s390x-unknown-linux-musl", "libstd-rust-dev:s390x"},
		{toolchain.Project{Dir: dir, Features: []string{"app/tsl"}}, `has no feature "app/tsl", but loud, tls`, ""},
		{toolchain.Project{Dir: dir, Binaries: []string{"nope"}}, `makes no binary "nope", but app, tool`, ""},
		{toolchain.Project{Dir: several}, "no C compiler s390x-linux-gnu-gcc", "apt-get install gcc-s390x-linux-gnu"},
		{toolchain.Project{Dir: several, NoDefaults: true}, "no-default-features is cargo's", ""},
		{toolchain.Project{Dir: several, Incremental: true}, "toolchain.incremental: only cargo takes it, and what compiles here is c", "leave it out"},
		{toolchain.Project{Dir: dir, Command: []string{"true"}, Incremental: true, Whole: true}, "only cargo takes it, and what compiles here is command", "leave it out"},
		{toolchain.Project{Dir: work}, "is a workspace of Go modules, and none itself", ""},
		{toolchain.Project{Dir: dir, Command: []string{"no-such-compiler"}}, `there is no program "no-such-compiler" in PATH`, ""},
		{toolchain.Project{Dir: dir, Use: "make"}, `toolchain "make" is not known: want go, cargo`, ""},
	} {
		_, err := tt.p.Plan(t.Context(), []ocispec.Platform{linux("s390x", "")})
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%v, want %s", err, tt.want)
			continue
		}
		var hinted interface{ Hint() string }
		if tt.hint != "" && (!errors.As(err, &hinted) || !strings.Contains(hinted.Hint(), tt.hint)) {
			t.Errorf("%v: no next step with %s", err, tt.hint)
		}
	}
}

// A build by make happens in a copy, which follows the sources and has nothing
// else of the project's directory.
func TestMakeCopy(t *testing.T) {
	dir := t.TempDir()
	recorders(t, map[string]string{
		"cc":   "",
		"make": `cd "$2" && { printf '\177ELF '; cat *.c; } >app && chmod +x app && [ "$CFLAGS" = "-O2 -DTLS" ]`,
	})
	p := toolchain.Project{Dir: dir, Cache: t.TempDir(), Features: []string{"TLS"}}
	write(t, dir, map[string]string{"Makefile": "", "a.c": "a", "b.c": "b", "main.c": "\x7fELF of this machine"})
	for _, step := range []struct {
		want   string
		change func() error
	}{
		{"ab", func() error { return nil }},
		{"b", func() error { return os.Remove(filepath.Join(dir, "a.c")) }},
		{"new", func() error { return os.WriteFile(filepath.Join(dir, "b.c"), []byte("new"), 0o666) }},
	} {
		if err := step.change(); err != nil {
			t.Fatal(err)
		}
		made := run(t, plan(t, p, linux(runtime.GOARCH, ""))[0])
		if b, err := os.ReadFile(made[0].Path); err != nil || string(b) != "\x7fELF "+step.want {
			t.Errorf("made of %q, %v; want %q", b, err, step.want)
		}
	}
}
