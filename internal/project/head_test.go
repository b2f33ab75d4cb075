package project_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/lighter-oci/lighter/internal/project"
)

func TestHeadOf(t *testing.T) {
	dir := t.TempDir()
	git := func(args ...string) {
		t.Helper()
		cmd := exec.Command("git", append([]string{"-c", "user.name=a", "-c", "user.email=a@b.example", "-c", "init.defaultBranch=trunk"}, args...)...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("git %v: %s", args, out)
		}
	}
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, "file"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if h := project.HeadOf(t.Context(), dir); h != (project.Head{}) {
		t.Errorf("outside of a repository: %+v", h)
	}
	git("init", "--quiet")
	if h := project.HeadOf(t.Context(), dir); h != (project.Head{Branch: "trunk"}) {
		t.Errorf("before the first commit: %+v", h)
	}
	write("a")
	git("add", "file")
	git("commit", "--quiet", "-m", "x")
	h := project.HeadOf(t.Context(), dir)
	if len(h.Commit) != 40 || h.Branch != "trunk" || h.Dirty {
		t.Errorf("%+v", h)
	}
	if err := os.WriteFile(filepath.Join(dir, "untracked"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if h := project.HeadOf(t.Context(), dir); h.Dirty {
		t.Errorf("a file that is not under version control: %+v", h)
	}
	write("b")
	git("checkout", "--quiet", "--detach")
	if got := project.HeadOf(t.Context(), dir); got != (project.Head{Commit: h.Commit, Dirty: true}) {
		t.Errorf("%+v", got)
	}
}
