package process

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestStateDir(t *testing.T) {
	tmp, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("HOME", filepath.Join(tmp, "home"))
	home := filepath.Join(tmp, "home/.local/state/lighter")
	if os.Geteuid() == 0 {
		home = "/var/lib/lighter"
	}
	for _, c := range []struct{ flag, env, xdg, want string }{
		{"", "", "", home},
		{"", "", tmp + "/xdg", tmp + "/xdg/lighter"},
		{"", "", "relative", home}, // as the XDG specification wants
		{"", tmp + "/env", tmp + "/xdg", tmp + "/env"},
		{tmp + "/flag", tmp + "/env", tmp + "/xdg", tmp + "/flag"},
	} {
		t.Setenv(StateEnv, c.env)
		t.Setenv("XDG_STATE_HOME", c.xdg)
		if got, err := stateDirName(c.flag); err != nil || got != c.want {
			t.Errorf("%+v: %q, %v", c, got, err)
		}
	}
	t.Chdir(tmp)
	os.Symlink(tmp, "link")
	got, err := StateDir("link/a/b")
	if want := filepath.Join(tmp, "a/b"); err != nil || got != want {
		t.Errorf("%q, %v; want %q", got, err, want)
	}
	for _, dir := range []string{"a", "a/b"} {
		if fi, err := os.Stat(dir); err != nil || fi.Mode().Perm() != 0o700 {
			t.Errorf("%s: %v, %v; want mode 0700", dir, fi.Mode(), err)
		}
	}
}

func TestStateDirRefused(t *testing.T) {
	tmp := t.TempDir()
	refused := func(dir, reason string) {
		t.Helper()
		_, err := StateDir(dir)
		se, ok := errors.AsType[*StateError](err)
		if !ok || !strings.Contains(err.Error(), reason) || se.Hint() == "" {
			t.Errorf("%s: %v, want a StateError with %q", dir, err, reason)
		}
	}
	open := filepath.Join(tmp, "open")
	os.Mkdir(open, 0o755)
	if _, err := StateDir(open); err != nil {
		t.Errorf("fresh and empty: %v", err)
	}
	if fi, _ := os.Stat(open); fi.Mode().Perm() != 0o700 {
		t.Errorf("fresh and empty: mode %v", fi.Mode())
	}
	os.WriteFile(filepath.Join(open, "file"), nil, 0o600)
	os.Chmod(open, 0o750)
	refused(open, "mode 0750 lets other users in")

	refused(filepath.Join(open, "file"), "not a directory")
	if os.Geteuid() != 0 {
		refused("/root/lighter", "permission denied")
		refused("/", "belongs to uid 0")
		return
	}
	os.Chmod(open, 0o700)
	os.Chown(open, 61234, 61234)
	refused(open, "belongs to uid 61234, not to uid 0")
	if _, err := Acquire(open, LockOptions{}); err == nil {
		t.Error("Acquire took somebody else's directory")
	}
}

// Anybody can be first to make a name in /tmp.
func TestPrivateDir(t *testing.T) {
	tmp := t.TempDir()
	dir := filepath.Join(tmp, "dir")
	if err := privateDir(dir); err != nil {
		t.Error(err)
	}
	if err := privateDir(dir); err != nil {
		t.Errorf("second time: %v", err)
	}
	os.Symlink(dir, filepath.Join(tmp, "link"))
	os.WriteFile(filepath.Join(tmp, "file"), nil, 0o600)
	os.Mkdir(filepath.Join(tmp, "open"), 0o755)
	for _, name := range []string{"link", "file", "open"} {
		if err := privateDir(filepath.Join(tmp, name)); err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
}

func TestRuntimeDir(t *testing.T) {
	good := t.TempDir()
	t.Setenv("XDG_RUNTIME_DIR", good)
	if got, err := runtimeDir(); err != nil || got != good {
		t.Errorf("%q, %v; want %q", got, err, good)
	}
	file := filepath.Join(good, "file")
	os.WriteFile(file, nil, 0o600)
	for _, bad := range []string{"", "relative", filepath.Join(good, "absent"), file} {
		t.Setenv("XDG_RUNTIME_DIR", bad)
		want := fmt.Sprintf("/tmp/lighter-%d/run", os.Geteuid())
		if got, err := runtimeDir(); err != nil || got != want {
			t.Errorf("XDG_RUNTIME_DIR=%q: %q, %v; want %q", bad, got, err, want)
		}
	}
}
