package publish

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/gofrs/flock"
)

// Pending is a release that has another version than the project had before, and
// has not been completed. The zero value is none.
type Pending struct {
	Was     string `json:"was"`
	Version string `json:"version"`
	// Tagging is so when the first tag may be set: from then on the version stays.
	Tagging bool `json:"tagging,omitempty"`
}

// Memory keeps the pending release of one project, so that the same command
// after a kill is the same release and not the next one. It is one file of a line
// for each thing that was remembered, of which the last whole one counts: a line
// is written before that which it is about is done.
type Memory struct{ file string }

// NewMemory is that of a project's file, an absolute path, in a directory that
// holds those of all projects. It is made when there is something to remember.
func NewMemory(dir, project string) Memory {
	sum := sha256.Sum256([]byte(project))
	return Memory{filepath.Join(dir, hex.EncodeToString(sum[:8]))}
}

// MemoryOf is that of a project's file among the user's.
func MemoryOf(project string) (Memory, error) {
	dir, err := os.UserCacheDir()
	if err != nil {
		return Memory{}, fmt.Errorf("memory of releases: %w", err)
	}
	return NewMemory(filepath.Join(dir, "lighter", "releases"), project), nil
}

// BusyError is a project that another process is publishing.
type BusyError struct{}

func (BusyError) Error() string { return "another lighter publish of this project is running" }

// Hint is the next step.
func (BusyError) Hint() string { return "wait for its end, then run this again" }

// Lock keeps other publishes of the project out until unlock, or the end of the
// process.
func (m Memory) Lock() (unlock func(), err error) {
	if err := os.MkdirAll(filepath.Dir(m.file), 0o700); err != nil {
		return nil, fmt.Errorf("memory of releases: %w", err)
	}
	lock := flock.New(m.file + ".lock")
	held, err := lock.TryLock()
	switch {
	case err != nil:
		return nil, fmt.Errorf("memory of releases: %w", err)
	case !held:
		return nil, BusyError{}
	}
	return func() { _ = lock.Close() }, nil
}

// Read answers what was remembered last.
func (m Memory) Read() (last Pending, err error) {
	b, err := os.ReadFile(m.file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return last, fmt.Errorf("memory of releases: %w", err)
	}
	for line := range bytes.Lines(b) {
		var p Pending
		if json.Unmarshal(line, &p) == nil { // else a kill or a full disk cut it
			last = p
		}
	}
	return last, nil
}

// Write remembers p: when it returns, no kill and no power cut forgets it.
func (m Memory) Write(p Pending) error {
	b, err := json.Marshal(p)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(m.file, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("memory of releases: %w", err)
	}
	// A line of its own, whatever the one before has become.
	_, err = f.Write(append(append([]byte("\n"), b...), '\n'))
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("memory of releases: %w", err)
	}
	return nil
}

// Forget is for a release that is complete, or taken back.
func (m Memory) Forget() error {
	if err := os.Remove(m.file); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("memory of releases: %w", err)
	}
	return nil
}
