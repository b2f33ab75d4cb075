package buildkit

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/moby/buildkit/identity"
)

// pending is an output that nobody sees before the build has succeeded.
type pending interface {
	commit() error
	abort()
}

// pendingDir is a tree of files that is received beside its destination, on the
// same file system, and moved there when it is whole.
type pendingDir struct {
	stage string // does not exist before the engine sends something
	dest  string
}

// newPendingDir chooses where to receive: inside a directory that is there
// already, which may be a mount, else beside where it will be.
func newPendingDir(dest string) *pendingDir {
	p := &pendingDir{dest: dest}
	if info, err := os.Stat(dest); err == nil && info.IsDir() {
		p.stage = filepath.Join(dest, ".lighter."+identity.NewID())
	} else {
		p.stage = filepath.Join(filepath.Dir(dest), "."+filepath.Base(dest)+"."+identity.NewID())
	}
	return p
}

// try finds out whether anything can be received, before a build is waited for.
func (p *pendingDir) try() error {
	if err := os.MkdirAll(filepath.Dir(p.stage), 0o755); err != nil {
		return bare(err)
	}
	if err := os.Mkdir(p.stage, 0o700); err != nil {
		return bare(err)
	}
	return os.Remove(p.stage)
}

// bare is the reason of a file error, without a path that nobody chose.
func bare(err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}

// commit moves what was received to its place. As in BuildKit's own way, what
// is in the destination already stays unless it has the same name.
func (p *pendingDir) commit() error {
	if _, err := os.Lstat(p.stage); errors.Is(err, fs.ErrNotExist) {
		return nil // the engine sent nothing
	}
	dest, err := filepath.EvalSymlinks(p.dest)
	if errors.Is(err, fs.ErrNotExist) {
		dest, err = p.dest, nil
	}
	if err == nil {
		err = moveTree(p.stage, dest)
	}
	if err != nil {
		p.abort()
		return fmt.Errorf("output %s: %w", p.dest, err)
	}
	return nil
}

// abort removes what was received, directories without write permission too.
func (p *pendingDir) abort() {
	_ = filepath.WalkDir(p.stage, func(path string, e fs.DirEntry, err error) error {
		if err == nil && e.IsDir() {
			err = os.Chmod(path, 0o700)
		}
		return err
	})
	os.RemoveAll(p.stage)
}

// moveTree moves from to to, into what is there where both are directories. It
// follows no link.
func moveTree(from, to string) error {
	src, err := os.Lstat(from)
	if err != nil {
		return err
	}
	dst, err := os.Lstat(to)
	if err == nil && dst.IsDir() && src.IsDir() {
		return moveInto(from, to)
	}
	if err == nil && dst.IsDir() != src.IsDir() {
		if err := os.RemoveAll(to); err != nil {
			return err
		}
	}
	// A directory is only moved by who may write to it (rename(2)).
	readOnly := src.IsDir() && src.Mode().Perm()&0o200 == 0
	if readOnly {
		if err := os.Chmod(from, 0o700); err != nil {
			return err
		}
	}
	if err := os.Rename(from, to); err != nil {
		return err
	}
	if readOnly {
		return os.Chmod(to, src.Mode()&(fs.ModePerm|fs.ModeSetuid|fs.ModeSetgid|fs.ModeSticky))
	}
	return nil
}

// moveInto moves what is in one directory to another, and removes the first.
func moveInto(from, to string) error {
	list, err := os.ReadDir(from)
	if err == nil {
		err = os.Chmod(from, 0o700)
	}
	if err != nil {
		return err
	}
	for _, e := range list {
		if err := moveTree(filepath.Join(from, e.Name()), filepath.Join(to, e.Name())); err != nil {
			return err
		}
	}
	return os.Remove(from)
}

// pendingLayout is an OCI layout that blobs are added to. They are named by
// their digests and listed by the index, which is written last.
type pendingLayout struct {
	dir  string
	ours bool // it was not there before
}

func newPendingLayout(dir string) *pendingLayout {
	_, err := os.Lstat(dir)
	return &pendingLayout{dir: dir, ours: errors.Is(err, fs.ErrNotExist)}
}

func (p *pendingLayout) commit() error { return nil }

// abort removes what was being written, and the directory if it is ours.
func (p *pendingLayout) abort() {
	if _, err := os.Lstat(filepath.Join(p.dir, "index.json")); p.ours && err != nil { // else another build has put an image there
		os.RemoveAll(p.dir)
		return
	}
	os.RemoveAll(filepath.Join(p.dir, "ingest"))
}
