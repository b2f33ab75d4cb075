package toolchain

import (
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func TestManager(t *testing.T) {
	for release, want := range map[string]string{
		"ID=debian\n": "apt-get", "NAME=Mint\nID=linuxmint\nID_LIKE=\"ubuntu debian\"\n": "apt-get", "ID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"\n": "dnf",
		"ID=alpine\nVERSION_ID=3.22.1\n": "apk", "ID=arch": "pacman", "ID=nixos\n": "", "": "",
	} {
		if got := managerOf([]byte(release)); got != want {
			t.Errorf("%q: %q, want %q", release, got, want)
		}
	}
}

// The line that is shown is one that this machine's package manager takes; where
// none of its packages would do, the text says so.
func TestInstallLine(t *testing.T) {
	far, err := targetOf(ocispec.Platform{OS: "linux", Architecture: "s390x"})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		by            install
		manager, want string
	}{
		{far.gcc(false), "apt-get", "apt-get install gcc-s390x-linux-gnu"},
		{far.gcc(true), "apt-get", "apt-get install g++-s390x-linux-gnu"},
		{far.gcc(false), "dnf", "build on a machine of that architecture, or in a Dockerfile: no package here brings a compiler with a C library for it"},
		{same("cmake"), "apk", "apk add cmake"},
		{same("cmake"), "", "apt-get install cmake, or what brings it elsewhere"},
		{zigTool(), "apt-get", "install zig: https://ziglang.org/download"},
		{zigbuildTool(), "brew", "brew install cargo-zigbuild zig"},
		{muslGCC(), "pacman", "pacman -S musl"},
		{install{"apt-get": "x"}, "dnf", "none of dnf's packages brings it"},
	} {
		if got := tt.by.line(tt.manager); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.manager, got, tt.want)
		}
	}
}

func TestLess(t *testing.T) {
	for _, tt := range []struct {
		a, b string
		want bool
	}{
		{"1.9", "1.26", true}, {"1.26.8", "1.26", false}, {"1.26", "1.26.0", false}, {"1.21", "1.21.1", true}, {"0.14.0-dev.1+abc", "0.14", false},
		{"1.27rc1", "1.27", false}, {"", "1.0", false}, {"1.0", "", false}, {"99999999999999999999.1", "1", false},
	} {
		if got := less(tt.a, tt.b); got != tt.want {
			t.Errorf("%s < %s: %v", tt.a, tt.b, got)
		}
	}
}
