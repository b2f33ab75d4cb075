package toolchain_test

import (
	"maps"
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/lighter-oci/lighter/internal/toolchain"
)

// Pairs that are known to end badly are named, and what is well is not.
func TestProblems(t *testing.T) {
	says := func(text string) string { return "echo '" + text + "'" }
	rust := func(more map[string]string) map[string]string {
		tools := map[string]string{"cargo": says("cargo 1.95.0 (f2d3ce0bd 2026-03-21)"), "rustc": `case "$2" in sysroot) echo $HOME/.rustup/toolchains/stable;; target-libdir) [ "$4" = "$HAS" ] && echo $STD || echo /nowhere;; *) echo 'rustc 1.95.0 (59807616e 2026-04-14)';; esac`}
		maps.Copy(tools, more)
		return tools
	}
	crate := map[string]string{"Cargo.toml": "[package]\nname = \"a\"\nrust-version = \"1.85\"\n", "Cargo.lock": "version = 4\n\n[[package]]\nname = \"cc\"\n"}
	for name, tt := range map[string]struct {
		tools, files map[string]string
		env          map[string]string
		use          string
		want         string // of each problem tools and what, a part; "" is none
		fix          string
	}{
		"old Go that fetches no other": {
			tools: map[string]string{"go": `case $1 in env) echo local;; *) echo go version go1.24.1 linux/amd64;; esac`},
			files: map[string]string{"go.mod": "module x\n\ngo 1.26.0\n"}, use: "go",
			want: "go and go.mod: go.mod wants Go 1.26.0, this is 1.24.1", fix: "https://go.dev/doc/install",
		},
		"old Go that fetches another": {
			tools: map[string]string{"go": `case $1 in env) echo auto;; *) echo go version go1.24.1 linux/amd64;; esac`},
			files: map[string]string{"go.mod": "module x\n\ngo 1.26.0\n"}, use: "go",
		},
		"Go that knows of no others": {
			tools: map[string]string{"go": `case $1 in env) echo;; *) echo go version go1.19.8 linux/amd64;; esac`},
			files: map[string]string{"go.mod": "module x\n\ngo 1.22\n"}, use: "go",
			want: "go and go.mod: go.mod wants Go 1.22, this is 1.19.8",
		},
		"a module that needs cgo": {
			tools: map[string]string{"go": says("go version go1.26.0 linux/amd64")},
			files: map[string]string{"go.mod": "module x\n\ngo 1.26\n\nrequire github.com/mattn/go-sqlite3 v1.14.22\n"}, use: "go",
			want: "cgo and github.com/mattn/go-sqlite3: ", fix: "CGO_ENABLED",
		},
		"cgo, on": {
			tools: map[string]string{"go": says("go version go1.26.0 linux/amd64"), "cc": "echo /usr/lib/libc.a"},
			files: map[string]string{"go.mod": "module x\n\ngo 1.26\n\nrequire github.com/mattn/go-sqlite3 v1.14.22\n"}, use: "go",
			env: map[string]string{"CGO_ENABLED": "1"},
		},
		"no libc.a": {
			tools: map[string]string{"cc": "echo libc.a"}, use: "c",
			want: "cc and libc.a: cc links nothing statically", fix: "apt-get install libc6-dev",
		},
		"a lock file that cargo does not read": {
			tools: rust(map[string]string{"cargo": says("cargo 0.66.0"), "rustc": `[ "$1" = --print ] && echo /usr || echo rustc 1.63.0`}), files: crate, use: "cargo",
			want: "cargo and Cargo.lock: the lock file has version 4|rustc and Cargo.toml: Cargo.toml wants Rust 1.85, this is 1.63.0", fix: "https://rustup.rs",
		},
		"a Rust that is not rustup's": {
			tools: rust(map[string]string{"rustup": "", "rustc": `[ "$1" = --print ] && echo /usr || echo rustc 1.95.0`}), use: "cargo",
			want: "rustc and rustup: rustc is ", fix: "PATH",
		},
		"a Rust that is": {tools: rust(map[string]string{"rustup": ""}), files: crate, use: "cargo"},
		"C in crates, for musl": {
			tools: rust(nil), files: crate, use: "cargo", env: map[string]string{"HAS": "x86_64-unknown-linux-musl"},
			want: "Rust's x86_64-unknown-linux-musl and C: crates compile C for it", fix: "install ",
		},
		"C in crates, with its compiler": {
			tools: rust(map[string]string{"x86_64-linux-musl-gcc": ""}), files: crate, use: "cargo", env: map[string]string{"HAS": "x86_64-unknown-linux-musl"},
		},
		"zigbuild without zig": {tools: rust(map[string]string{"cargo-zigbuild": says("cargo-zigbuild 0.20.1")}), use: "cargo", want: "cargo-zigbuild and zig: "},
		"zigbuild with an old zig": {
			tools: rust(map[string]string{"cargo-zigbuild": says("cargo-zigbuild 0.20.1"), "zig": says("0.9.1")}), use: "cargo",
			want: "cargo-zigbuild and zig: zig 0.9.1 refuses", fix: "ziglang.org",
		},
		"an old zigbuild": {
			tools: rust(map[string]string{"cargo-zigbuild": says("cargo-zigbuild 0.14.5"), "zig": says("0.11.0")}), use: "cargo",
			want: "cargo-zigbuild and rustc: Rust from 1.70", fix: "cargo install cargo-zigbuild",
		},
		"a zigbuild older than Rust, for arm64": {
			tools: rust(map[string]string{"cargo-zigbuild": says("cargo-zigbuild 0.22.3"), "zig": says("0.15.2"), "rustc": `[ "$1" = --print ] && echo $HOME/.rustup/toolchains/x || echo rustc 1.98.0`}),
			use:   "cargo", want: "cargo-zigbuild and rustc: for arm64",
		},
		"zigbuild and zig": {tools: rust(map[string]string{"cargo-zigbuild": says("cargo-zigbuild 0.22.3"), "zig": says("0.15.2")}), use: "cargo"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			recorders(t, tt.tools)
			std := t.TempDir()
			write(t, dir, tt.files)
			write(t, std, map[string]string{"libstd-1.rlib": ""})
			t.Setenv("GOTOOLCHAIN", "")
			t.Setenv("RUSTUP_HOME", "")
			t.Setenv("STD", std)
			for key, value := range tt.env {
				t.Setenv(key, value)
			}
			p := toolchain.Project{Dir: dir, Use: tt.use}
			var got []string
			for _, found := range p.Problems(t.Context(), []ocispec.Platform{linux("amd64", ""), linux("arm64", "")}) {
				got = append(got, found.Tools+": "+found.What)
				if !strings.Contains(found.Fix, tt.fix) || found.Fix == "" {
					t.Errorf("%s: fix %q, want %q", found.Tools, found.Fix, tt.fix)
				}
			}
			want := strings.Split(tt.want, "|")
			if tt.want == "" {
				want = nil
			}
			if len(got) != len(want) {
				t.Fatalf("%q, want %q", got, want)
			}
			for i := range want {
				if !strings.HasPrefix(got[i], want[i]) {
					t.Errorf("%q, want %q", got[i], want[i])
				}
			}
		})
	}
}
