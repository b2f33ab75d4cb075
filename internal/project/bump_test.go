package project

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// write makes files in a new directory, the first of which may be lighter.toml.
func files(t *testing.T, list map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range list {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o640); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// A version moves where it stands, and nothing else does.
func TestVersionIsWritten(t *testing.T) {
	const cargo = "[package] # mine\nname = \"app\"\nversion = '1.2.3' # now\n\n[dependencies]\nother = \"1.2.3\"\n"
	const lock = "version = 4\n\n[[package]]\nname = \"app\"\nversion = \"1.2.3\"\n\n[[package]]\nname = \"other\"\nversion = \"1.2.3\"\nsource = \"registry\"\n\n[[package]]\nname = \"member\"\nversion = \"1.2.3\"\n"
	for name, tt := range map[string]struct {
		files map[string]string
		want  []string          // written
		then  map[string]string // contents
	}{
		"plain":       {map[string]string{"VERSION": "v1.2.3\n"}, []string{"VERSION"}, map[string]string{"VERSION": "v1.3.0\n"}},
		"own file":    {map[string]string{Name: "image = \"r/1.2.3\"\nversion = \"1.2.3\"\n"}, []string{Name}, map[string]string{Name: "image = \"r/1.2.3\"\nversion = \"1.3.0\"\n"}},
		"named":       {map[string]string{Name: "version = \"sub/V\"\n", "sub/V": "1.2.3"}, []string{"sub/V"}, map[string]string{"sub/V": "1.3.0"}},
		"cargo":       {map[string]string{"Cargo.toml": cargo}, []string{"Cargo.toml"}, map[string]string{"Cargo.toml": strings.Replace(cargo, "'1.2.3'", "'1.3.0'", 1)}},
		"cargo, lock": {map[string]string{"Cargo.toml": cargo, "Cargo.lock": lock}, []string{"Cargo.lock", "Cargo.toml"}, map[string]string{"Cargo.lock": strings.Replace(lock, "1.2.3", "1.3.0", 1)}},
		"workspace": {map[string]string{"Cargo.toml": "[workspace.package]\nversion = \"1.2.3\"\n", "Cargo.lock": lock}, []string{"Cargo.lock", "Cargo.toml"},
			map[string]string{"Cargo.lock": strings.Replace(strings.Replace(lock, "1.2.3", "1.3.0", 1), "\"member\"\nversion = \"1.2.3\"", "\"member\"\nversion = \"1.3.0\"", 1)}},
		"npm": {map[string]string{"package.json": `{"a": {"version": "1.2.3"}, "version" : "1.2.3", "b": 1}`, "package-lock.json": `{"version": "1.2.3", "packages": {"x": {"version": "1.2.3"}, "": {"version": "1.2.3"}}}`},
			[]string{"package-lock.json", "package.json"}, map[string]string{
				"package.json":      `{"a": {"version": "1.2.3"}, "version" : "1.3.0", "b": 1}`,
				"package-lock.json": `{"version": "1.3.0", "packages": {"x": {"version": "1.2.3"}, "": {"version": "1.3.0"}}}`,
			}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := files(t, tt.files)
			p := Project{Path: filepath.Join(dir, Name)}
			if tt.files[Name] != "" {
				var err error
				if p, err = Load(p.Path); err != nil {
					t.Fatal(err)
				}
			}
			v, err := p.FindVersion(t.Context())
			if err != nil || v.Number != "1.2.3" {
				t.Fatalf("found %+v, %v", v, err)
			}
			got, err := v.Write("1.3.0")
			if err != nil || !slices.Equal(got, tt.want) {
				t.Errorf("wrote %v, %v; want %v", got, err, tt.want)
			}
			for name, want := range tt.then {
				if b, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(b) != want {
					t.Errorf("%s: %q, %v; want %q", name, b, err, want)
				}
				if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Mode().Perm() != 0o640 {
					t.Errorf("%s: %v, %v", name, info.Mode(), err)
				}
			}
			// Again, and from any half of it, it comes to the same.
			for _, half := range append([]string{""}, tt.want...) {
				if half != "" {
					if err := os.WriteFile(filepath.Join(dir, half), []byte(tt.files[half]), 0o640); err != nil {
						t.Fatal(err)
					}
				}
				got, err := v.Write("1.3.0")
				if want := slices.DeleteFunc([]string{half}, func(s string) bool { return s == "" }); err != nil || !slices.Equal(got, want) {
					t.Errorf("wrote %v, %v; want %v", got, err, want)
				}
			}
			for name, want := range tt.then {
				if b, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(b) != want {
					t.Errorf("%s: %q, %v; want %q", name, b, err, want)
				}
			}
		})
	}
}

// Nothing is written where a part cannot be.
func TestVersionStays(t *testing.T) {
	dir := files(t, map[string]string{"package.json": `{"version": "1.2.3"}`, "package-lock.json": `{`})
	v, err := Project{Path: filepath.Join(dir, Name)}.FindVersion(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got, err := v.Write("2.0.0"); err == nil || got != nil {
		t.Errorf("wrote %v, %v", got, err)
	}
	if b, _ := os.ReadFile(filepath.Join(dir, "package.json")); string(b) != `{"version": "1.2.3"}` {
		t.Errorf("half a version: %s", b)
	}
	if _, err := v.Write("latest"); err == nil {
		t.Error("that is no version")
	}
}

func TestPropose(t *testing.T) {
	for name, tt := range map[string]struct {
		version string
		tag     string
		commits []string
		want    string
		step    Step
	}{
		"not released":      {"1.2.3", "", []string{"feat: x"}, "1.2.3", None},
		"nothing":           {"1.2.3", "v1.2.3", nil, "1.2.3", None},
		"quiet":             {"1.2.3", "v1.2.3", []string{"docs: x", "chore(deps): y"}, "1.2.3", None},
		"fix":               {"1.2.3", "1.2.3", []string{"docs: x", "fix: y"}, "1.2.4", Patch},
		"not conventional":  {"1.2.3", "v1.2.3", []string{"Mend it"}, "1.2.4", Patch},
		"feature":           {"1.2.3", "v1.2.3", []string{"fix: x", "feat(ui): y", "fix: z"}, "1.3.0", Minor},
		"breaking":          {"1.2.3", "v1.2.3", []string{"feat!: x"}, "2.0.0", Major},
		"breaking, in body": {"1.2.3", "v1.2.3", []string{"fix: x\n\nBREAKING CHANGE: y"}, "2.0.0", Major},
		"breaking, early":   {"0.2.3", "v0.2.3", []string{"refactor!: x"}, "0.3.0", Minor},
		"git's":             {"", "v1.2.3", []string{"feat: x"}, "1.3.0", Minor},
	} {
		t.Run(name, func(t *testing.T) {
			list := map[string]string{"README": ""}
			if tt.version != "" {
				list["VERSION"] = tt.version
			}
			dir := files(t, list)
			run := func(args ...string) {
				t.Helper()
				cmd := exec.Command("git", append([]string{"-c", "user.name=a", "-c", "user.email=a@b"}, args...)...)
				cmd.Dir = dir
				if out, err := cmd.CombinedOutput(); err != nil {
					t.Fatalf("git %v: %v: %s", args, err, out)
				}
			}
			run("init", "-q")
			run("add", ".")
			run("commit", "-qm", "feat!: all")
			if tt.tag != "" {
				run("tag", tt.tag)
			}
			for i, message := range tt.commits {
				if err := os.WriteFile(filepath.Join(dir, "README"), []byte{byte('0' + i)}, 0o644); err != nil {
					t.Fatal(err)
				}
				run("commit", "-qam", message)
			}
			v, err := Project{Path: filepath.Join(dir, Name)}.FindVersion(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			got, err := v.Propose(context.Background())
			if err != nil || got.Number != tt.want || got.Step != tt.step || tt.step != None && len(got.Why) == 0 {
				t.Errorf("proposed %+v, %v; want %s, %q", got, err, tt.want, tt.step)
			}
		})
	}
}

// A shallow clone, as most workflows have one, has no tags: it is said what brings them.
func TestShallowClone(t *testing.T) {
	dir, shallow := files(t, map[string]string{"a": ""}), t.TempDir()
	for _, args := range [][]string{
		{"init", "-q", dir}, {"-C", dir, "add", "."}, {"-C", dir, "-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "one"},
		{"-C", dir, "tag", "v1.2.3"}, {"-C", dir, "-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "two", "--allow-empty"},
		{"clone", "-q", "--depth", "1", "file://" + dir, shallow},
	} {
		if out, err := exec.Command("git", args...).CombinedOutput(); err != nil {
			t.Fatalf("git %v: %v: %s", args, err, out)
		}
	}
	_, err := Project{Path: filepath.Join(shallow, Name), Version: "git"}.FindVersion(t.Context())
	if err == nil || !strings.Contains(err.Error(), "`git fetch --unshallow --tags`") {
		t.Errorf("%v", err)
	}
}

// The tagged commit has the version, also where git did not know its file, and
// nothing that git ignores.
func TestTagCommit(t *testing.T) {
	for _, name := range []string{"GIT_AUTHOR", "GIT_COMMITTER"} {
		t.Setenv(name+"_NAME", "a")
		t.Setenv(name+"_EMAIL", "a@b")
	}
	dir := files(t, map[string]string{".gitignore": "Cargo.lock\n", "main.rs": "", "Cargo.toml": "[package]\nname = \"x\"\nversion = \"1.2.3\"\n", "Cargo.lock": "version = 3\n\n[[package]]\nname = \"x\"\nversion = \"1.2.3\"\n"})
	git := func(args ...string) string {
		t.Helper()
		out, err := exec.Command("git", append([]string{"-C", dir}, args...)...).CombinedOutput()
		if err != nil {
			t.Fatalf("git %v: %v: %s", args, err, out)
		}
		return strings.TrimSpace(string(out))
	}
	git("init", "-q")
	git("add", ".gitignore", "main.rs")
	git("commit", "-qm", "one")
	for _, number := range []string{"1.3.0", "1.4.0"} { // unknown, and known
		v, err := Project{Path: filepath.Join(dir, Name)}.FindVersion(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := v.Write(number); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if tag, err := v.TagCommit(t.Context(), number); err != nil || tag != "v"+number {
				t.Fatalf("%s, %v", tag, err)
			}
		}
		if has := git("show", "v"+number+":Cargo.toml"); !strings.Contains(has, number) {
			t.Errorf("v%s has %s", number, has)
		}
		if list := git("ls-tree", "--name-only", "v"+number); strings.Contains(list, "Cargo.lock") {
			t.Errorf("v%s has what git ignores:\n%s", number, list)
		}
	}
}
