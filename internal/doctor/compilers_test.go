package doctor_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/lighter-oci/lighter/internal/doctor"
	"github.com/lighter-oci/lighter/internal/report"
	"github.com/lighter-oci/lighter/internal/toolchain"
)

// Targets are what pack would say of them, each platform and variant by itself.
func TestTargets(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "go.mod"), []byte("module example.com/x\n\ngo 1.21\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "main.go"), []byte("package main\n\nfunc main() {}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	for _, name := range []string{"CC", "CXX", "CGO_ENABLED"} { // make test says so of this program
		t.Setenv(name, "")
	}
	s390x := ocispec.Platform{OS: "linux", Architecture: "s390x"}
	windows := ocispec.Platform{OS: "windows", Architecture: "amd64"}
	cgo := map[string]string{"CGO_ENABLED": "1"}
	targets, pairs := doctor.Targets(t.Context(), []doctor.Compiled{
		{Project: toolchain.Project{Dir: dir}},
		{Project: toolchain.Project{Dir: dir, Env: cgo}, Platforms: []ocispec.Platform{s390x}, Variant: "variant c"},
		{Project: toolchain.Project{Dir: dir, Command: []string{"make"}, Output: "x"}, Platforms: []ocispec.Platform{windows}},
		{Project: toolchain.Project{Dir: t.TempDir()}, Platforms: []ocispec.Platform{s390x}},
		{Project: toolchain.Project{Use: "go"}, Platforms: []ocispec.Platform{s390x, windows}},
	})
	if len(pairs) > 0 {
		t.Errorf("%+v", pairs)
	}
	want := []string{
		"ok go linux/amd64: can be compiled for here → ",
		"ok go linux/arm64: can be compiled for here → ",
		"no go linux/s390x, variant c: cannot be compiled for here: no C compiler s390x-linux-gnu-gcc → ",
		"no windows/amd64: platform windows/amd64: nothing here compiles for it",
		"no linux/s390x: ",
		"ok go linux/s390x: can be compiled for here → ",
		"no go windows/amd64: platform windows/amd64: nothing here compiles for it",
	}
	if len(targets) != len(want) {
		t.Fatalf("%+v", targets)
	}
	for i, c := range targets {
		if got := fmt.Sprintf("%s %s: %s → %s", c.State, c.Name, c.Found, c.Fix); !strings.HasPrefix(got, want[i]) {
			t.Errorf("%s\nwant %s", got, want[i])
		}
	}
	if fix := targets[2].Fix; !strings.Contains(fix, "s390x") && !strings.Contains(fix, "architecture") {
		t.Errorf("cgo for s390x: next step %q", fix)
	}
}

// A tool that is known to end badly is told once, however many variants use it.
func TestPairs(t *testing.T) {
	dir, bin := t.TempDir(), t.TempDir()
	program(t, bin, "go", `case $1 in env) echo local;; list) exit 1;; *) echo go version go1.20.1 linux/amd64;; esac`)
	t.Setenv("PATH", bin+":/usr/bin:/bin")
	t.Setenv("GOTOOLCHAIN", "local")
	if err := os.WriteFile(filepath.Join(dir, "go.mod"), []byte("module example.com/x\n\ngo 1.26\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p := doctor.Compiled{Project: toolchain.Project{Dir: dir}}
	targets, pairs := doctor.Targets(t.Context(), []doctor.Compiled{p, p})
	if len(targets) != 4 || targets[0].State != report.CheckNo {
		t.Errorf("%+v", targets)
	}
	if len(pairs) != 1 || pairs[0].Found != "go.mod wants Go 1.26, this is 1.20.1, which fetches no other" || pairs[0].Fix == "" {
		t.Errorf("%+v", pairs)
	}
}

// Without a compiler there is nothing to ask about, and no error either.
func TestNoCompilers(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	if all := doctor.Anything(); len(all) > 0 {
		t.Errorf("%+v", all)
	}
	if targets, pairs := doctor.Targets(t.Context(), nil); targets == nil || pairs == nil {
		t.Error("null in the JSON")
	}
}
