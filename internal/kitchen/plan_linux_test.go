package kitchen

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/lighter-oci/lighter/internal/publish"
)

// planCount names a file of a line for each plan that was made.
const planCount = "KITCHEN_TEST_PLANS"

// A plan is made anew when anything changes that it is made of, and only then.
func TestPlanIsKept(t *testing.T) {
	top := t.TempDir()
	dir, count := filepath.Join(top, "app"), filepath.Join(top, "count")
	t.Setenv("XDG_CACHE_HOME", filepath.Join(top, "cache"))
	t.Setenv(planCount, count)
	git := func(args ...string) {
		t.Helper()
		cmd := exec.Command("git", append([]string{"-C", dir, "-c", "user.name=a", "-c", "user.email=a@example.com"}, args...)...)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("git %q: %v: %s", args, err, out)
		}
	}
	toml := "image = \"localhost:1/app\"\ntags = [\"{version}\"]\nversion = \"sub/VERSION\"\n"
	write(t, filepath.Join(dir, "lighter.toml"), toml)
	write(t, filepath.Join(dir, "sub/VERSION"), "1.2.3\n")
	write(t, filepath.Join(dir, "Dockerfile"), "FROM scratch\n")
	git("init", "-q")
	git("add", ".")
	git("commit", "-qm", "feat: a")
	s := kitchenFor(t, nil, func(o *Options) { o.Dirs = []string{dir} })
	memory, err := publish.MemoryOf(filepath.Join(s.places[0].real(), "lighter.toml"))
	if err != nil {
		t.Fatal(err)
	}
	unlock, err := memory.Lock() // makes its directory
	if err != nil {
		t.Fatal(err)
	}
	unlock()
	bump, made := "", 0
	for _, tt := range []struct {
		name   string
		change func()
	}{
		{"the first", func() {}},
		{"another bump", func() { bump = "minor" }},
		{"a commit", func() { git("commit", "-q", "--allow-empty", "-m", "feat: b") }},
		{"one instead of it", func() { git("commit", "-q", "--allow-empty", "--amend", "-m", "fix: b") }},
		{"a tag", func() { git("tag", "v1.2.2") }},
		{"the tag elsewhere", func() { git("tag", "-f", "v1.2.2", "HEAD~1") }},
		{"packed tags", nil},
		{"no tag", func() { git("tag", "-d", "v1.2.2") }},
		{"another version of the same length", func() { write(t, filepath.Join(dir, "sub/VERSION"), "1.2.4\n") }},
		{"the project's file", func() { write(t, filepath.Join(dir, "lighter.toml"), toml+"[variants.slim]\n") }},
		{"a release that was broken off", func() {
			if err := memory.Write(publish.Pending{Was: "1.2.3", Version: "1.3.0"}); err != nil {
				t.Fatal(err)
			}
		}},
		{"that it is completed", func() {
			if err := memory.Forget(); err != nil {
				t.Fatal(err)
			}
		}},
		{"no Dockerfile", func() {
			if err := os.Remove(filepath.Join(dir, "Dockerfile")); err != nil {
				t.Fatal(err)
			}
		}},
		{"no git", func() {
			if err := os.RemoveAll(filepath.Join(dir, ".git")); err != nil {
				t.Fatal(err)
			}
		}},
	} {
		if tt.change == nil {
			git("pack-refs", "--all") // the same, lying elsewhere
		} else {
			tt.change()
			made++
		}
		for range 3 {
			if code, text := request(t, s, "GET", "/api/v1/projects/app/plan?bump="+bump, ""); code != 200 {
				t.Fatalf("%s: %d %s", tt.name, code, text)
			}
		}
		lines, err := os.ReadFile(count)
		if err != nil {
			t.Fatal(err)
		}
		if n := bytes.Count(lines, []byte("\n")); n != made {
			t.Errorf("%s: %d plans were made, want %d", tt.name, n, made)
			made = n
		}
	}
}
