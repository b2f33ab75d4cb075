package buildkit

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/moby/buildkit/identity"
)

// pendingFile is an output file that has no name before it is whole. Where the
// file system knows files without a name (Linux's O_TMPFILE), even a killed
// process leaves nothing of it behind; elsewhere it has a hidden name.
type pendingFile struct {
	*os.File
	dest   string
	hidden string // "" where the file has no name
}

// createPending opens a file that commit will call dest.
// Where dest is a symbolic link, what it points to is replaced.
func createPending(dest string) (*pendingFile, error) {
	if target, err := filepath.EvalSymlinks(dest); err == nil {
		dest = target
	}
	dir, name := filepath.Split(dest)
	if dir == "" {
		dir = "."
	}
	f, err := createUnnamed(dir, name)
	if err == nil {
		return &pendingFile{File: f, dest: dest}, nil
	}
	if !errors.Is(err, errors.ErrUnsupported) {
		return nil, fmt.Errorf("output %s: %w", dest, err)
	}
	if f, err = os.CreateTemp(dir, "."+name+".*"); err != nil {
		return nil, fmt.Errorf("output %s: %w", dest, err)
	}
	return &pendingFile{File: f, dest: dest, hidden: f.Name()}, nil
}

// Close is called when the last byte has been written, which is long before it
// is known whether the build succeeds. It ends nothing.
func (p *pendingFile) Close() error { return nil }

// commit makes the file durable under its name, in place of what had it.
func (p *pendingFile) commit() error {
	err := p.Chmod(0o644)
	if err == nil {
		err = p.Sync()
	}
	if err == nil && p.hidden == "" {
		p.hidden = filepath.Join(filepath.Dir(p.dest), "."+filepath.Base(p.dest)+"."+identity.NewID())
		err = nameFile(p.File, p.hidden)
	}
	if cerr := p.File.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(p.hidden, p.dest)
	}
	if err != nil {
		os.Remove(p.hidden)
		return fmt.Errorf("output %s: %w", p.dest, err)
	}
	return nil
}

// abort gives the file up.
func (p *pendingFile) abort() {
	p.File.Close()
	if p.hidden != "" {
		os.Remove(p.hidden)
	}
}
