package image

import (
	"cmp"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/gofrs/flock"
)

// tempDirPrefix begins the names of directories that go with their process.
const tempDirPrefix = ".lighter-stage-"

// TempDir makes a directory under dir ("" is $TMPDIR, or what the system has) that
// goes with this process: discard removes it, and of a process that was killed the
// next TempDir under the same dir does. The lock that tells them apart is on the
// directory itself, and the kernel drops it with its holder. Where directories
// cannot be locked (Windows, NFS), what was killed stays.
func TempDir(dir string) (path string, discard func(), err error) {
	dir = cmp.Or(dir, os.TempDir())
	sweep(dir)
	for {
		if path, err = os.MkdirTemp(dir, tempDirPrefix+"*"); err != nil {
			return "", nil, err
		}
		lock := flock.New(path, flock.SetFlag(os.O_RDONLY))
		held, err := lock.TryLock()
		_, gone := os.Stat(path)
		// Another process may have come between the two, and taken it for dead.
		if errors.Is(gone, fs.ErrNotExist) || err == nil && !held {
			_ = lock.Close()
			continue
		}
		return path, func() { _, _ = os.RemoveAll(path), lock.Close() }, nil
	}
}

// sweep removes what killed processes left.
func sweep(dir string) {
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		if !e.IsDir() || !strings.HasPrefix(e.Name(), tempDirPrefix) {
			continue
		}
		path := filepath.Join(dir, e.Name())
		lock := flock.New(path, flock.SetFlag(os.O_RDONLY))
		if held, _ := lock.TryLock(); held {
			_ = os.RemoveAll(path)
		}
		_ = lock.Close()
	}
}
