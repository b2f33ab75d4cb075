package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// fileError is a file beside the build that could not be written.
type fileError struct {
	flag, path string
	err        error
}

func (e *fileError) Error() string {
	var pe *os.PathError
	if err := e.err; errors.As(err, &pe) { // whose path is a temporary one
		return fmt.Sprintf("%s %s: %v", e.flag, e.path, pe.Err)
	}
	return fmt.Sprintf("%s %s: %v", e.flag, e.path, e.err)
}

func (e *fileError) Unwrap() error { return e.err }

// Hint is the next step.
func (e *fileError) Hint() string {
	return "the build itself succeeded: mend that and run the same command, which takes it from cache"
}

// writeFile replaces path whole or not at all. Where it is a link, what that
// points to is replaced; a pipe or a device is written to.
func writeFile(path string, data []byte) error {
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		_, err = f.Write(data)
		return errors.Join(err, f.Close())
	}
	for range 40 { // as many links as the kernel follows
		target, err := os.Readlink(path)
		if err != nil {
			break
		}
		if !filepath.IsAbs(target) {
			target = filepath.Join(filepath.Dir(path), target)
		}
		path = target
	}
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // fails harmlessly after the rename
	if _, err := f.Write(data); err != nil {
		f.Close()
		return err
	}
	if err := errors.Join(f.Chmod(0o644), f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
