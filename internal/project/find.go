package project

import (
	"io/fs"
	"os"
	"path/filepath"
)

// Find looks for a file in dir and above, and answers its path, or "" where
// there is none. It goes no further than the root of a git work tree, and
// neither into the home directory nor into one that everybody may write to, nor
// onto another file system: what lies there was not meant for what is in dir.
func Find(dir string) (string, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	home, _ := os.UserHomeDir() // "" is no directory above
	start, err := os.Stat(dir)
	if err != nil {
		return "", err
	}
	for at := dir; ; {
		path := filepath.Join(at, Name)
		if info, err := os.Stat(path); err == nil && !info.IsDir() {
			return path, nil
		}
		if _, err := os.Lstat(filepath.Join(at, ".git")); err == nil {
			return "", nil
		}
		above := filepath.Dir(at)
		if above == at || above == home {
			return "", nil
		}
		info, err := os.Stat(above)
		if err != nil || !sameFileSystem(start, info) || info.Mode()&fs.ModeSticky != 0 && info.Mode().Perm()&0o002 != 0 {
			return "", nil //nolint:nilerr // a directory that cannot be looked at is a border
		}
		at = above
	}
}
