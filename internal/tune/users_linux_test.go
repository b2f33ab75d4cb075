package tune

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestUnreadableFile runs itself as nobody: root may read everything.
func TestUnreadableFile(t *testing.T) {
	const where = "LIGHTER_TEST_UNREADABLE"
	if dir := os.Getenv(where); dir != "" {
		layers, err := DirLayers(dir)
		if err == nil {
			_, err = ReadSample(t.Context(), layers, 0, nil)
		}
		var p *Problem
		if !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), "secret") || !errors.As(err, &p) {
			t.Errorf("%v, want the file's name and a next step", err)
		}
		return
	}
	dir, err := os.MkdirTemp("/tmp", "lighter-test-") // t.TempDir's parents let nobody else in
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	exe := filepath.Join(dir, "test")
	if err := errors.Join(os.Chmod(dir, 0o755), copyFile(os.Args[0], exe), os.WriteFile(filepath.Join(dir, "secret"), []byte("x"), 0)); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe, "-test.run=^TestUnreadableFile$", "-test.v")
	cmd.Env, cmd.Dir = append(os.Environ(), where+"="+dir), dir
	if os.Getuid() == 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	}
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS") {
		t.Errorf("%v\n%s", err, out)
	}
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		return err
	}
	if _, err := io.Copy(out, in); err != nil {
		return fmt.Errorf("copy %s: %w", from, err)
	}
	return out.Close()
}
