package image

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
)

// tempPrefix begins the names of files that are not whole yet.
const tempPrefix = ".tmp-"

// replaceFile gives a file new content, whole or not at all.
func replaceFile(name string, b []byte) error {
	f, err := os.CreateTemp(filepath.Dir(name), tempPrefix+"*")
	if err != nil {
		return err
	}
	if _, err := f.Write(b); err != nil {
		return errors.Join(err, f.Close(), os.Remove(f.Name()))
	}
	return publishFile(f, name)
}

// publishFile closes a temporary file and gives it its name, which stays after a
// power cut, too. After an error nothing of it is left.
func publishFile(f *os.File, name string) error {
	err := errors.Join(f.Chmod(0o644), f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return syncDir(filepath.Dir(name))
}

// openSized opens a file for reading and tells its size in bytes.
func openSized(name string) (*os.File, int64, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, 0, err
	}
	info, err := f.Stat()
	if err != nil {
		return nil, 0, errors.Join(err, f.Close())
	}
	return f, info.Size(), nil
}

// syncDir writes a directory's names to the disk.
func syncDir(name string) error {
	if runtime.GOOS == "windows" { // directories cannot be opened for that there
		return nil
	}
	d, err := os.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
