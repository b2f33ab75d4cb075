package toolchain

import (
	"bufio"
	"bytes"
	"os"
	"runtime"
	"slices"
	"strings"
)

// install are the lines that bring a tool, by package manager. A manager that is
// not there has no package that would do.
type install map[string]string

// managers are the package managers of distributions, by ID and ID_LIKE of
// os-release(5).
var managers = map[string]string{
	"debian": "apt-get", "ubuntu": "apt-get", "fedora": "dnf", "rhel": "dnf", "centos": "dnf", "alpine": "apk", "arch": "pacman",
}

// manager answers the package manager of this machine, "" for one that is not
// known here.
func manager() string {
	if runtime.GOOS == "darwin" {
		return "brew"
	}
	for _, path := range []string{"/etc/os-release", "/usr/lib/os-release"} {
		if b, err := os.ReadFile(path); err == nil {
			return managerOf(b)
		}
	}
	return ""
}

func managerOf(release []byte) string {
	var names []string
	for s := bufio.NewScanner(bytes.NewReader(release)); s.Scan(); {
		key, value, _ := strings.Cut(s.Text(), "=")
		switch value = strings.Trim(value, `"'`); key {
		case "ID":
			names = append([]string{value}, names...)
		case "ID_LIKE":
			names = append(names, strings.Fields(value)...)
		}
	}
	for _, name := range names {
		if m := managers[name]; m != "" {
			return m
		}
	}
	return ""
}

// line is the one for this machine, or Debian's, or what there is instead.
func (i install) line(manager string) string {
	switch packages, ok := i[manager]; {
	case ok && manager == "brew":
		return "brew install " + packages
	case ok && manager == "apk":
		return "apk add " + packages
	case ok && manager == "pacman":
		return "pacman -S " + packages
	case ok:
		return manager + " install " + packages
	}
	if instead := i["else"]; instead != "" {
		return instead
	}
	if manager == "" && i["apt-get"] != "" {
		return "apt-get install " + i["apt-get"] + ", or what brings it elsewhere"
	}
	return "none of " + manager + "'s packages brings it"
}

// Sources: packages.debian.org, packages.fedoraproject.org, whose cross compilers
// have no C library, pkgs.alpinelinux.org, which has none of other architectures,
// and formulae.brew.sh.
func (t target) gcc(cxx bool) install {
	c, fedora, arch := "gcc", "gcc glibc-static", t.gnu()+"-gcc"
	if cxx {
		c, fedora = "g++", "gcc-c++ glibc-static libstdc++-static"
	}
	if t.native() {
		return install{"apt-get": c, "dnf": fedora, "apk": "build-base", "pacman": "base-devel"}
	}
	cross := install{"apt-get": c + "-" + t.deb, "else": "build on a machine of that architecture, or in a Dockerfile: no package here brings a compiler with a C library for it"}
	if slices.Contains([]string{"arm64", "riscv64"}, t.Architecture) {
		cross["pacman"] = arch
	}
	if runtime.GOOS == "darwin" && slices.Contains([]string{"amd64", "arm64"}, t.Architecture) {
		cross["brew"] = "messense/macos-cross-toolchains/" + t.cpu + "-unknown-linux-musl"
	}
	return cross
}

func same(name string) install {
	return install{"apt-get": name, "dnf": name, "apk": name, "pacman": name, "brew": name}
}

func rust() install { return install{"else": "install Rust: https://rustup.rs", "brew": "rustup"} }

func zigTool() install {
	return install{"else": "install zig: https://ziglang.org/download", "dnf": "zig", "apk": "zig", "pacman": "zig", "brew": "zig"}
}

func zigbuildTool() install {
	const both = "cargo-zigbuild zig"
	return install{"else": "cargo install cargo-zigbuild, and zig: https://ziglang.org/download", "apk": both, "pacman": both, "brew": both}
}

// muslGCC compiles the C of crates for musl's target of this machine.
func muslGCC() install {
	return install{"apt-get": "musl-tools", "dnf": "musl-gcc musl-libc-static", "apk": "build-base", "pacman": "musl"}
}

func (t target) binutils() install {
	by := install{"apt-get": "binutils-" + t.deb, "dnf": "llvm", "apk": "llvm", "pacman": "llvm", "brew": "llvm"}
	if t.native() {
		by = same("binutils")
	}
	return by
}
