package project_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lighter-oci/lighter/internal/project"
)

func TestNames(t *testing.T) {
	for _, tt := range []struct {
		text, variant, version string
		want                   []string
	}{
		{"", "", "1.2.3", nil},
		{"image = 'r:5000/app'", "", "1.2.3", []string{"r:5000/app:latest"}},
		{"image = 'r:5000/app:dev'", "", "1.2.3", []string{"r:5000/app:dev"}},
		{"image = 'r:5000/app:dev'\n[variants.slim]", "slim", "1", []string{"r:5000/app:slim-dev"}},
		{"image = 'app'\ntags = ['{version}', '{major}.{minor}', '{major}', 'latest']", "", "1.2.3-rc.1+b5", []string{"app:1.2.3-rc.1_b5", "app:1.2", "app:1", "app:latest"}},
		{"image = 'app'\ntags = ['{major}.{minor}.{patch}']", "", "2", []string{"app:2.0.0"}},
		{"image = 'app'\n[variants.slim]", "slim", "1.2.3", []string{"app:slim"}},
		{"image = 'app'\ntags = ['{version}', 'latest']\n[variants.slim]", "slim", "1.2.3", []string{"app:slim-1.2.3", "app:slim"}},
		{"image = 'app'\ntags = ['{version}', '{version}-{variant}']\n[variants.slim]", "slim", "1.2.3", []string{"app:1.2.3-slim"}},
		{"image = 'app'\ntags = ['{version}', '{version}-{variant}']\n[variants.slim]", "", "1.2.3", []string{"app:1.2.3"}},
		{"image = 'app'\ntags = ['x']\n[variants.slim]\ntags = ['latest', '{variant}']", "slim", "1", []string{"app:latest", "app:slim"}},
		{"image = 'app'\n[variants.'{db}']\nmatrix.db = ['pg', 'my']\ntags = ['with-{db}-{variant}']", "my", "1", []string{"app:with-my-my"}},
	} {
		v, err := parse(t, tt.text).Variant(tt.variant)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(tt.want, v.At(tt.version).Names()); diff != "" {
			t.Errorf("%s\nvariant %q: %s", tt.text, tt.variant, diff)
		}
	}
}

// Of the tags, those are fixed that stand for one version, as they are written; of
// a pre-release, its release's numbers are another version.
func TestFixed(t *testing.T) {
	const tags = "image = 'app'\ntags = ['latest', '{major}', '{major}.{minor}', 'v{major}.{minor}.{patch}', '{version}-{variant}', '{version}', '1.2.3-base']\n[variants.slim]\ntags = ['slim', '{version}-slim']"
	for _, tt := range []struct {
		variant, version string
		pre              bool
		want             []string
	}{
		{"", "1.2.3", false, []string{"v1.2.3", "1.2.3"}},
		{"", "1.2.3+b-5", false, []string{"v1.2.3", "1.2.3_b-5"}},
		{"", "1.2.3-rc.1", true, []string{"1.2.3-rc.1"}},
		{"slim", "1.2.3-rc.1+b5", true, []string{"1.2.3-rc.1_b5-slim"}},
	} {
		v, err := parse(t, tags).Variant(tt.variant)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(tt.want, v.At(tt.version).Fixed); diff != "" {
			t.Errorf("%q %s: %s", tt.variant, tt.version, diff)
		}
		if got := project.IsPrerelease(tt.version); got != tt.pre {
			t.Errorf("%s: a pre-release: %v", tt.version, got)
		}
	}
}

// A variant has what it says itself, and the project's of the rest; the project
// stays as it was.
func TestVariant(t *testing.T) {
	p := parse(t, `
target = "all"
base = "debian"
features = ["a"]
args = { X = "{variant}", Y = "1", V = "{version}" }
contexts = { a = "{variant}-{version}", b = "b" }
labels = { l = "{variant} of {version} {}" }
[variants.slim]
base = "scratch"
features = []
args = { Y = "2" }
contexts = { b = "c" }
[variants.full]
target = "full"
no-default-features = true
`)
	slim, err := p.Variant("slim")
	if err != nil {
		t.Fatal(err)
	}
	if !slim.NeedsVersion() {
		t.Error("args ask for a version, and nobody would read it")
	}
	slim = slim.At("1.2.3")
	slim.Image = "r:5000/app:1"
	if got, full := slim.CacheRef("auto"), slim.CacheRef("r/cache"); got != "r:5000/app:buildcache-slim" || full != "r/cache" {
		t.Errorf("caches %s and %s", got, full)
	}
	if slim.NeedsVersion() {
		t.Error("still wants a version")
	}
	if slim.Target != "all" || slim.Base != "scratch" || len(slim.Features) > 0 || slim.NoDefaults {
		t.Errorf("slim is %+v", slim)
	}
	if diff := cmp.Diff(map[string]string{"X": "slim", "Y": "2", "V": "1.2.3"}, slim.Args); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(map[string]string{"a": "slim-1.2.3", "b": "c"}, slim.Contexts); diff != "" {
		t.Error(diff)
	}
	if got := slim.Labels["l"]; got != "slim of 1.2.3 {}" {
		t.Errorf("label %q", got)
	}
	full, err := p.Variant("full")
	if err != nil {
		t.Fatal(err)
	}
	if full.Target != "full" || full.Base != "debian" || !full.NoDefaults || !cmp.Equal(full.Features, []string{"a"}) {
		t.Errorf("full is %+v", full)
	}
	if p.Args["X"] != "{variant}" || len(p.Args) != 3 {
		t.Errorf("the project's args became %v", p.Args)
	}
	_, err = p.Variant("slin")
	if want := `lighter.toml has no variant "slin"; did you mean slim?`; err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
	_, err = parse(t, "").Variant("slim")
	if want := `lighter.toml has no variant "slim"; there are none`; err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
}

func TestReadVersion(t *testing.T) {
	for _, tt := range []struct {
		name, source string
		files        map[string]string
		want, err    string
	}{
		{name: "literal", source: "v1.2.3", want: "1.2.3"},
		{name: "cargo", source: "Cargo.toml", files: map[string]string{"Cargo.toml": "[package]\nversion = '0.4.1'\n"}, want: "0.4.1"},
		{name: "workspace", files: map[string]string{"Cargo.toml": "[workspace.package]\nversion = '0.5.0'\n[package]\nversion.workspace = true\n"}, want: "0.5.0"},
		{name: "npm", files: map[string]string{"package.json": `{"version": "2.0.0-rc.1"}`}, want: "2.0.0-rc.1"},
		{name: "python", files: map[string]string{"pyproject.toml": "[project]\nversion = '3.1'\n"}, want: "3.1"},
		{name: "plain", files: map[string]string{"VERSION": "v7.8.9\n"}, want: "7.8.9"},
		{name: "other", source: "etc/v.txt", files: map[string]string{"etc/v.txt": "1"}, want: "1"},
		{name: "next", files: map[string]string{"package.json": "{}", "VERSION": "4.5.6"}, want: "4.5.6"},
		{name: "none", source: "package.json", files: map[string]string{"package.json": "{}"}, err: "version: package.json: there is no version in it"},
		{name: "gone", source: "v.txt", err: "version: open"},
		{name: "broken", files: map[string]string{"Cargo.toml": "["}, err: "version: Cargo.toml: "},
		{name: "words", source: "VERSION", files: map[string]string{"VERSION": "soon"}, err: `version: VERSION: "soon" is none: want 1.2.3`},
		{name: "nothing", err: "no version in Cargo.toml, package.json, pyproject.toml or VERSION, and git has no tag like v1.2.3: "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			t.Setenv("GIT_CEILING_DIRECTORIES", filepath.Dir(dir))
			for name, text := range tt.files {
				write(t, filepath.Join(dir, name), text)
			}
			got, err := project.Project{Path: filepath.Join(dir, project.Name), Version: tt.source}.ReadVersion(t.Context())
			if got != tt.want || (err == nil) != (tt.err == "") || err != nil && !strings.HasPrefix(err.Error(), tt.err) {
				t.Errorf("%q, %v; want %q, %s", got, err, tt.want, tt.err)
			}
		})
	}
}

func TestVersionFromGit(t *testing.T) {
	dir := t.TempDir()
	git := func(args ...string) {
		t.Helper()
		cmd := exec.Command("git", append([]string{"-C", dir, "-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"}, args...)...)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("git %v: %v\n%s", args, err, out)
		}
	}
	p := project.Project{Path: filepath.Join(dir, project.Name), Version: "git"}
	git("init", "-q")
	git("commit", "-q", "--allow-empty", "-m", "a")
	if _, err := p.ReadVersion(t.Context()); err == nil {
		t.Error("a version without a tag")
	}
	git("tag", "v1.4.0")
	git("tag", "nightly")
	if v, err := p.ReadVersion(t.Context()); err != nil || v != "1.4.0" {
		t.Errorf("%q, %v", v, err)
	}
	git("commit", "-q", "--allow-empty", "-m", "b")
	if v, err := p.ReadVersion(t.Context()); err != nil || !strings.HasPrefix(v, "1.4.0-1-g") {
		t.Errorf("%q, %v", v, err)
	}
}

// The nearest file counts, and what is no part of the project is not looked at.
func TestFind(t *testing.T) {
	root := t.TempDir()
	t.Setenv("HOME", filepath.Join(root, "home"))
	for _, dir := range []string{"home/ann/src/sub", "home/ann/repo/.git", "home/ann/repo/deep/er", "open/x", "home/dir/lighter.toml"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, file := range []string{"lighter.toml", "home/lighter.toml", "home/ann/lighter.toml", "home/ann/src/lighter.toml", "open/lighter.toml"} {
		write(t, filepath.Join(root, file), "")
	}
	if err := os.Chmod(filepath.Join(root, "open"), 0o777|os.ModeSticky); err != nil {
		t.Fatal(err)
	}
	for dir, want := range map[string]string{
		"home/ann/src/sub":      "home/ann/src/lighter.toml",
		"home/ann/src":          "home/ann/src/lighter.toml",
		"home/ann":              "home/ann/lighter.toml",
		"home/ann/repo/deep/er": "", // the work tree ends the project
		"home":                  "home/lighter.toml",
		"home/dir":              "", // not the home directory's; nor a directory of that name
		"open/x":                "", // anybody could have written it
		"open":                  "open/lighter.toml",
	} {
		got, err := project.Find(filepath.Join(root, dir))
		if want != "" {
			want = filepath.Join(root, want)
		}
		if err != nil || got != want {
			t.Errorf("%s: %q, %v; want %q", dir, got, err, want)
		}
	}
	if _, err := project.Find(filepath.Join(root, "nowhere")); err == nil {
		t.Error("a directory that is not there has a project")
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// What only packs have is known by name, of variants, too.
func TestPackKeys(t *testing.T) {
	for text, want := range map[string]string{
		"image = 'a'\n[labels]\nx = 'y'\n":                     "[] false",
		"user = 'app'\nexpose = [80]\nentrypoint = ['/app']\n": "[entrypoint user expose] true",
		"[toolchain]\nflags = ['-v']\n":                        "[toolchain] true",
		"[variants.a]\nfeatures = ['a']\n":                     "[] true",
		"[variants.a]\nargs = { A = 'a' }\n":                   "[] false",
	} {
		p, err := project.Parse(project.Name, []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprint(p.PackKeys(), p.Packs()); got != want {
			t.Errorf("%s: %s, want %s", text, got, want)
		}
	}
}
