package project

import (
	"context"
	"encoding/json"
	"maps"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"
)

// ExampleHost is the registry that Init writes where it knows none.
const ExampleHost = "registry.example.com"

// found is what a directory looks like to somebody who would write its file.
type found struct {
	Image      string
	Kind       string // "Go module", "Rust crate", …; "" where nothing is known
	Dockerfile bool
	Version    string // the file that has one
	Toolchain  string
	Command    string // that makes something, of which nobody says where
	Binaries   []string
	Features   []string
	Checks     [][2]string // name and command line
	Source     string      // URL of the repository, "" where it is not known
	GitHub     bool        // a workflow comes with it
	Schema     string
}

// OnlyPacks tells whether there is nothing to build with.
func (f found) OnlyPacks() bool { return f.Toolchain != "" && !f.Dockerfile }

// look finds out what lies in a directory.
func look(dir string) found {
	f := found{Schema: SchemaURL}
	name := filepath.Base(dir)
	if abs, err := filepath.Abs(dir); err == nil {
		name = filepath.Base(abs)
	}
	has := func(file string) bool {
		info, err := os.Stat(filepath.Join(dir, file))
		return err == nil && info.Mode().IsRegular()
	}
	f.Dockerfile = has("Dockerfile")
	switch {
	case has("go.mod"):
		f.Kind, f.Toolchain = "Go module", "go"
		f.Checks = [][2]string{{"test", "go test ./..."}, {"vet", "go vet ./..."}}
		f.Binaries = commands(dir)
		if m := goModule(dir); m != "" {
			name = m
		}
	case has("Cargo.toml"):
		f.Kind, f.Toolchain, f.Version = "Rust crate", "cargo", "Cargo.toml"
		locked := ""
		if has("Cargo.lock") {
			locked = " --locked"
		}
		f.Checks = [][2]string{{"test", "cargo test" + locked}, {"clippy", "cargo clippy" + locked + " -- -D warnings"}}
		if n := f.crate(dir); n != "" {
			name = n
		}
	case has("package.json"):
		f.Kind, f.Version = "Node package", "package.json"
		if n := f.node(dir); n != "" {
			name = n
		}
	case has("CMakeLists.txt"):
		f.Kind, f.Command = "CMake project", "cmake -B build -DCMAKE_BUILD_TYPE=Release && cmake --build build"
	case has("Makefile"):
		f.Kind, f.Command = "project with a Makefile", "make"
	case hasAny(dir, "*.c"):
		f.Kind, f.Toolchain = "C program", "c"
	case hasAny(dir, "*.cc", "*.cpp", "*.cxx"):
		f.Kind, f.Toolchain = "C++ program", "c++"
	case f.Dockerfile:
		f.Kind = "project with a Dockerfile"
	}
	if f.Version != "" {
		if _, err := fileVersion(dir, f.Version); err != nil {
			f.Version = ""
		}
	}
	f.Image = ExampleHost + "/" + repository(name)
	if slug := gitHub(dir); slug != "" {
		f.Image, f.Source = "ghcr.io/"+strings.ToLower(slug), "https://github.com/"+slug
	}
	return f
}

// hasAny tells whether a file of such a name lies in dir.
func hasAny(dir string, patterns ...string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool {
		names, err := filepath.Glob(filepath.Join(dir, p))
		return err == nil && len(names) > 0
	})
}

// commands are the main packages below cmd, where that is the only place to
// look and there are several.
func commands(dir string) []string {
	mains, err := filepath.Glob(filepath.Join(dir, "cmd", "*", "main.go"))
	if err != nil || len(mains) < 2 {
		return nil
	}
	var names []string
	for _, m := range mains {
		if name := filepath.Base(filepath.Dir(m)); shapes["binary"].wrong(name) == "" {
			names = append(names, name)
		}
	}
	return names
}

var moduleLine = regexp.MustCompile(`(?m)^module\s+"?([^\s"]+)`)

// goModule is the last part of a module's path, without a major version.
func goModule(dir string) string {
	data, err := readFile(filepath.Join(dir, "go.mod"))
	if err != nil {
		return ""
	}
	m := moduleLine.FindSubmatch(data)
	if m == nil {
		return ""
	}
	module := string(m[1])
	if base := path.Base(module); regexp.MustCompile(`\Av\d+\z`).MatchString(base) {
		module = path.Dir(module)
	}
	return path.Base(module)
}

// crate reads name, binaries and features of a Rust crate.
func (f *found) crate(dir string) string {
	data, err := readFile(filepath.Join(dir, "Cargo.toml"))
	if err != nil {
		return ""
	}
	var c struct {
		Package  struct{ Name string }
		Bin      []struct{ Name string }
		Features map[string]any
	}
	if toml.Unmarshal(data, &c) != nil {
		return ""
	}
	for _, b := range c.Bin {
		if shapes["binary"].wrong(b.Name) == "" {
			f.Binaries = append(f.Binaries, b.Name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(c.Features)) {
		if name != "default" && shapes["feature"].wrong(name) == "" {
			f.Features = append(f.Features, name)
		}
	}
	return c.Package.Name
}

// noTest is what `npm init` writes where there are no tests: it fails.
const noTest = "no test specified"

// node reads name and tests of a Node package.
func (f *found) node(dir string) string {
	data, err := readFile(filepath.Join(dir, "package.json"))
	if err != nil {
		return ""
	}
	var p struct {
		Name    string
		Scripts struct{ Test string }
	}
	_ = json.Unmarshal(data, &p) // what has another type is not there
	if t := p.Scripts.Test; t != "" && !strings.Contains(t, noTest) {
		f.Checks = [][2]string{{"test", "npm test"}}
	}
	if p.Name == "" {
		return ""
	}
	return path.Base(p.Name) // without the scope
}

// gitHub is OWNER/NAME of the repository on GitHub that dir was cloned from; ""
// where it is from elsewhere.
func gitHub(dir string) string {
	remote, err := git(context.Background(), dir, "remote", "get-url", "origin")
	if err != nil {
		return ""
	}
	if rest, ok := strings.CutPrefix(remote, "git@github.com:"); ok {
		remote = "https://github.com/" + rest
	}
	u, err := url.Parse(remote)
	if err != nil || u.Hostname() != "github.com" {
		return ""
	}
	slug := strings.TrimSuffix(strings.Trim(u.Path, "/"), ".git")
	if shapes["image"].wrong("ghcr.io/"+strings.ToLower(slug)) != "" {
		return ""
	}
	return slug
}

// repository makes a name that a registry takes out of any other.
func repository(name string) string {
	var parts []string
	for part := range strings.FieldsFuncSeq(strings.ToLower(name), func(c rune) bool {
		return (c < 'a' || c > 'z') && (c < '0' || c > '9')
	}) {
		parts = append(parts, part)
	}
	if len(parts) == 0 {
		return "app"
	}
	return strings.Join(parts, "-")
}
