package project

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/pelletier/go-toml/v2"
)

// aVersion is what a tag can be made of.
var aVersion = regexp.MustCompile(`\A\d+(\.\d+)*([-+.][0-9A-Za-z.+-]+)?\z`)

// IsVersion tells what can be a version.
func IsVersion(s string) bool { return aVersion.MatchString(s) }

// manifests are the files that have a version at a known place.
var manifests = map[string][][]string{
	"Cargo.toml":     {{"package", "version"}, {"workspace", "package", "version"}},
	"package.json":   {{"version"}},
	"pyproject.toml": {{"project", "version"}, {"tool", "poetry", "version"}},
}

// Version is a project's version and where it stands.
type Version struct {
	Number string // without a v before it
	// File is the one that holds it, from the project's directory: Name where the
	// project's own file says the number, "" where only git knows it.
	File string

	p Project
}

// ReadVersion answers the project's version, without a v before it.
func (p Project) ReadVersion(ctx context.Context) (string, error) {
	v, err := p.FindVersion(ctx)
	return v.Number, err
}

// FindVersion reads the version from where the file says, or from the first usual
// place that has one.
func (p Project) FindVersion(ctx context.Context) (Version, error) {
	source := p.Version
	if aVersion.MatchString(strings.TrimPrefix(source, "v")) {
		return Version{strings.TrimPrefix(source, "v"), filepath.Base(p.Path), p}, nil
	}
	if source != "" && source != "git" {
		number, err := fileVersion(p.Dir(), source)
		return Version{number, source, p}, err
	}
	if source == "" {
		for _, name := range []string{"Cargo.toml", "package.json", "pyproject.toml", "VERSION"} {
			number, err := fileVersion(p.Dir(), name)
			if err == nil {
				return Version{number, name, p}, nil
			}
			if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, errNoVersion) {
				return Version{}, err
			}
		}
	}
	number, err := gitVersion(ctx, p.Dir())
	if err != nil && source == "" {
		return Version{}, fmt.Errorf("no version in Cargo.toml, package.json, pyproject.toml or VERSION, and %w; say version = \"0.1.0\" in %s", err, Name)
	}
	return Version{number, "", p}, err
}

var errNoVersion = errors.New("there is no version in it")

// fileVersion reads a manifest, or a file that holds nothing but a version.
func fileVersion(dir, name string) (string, error) {
	data, err := readFile(filepath.Join(dir, name))
	if err != nil {
		return "", fmt.Errorf("version: %w", err)
	}
	paths, isManifest := manifests[filepath.Base(name)]
	if !isManifest {
		return checkVersion(name, string(data))
	}
	var all map[string]any
	if strings.HasSuffix(name, ".json") {
		err = json.Unmarshal(data, &all)
	} else {
		err = toml.Unmarshal(data, &all)
	}
	if err != nil {
		return "", fmt.Errorf("version: %s: %w", name, err)
	}
	for _, path := range paths {
		if v, ok := dig(all, path); ok {
			return checkVersion(name, v)
		}
	}
	return "", fmt.Errorf("version: %s: %w", name, errNoVersion)
}

// dig follows keys to a string.
func dig(in map[string]any, path []string) (string, bool) {
	for _, k := range path[:len(path)-1] {
		in, _ = in[k].(map[string]any)
	}
	s, ok := in[path[len(path)-1]].(string)
	return s, ok
}

func checkVersion(name, s string) (string, error) {
	v := strings.TrimPrefix(strings.TrimSpace(s), "v")
	if !aVersion.MatchString(v) {
		return "", fmt.Errorf("version: %s: %.40q is none: want 1.2.3", name, s)
	}
	return v, nil
}

// gitVersion is the last tag like v1.2.3, with what git describes behind it
// where there are commits since.
func gitVersion(ctx context.Context, dir string) (string, error) {
	out, err := git(ctx, dir, "describe", "--tags", "--match", "v[0-9]*", "--match", "[0-9]*")
	var refused *gitError
	if errors.As(err, &refused) {
		if is, _ := git(ctx, dir, "rev-parse", "--is-shallow-repository"); is == "true" {
			return "", errors.New("git has no tag like v1.2.3 in this shallow clone, which `git fetch --unshallow --tags` completes")
		}
		if strings.Contains(refused.said, "No names found") {
			return "", errors.New("git has no tag like v1.2.3")
		}
		return "", fmt.Errorf("git has no tag like v1.2.3: %s", strings.TrimSuffix(strings.TrimPrefix(refused.said, "fatal: "), "."))
	}
	if err != nil {
		return "", fmt.Errorf("git has no tag like v1.2.3: %w", err)
	}
	return checkVersion("git", out)
}
