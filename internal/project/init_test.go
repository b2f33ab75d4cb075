package project_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"
	"pgregory.net/rapid"

	"github.com/lighter-oci/lighter/internal/project"
)

// projects are what Init is shown, by the name of what it writes for them.
var projects = map[string]map[string]string{
	"go": {
		"go.mod":          "module example.com/team/Tool_Box/v3\n\ngo 1.26\n",
		"cmd/a/main.go":   "package main\n",
		"cmd/b/main.go":   "package main\n",
		"cmd/lib/code.go": "package lib\n",
	},
	"cargo": {
		"Cargo.toml": "[package]\nname = 'crate_a'\nversion = '0.3.0'\n[[bin]]\nname = 'x'\n[features]\ndefault = ['tls']\ntls = []\nmetrics = []\n",
		"Cargo.lock": "version = 4\n",
		"Dockerfile": "FROM scratch\n",
	},
	"crate":      {"Cargo.toml": "[package]\nname = 'b'\nversion = '0.1.0'\n"},
	"c":          {"hello.c": "int main(void) { return 0; }\n"},
	"node":       {"package.json": `{"name": "@team/web", "version": "1.0.0", "scripts": {"test": "node --test"}}`, "Dockerfile": "FROM scratch\n"},
	"node-bare":  {"package.json": `{"name": "web", "version": "1.0.0", "scripts": {"test": "echo \"Error: no test specified\" && exit 1", "build": "tsc"}}`},
	"node-none":  {"package.json": `{"version": "1.0.0", "scripts": ["test"]}`},
	"cmake":      {"CMakeLists.txt": "", "Makefile": ""},
	"make":       {"Makefile": ""},
	"dockerfile": {"Dockerfile": "FROM scratch\n"},
	"empty":      {},
}

func TestInit(t *testing.T) {
	for name, files := range projects {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "My Project")
			for file, text := range files {
				write(t, filepath.Join(dir, file), text)
			}
			if err := os.MkdirAll(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			t.Setenv("GIT_CEILING_DIRECTORIES", filepath.Dir(dir))
			done, err := project.Init(dir, project.InitOptions{})
			if err != nil {
				t.Fatal(err)
			}
			_, dockerfile := files["Dockerfile"]
			if len(done.Written) != 1 || done.Build != dockerfile {
				t.Errorf("%+v", done)
			}
			got := parses(t, dir)
			golden := filepath.Join("testdata", "init", name+".toml")
			if *update {
				write(t, golden, got)
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// Whatever a project is called, what is written for it is a file that lighter
// reads, the examples in it too.
func TestInitAlwaysParses(t *testing.T) {
	t.Setenv("GIT_CEILING_DIRECTORIES", os.TempDir())
	rapid.Check(t, func(r *rapid.T) {
		dir, err := os.MkdirTemp(t.TempDir(), "*")
		if err != nil {
			r.Fatal(err)
		}
		quoted := func(label string) string {
			s := rapid.String().Draw(r, label)
			return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(strings.Map(func(c rune) rune {
				if c < ' ' || c == 0x7f {
					return '_'
				}
				return c
			}, s)) + `"`
		}
		switch rapid.IntRange(0, 2).Draw(r, "kind") {
		case 0:
			write(t, filepath.Join(dir, "Cargo.toml"), "[package]\nname = "+quoted("name")+"\nversion = "+quoted("version")+
				"\n[[bin]]\nname = "+quoted("bin")+"\n[features]\n"+quoted("feature")+" = []\n"+`"b\u0001\u007f" = []`+"\n")
		case 1:
			write(t, filepath.Join(dir, "package.json"), `{"name": `+quoted("name")+`, "version": "1.2.3"}`)
		default:
			write(t, filepath.Join(dir, "go.mod"), "module "+rapid.String().Draw(r, "module"))
		}
		if rapid.Bool().Draw(r, "dockerfile") {
			write(t, filepath.Join(dir, "Dockerfile"), "")
		}
		if _, err := project.Init(dir, project.InitOptions{GitHub: rapid.Bool().Draw(r, "github"), Action: "main"}); err != nil {
			r.Fatal(err)
		}
		parses(r, dir)
	})
}

// parses reads what Init wrote, as it is and with its examples in force.
func parses(t rapid.TB, dir string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, project.Name))
	if err != nil {
		t.Fatal(err)
	}
	p, err := project.Parse(project.Name, text)
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	if p.Image == "" {
		t.Fatalf("no image in\n%s", text)
	}
	all := regexp.MustCompile(`(?m)^#([^ :])`).ReplaceAll(text, []byte("$1"))
	if p, err = project.Parse(project.Name, all); err != nil {
		t.Fatalf("%v\n%s", err, all)
	}
	if len(p.Platforms) == 0 || len(p.Tags) == 0 || len(p.Variants) == 0 || len(p.Labels) == 0 {
		t.Fatalf("the examples are not in force: %+v\n%s", p, all)
	}
	return string(text)
}

// A clone from GitHub knows its image, and its workflow pushes there.
func TestInitForGitHub(t *testing.T) {
	for remote, want := range map[string]string{
		"git@github.com:Team/App.git":                "ghcr.io/team/app",
		"https://github.com/Team/App":                "ghcr.io/team/app",
		"ssh://git@github.com/Team/App.git":          "ghcr.io/team/app",
		"https://ann:secret@git.example.com/t/a.git": "registry.example.com/dir",
	} {
		dir := filepath.Join(t.TempDir(), "dir")
		for _, args := range [][]string{{"init", "-q", dir}, {"-C", dir, "remote", "add", "origin", remote}} {
			if out, err := exec.Command("git", args...).CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
		}
		done, err := project.Init(dir, project.InitOptions{GitHub: true, Action: "v1.2.3"})
		if err != nil {
			t.Fatal(err)
		}
		if len(done.Written) != 2 || done.Image != want {
			t.Errorf("%s: %+v, want %s", remote, done, want)
		}
		p, err := project.Load(filepath.Join(dir, project.Name))
		if err != nil {
			t.Fatal(err)
		}
		if p.Image != want || p.Cache.Layers != "auto" {
			t.Errorf("%s: %+v", remote, p)
		}
		host, _, _ := strings.Cut(want, "/")
		if got := loginHost(t, dir); got != host {
			t.Errorf("%s: the workflow logs in to %s, want %s", remote, got, host)
		}
	}
}

// loginHost reads the workflow as GitHub does.
func loginHost(t *testing.T, dir string) string {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(dir, ".github/workflows/image.yml"))
	if err != nil {
		t.Fatal(err)
	}
	var w struct {
		Jobs map[string]struct {
			Steps []struct {
				Uses string
				With map[string]string
			}
		}
	}
	if err := yaml.Unmarshal(raw, &w); err != nil {
		t.Fatalf("%v\n%s", err, raw)
	}
	host, ours := "", ""
	for _, s := range w.Jobs["image"].Steps {
		if strings.HasPrefix(s.Uses, "docker/login-action@") {
			host = s.With["registry"]
		}
		if strings.HasPrefix(s.Uses, "lighter-oci/lighter@") {
			ours = s.Uses
		}
	}
	if ours != "lighter-oci/lighter@v1.2.3" {
		t.Errorf("the workflow uses %q", ours)
	}
	return host
}

// A project without a Dockerfile is packed by its workflow: the action only builds.
func TestInitForGitHubPacks(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	write(t, "go.mod", "module example.com/app\n")
	if _, err := project.Init(".", project.InitOptions{GitHub: true, Action: "v1.2.3"}); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(".github/workflows/image.yml")
	if err != nil {
		t.Fatal(err)
	}
	var w struct {
		Jobs map[string]struct{ Steps []struct{ Uses, Run string } }
	}
	if err := yaml.Unmarshal(raw, &w); err != nil {
		t.Fatalf("%v\n%s", err, raw)
	}
	var runs []string
	for _, s := range w.Jobs["image"].Steps {
		if strings.HasPrefix(s.Uses, "lighter-oci/") {
			t.Errorf("the workflow uses %q", s.Uses)
		}
		if s.Run != "" {
			runs = append(runs, s.Run)
		}
	}
	if len(runs) != 2 || runs[0] != "go install github.com/lighter-oci/lighter/cmd/lighter@v1.2.3" || !strings.Contains(runs[1], "/bin/lighter\" pack ${{") {
		t.Errorf("%q", runs)
	}
}

// What is there stays, byte for byte, and what is missing comes beside it.
func TestInitOverwritesNothing(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	write(t, project.Name, "image = 'quay.io/me/mine'\n")
	if _, err := project.Init(".", project.InitOptions{}); err == nil || err.Error() != "lighter.toml is there already, and stays as it is: remove it for a new one" {
		t.Errorf("%v, want that it exists", err)
	}
	done, err := project.Init(".", project.InitOptions{GitHub: true, Action: "v1.2.3"})
	if err != nil {
		t.Fatal(err)
	}
	want := project.Initialized{Kept: []string{"lighter.toml"}, Written: []string{".github/workflows/image.yml"}, Image: "quay.io/me/mine"}
	if diff := cmp.Diff(want, done); diff != "" {
		t.Error(diff)
	}
	if host := loginHost(t, "."); host != "quay.io" {
		t.Errorf("the workflow logs in to %s", host)
	}
	if text, _ := os.ReadFile(project.Name); string(text) != "image = 'quay.io/me/mine'\n" {
		t.Errorf("it became %s", text)
	}
	for _, not := range []string{"nowhere", project.Name} {
		if _, err := project.Init(not, project.InitOptions{}); err == nil {
			t.Errorf("%s is no directory", not)
		}
	}
}
