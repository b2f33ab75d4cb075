package buildkit

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// tree describes files by name: "dir", "-> target", or their content.
func tree(t *testing.T, root string) map[string]string {
	t.Helper()
	found := map[string]string{}
	err := filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err != nil || path == root {
			return err
		}
		name, _ := filepath.Rel(root, path)
		switch e.Type() {
		case fs.ModeDir:
			found[name] = "dir"
		case fs.ModeSymlink:
			to, err := os.Readlink(path)
			found[name] = "-> " + to
			return err
		default:
			b, err := os.ReadFile(path)
			found[name] = string(b)
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// plant makes what tree describes; parents come first by their names.
func plant(t *testing.T, root string, files ...string) {
	t.Helper()
	for i := 0; i < len(files); i += 2 {
		path, what := filepath.Join(root, files[i]), files[i+1]
		var err error
		switch {
		case what == "dir":
			err = os.MkdirAll(path, 0o755)
		case len(what) > 3 && what[:3] == "-> ":
			err = os.Symlink(what[3:], path)
		default:
			err = os.WriteFile(path, []byte(what), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// A received tree goes into what is there already, and through no link in it.
func TestPendingDir(t *testing.T) {
	outside := t.TempDir()
	plant(t, outside, "mine", "mine")
	dest := filepath.Join(t.TempDir(), "dest")
	plant(t, filepath.Dir(dest), "dest", "dir", "dest/keep", "keep", "dest/old", "old", "dest/both", "dir", "dest/both/a", "a",
		"dest/was-dir", "dir", "dest/was-dir/x", "x", "dest/was-file", "y", "dest/link", "-> "+outside)
	p := newPendingDir(dest)
	plant(t, filepath.Dir(p.stage), filepath.Base(p.stage), "dir")
	plant(t, p.stage, "old", "new", "both", "dir", "both/b", "b", "was-dir", "file", "was-file", "dir", "was-file/z", "z",
		"link", "dir", "link/in", "in", "read-only", "dir", "read-only/f", "f")
	if err := os.Chmod(filepath.Join(p.stage, "read-only"), 0o555); err != nil {
		t.Fatal(err)
	}
	if err := p.commit(); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"keep": "keep", "old": "new", "both": "dir", "both/a": "a", "both/b": "b", "was-dir": "file", "was-file": "dir",
		"was-file/z": "z", "link": "dir", "link/in": "in", "read-only": "dir", "read-only/f": "f",
	}
	if diff := cmp.Diff(want, tree(t, dest)); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(map[string]string{"mine": "mine"}, tree(t, outside)); diff != "" {
		t.Error("what a link leads to:", diff)
	}
	if info, err := os.Stat(filepath.Join(dest, "read-only")); err != nil || info.Mode().Perm() != 0o555 {
		t.Errorf("read-only: %v, %v", info.Mode(), err)
	}
}

// Given up, it leaves what was there; where nothing was, nothing.
func TestPendingDirAbort(t *testing.T) {
	parent := t.TempDir()
	for _, there := range []bool{false, true} {
		dest := filepath.Join(parent, "dest")
		want := map[string]string{}
		if there {
			plant(t, parent, "dest", "dir", "dest/keep", "keep")
			want = map[string]string{"dest": "dir", "dest/keep": "keep"}
		}
		p := newPendingDir(dest)
		plant(t, filepath.Dir(p.stage), filepath.Base(p.stage), "dir")
		plant(t, p.stage, "d", "dir", "d/f", "f")
		p.abort()
		if diff := cmp.Diff(want, tree(t, parent)); diff != "" {
			t.Error(diff)
		}
	}
}

// A file gets its name, and replaces what had it, when it is whole.
func TestPendingFile(t *testing.T) {
	dir := t.TempDir()
	plant(t, dir, "file", "before")
	for _, commit := range []bool{false, true} {
		p, err := createPending(filepath.Join(dir, "file"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := p.Write([]byte("after")); err != nil {
			t.Fatal(err)
		}
		if err := p.Close(); err != nil {
			t.Fatal(err)
		}
		want := map[string]string{"file": "before"}
		if commit {
			want["file"] = "after"
			if err := p.commit(); err != nil {
				t.Fatal(err)
			}
		} else {
			p.abort()
		}
		if diff := cmp.Diff(want, tree(t, dir)); diff != "" {
			t.Errorf("commit %v: %s", commit, diff)
		}
	}
}
