// Package history owns the memory of builds: what was built, by whom, how long
// it took, its steps, layers, findings and logs. A build writes a journal while
// it runs, a line an event, and is taken into one SQLite file when it has ended.
//
// It never decides what is built, renders nothing, and fails no build: what
// cannot be recorded is a warning. It never holds the value of a secret, of a
// build argument or of the environment: events come to it redacted, and a Begun
// has no place for the others.
//
// # While it runs
//
// running/ID.jsonl is the journal. Its writer holds a lock on it, which the
// kernel drops with the process. So anybody can follow a build of another
// process, and whoever finds a journal that nobody holds takes it in: with the
// outcome in its last line, or as interrupted where there is none.
//
// # When it ended
//
// history.db has one row a build, its events in compressed chunks, and an index
// of words. Rows appear whole, in one transaction, and never change after that.
package history

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	"github.com/klauspost/compress/zstd"
)

// Variable names the directory of the history; "off" keeps none.
const Variable = "LIGHTER_HISTORY"

// Defaults of what is kept.
const (
	DefaultMaxAge   = 180 * 24 * time.Hour
	DefaultMaxBytes = 1 << 30
	// DefaultMaxLog is how much of one build's log is recorded, bytes.
	DefaultMaxLog = 256 << 20
)

// Options of a store.
type Options struct {
	Dir string // where it is; "" is what Dir answers
	// Warn is told what went wrong and stopped nothing: a file that was set aside.
	Warn     func(error)
	MaxAge   time.Duration // what End and Prune keep; 0 is DefaultMaxAge, negative for ever
	MaxBytes int64         // 0 is DefaultMaxBytes, negative all
	MaxLog   int64         // 0 is DefaultMaxLog

	now func() time.Time // of a test
}

// Store is the history of one directory. It is safe for concurrent use, and any
// number of processes may have it open.
type Store struct {
	opts Options

	mu     sync.Mutex
	db     *sql.DB
	opened fs.FileInfo // the file that db has open

	growing map[string]*growing // journals that were read, by the build
	zstd    *zstd.Decoder
}

// ErrOff is a history that is not kept: switched off, without a home, or on Windows,
// where a file that is open cannot be renamed.
var ErrOff = errors.New("no history is kept")

// Dir is where the history of this user is: $LIGHTER_HISTORY, else
// lighter/history under $XDG_STATE_HOME or ~/.local/state. The error is ErrOff
// where none is kept.
func Dir() (string, error) {
	switch dir := os.Getenv(Variable); {
	case dir == "off" || runtime.GOOS == "windows":
		return "", ErrOff
	case dir != "":
		return filepath.Abs(dir)
	}
	if dir := os.Getenv("XDG_STATE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "lighter", "history"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil || !filepath.IsAbs(home) {
		return "", ErrOff
	}
	return filepath.Join(home, ".local", "state", "lighter", "history"), nil
}

// Open opens the history, which need not exist yet. It is cheap: the database is
// opened when it is first asked for.
func Open(o Options) (*Store, error) {
	if o.Dir == "" {
		dir, err := Dir()
		if err != nil {
			return nil, err
		}
		o.Dir = dir
	}
	if o.Warn == nil {
		o.Warn = func(error) {}
	}
	if o.MaxAge == 0 {
		o.MaxAge = DefaultMaxAge
	}
	if o.MaxBytes == 0 {
		o.MaxBytes = DefaultMaxBytes
	}
	if o.MaxLog == 0 {
		o.MaxLog = DefaultMaxLog
	}
	if o.now == nil {
		o.now = time.Now
	}
	unzstd, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(0), zstd.WithDecoderMaxMemory(maxLine))
	if err != nil {
		return nil, err
	}
	s := &Store{opts: o, growing: map[string]*growing{}, zstd: unzstd}
	if err := os.MkdirAll(s.running(""), 0o700); err != nil {
		return nil, s.failed("open", err)
	}
	return s, nil
}

// Close lets go of the database. Recorders go on.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.db == nil {
		return nil
	}
	err := s.db.Close()
	s.db = nil
	return err
}

// running is a file of what has not been taken in yet.
func (s *Store) running(name string) string { return filepath.Join(s.opts.Dir, "running", name) }

func (s *Store) file() string { return filepath.Join(s.opts.Dir, "history.db") }

// Error is something that the history could not do.
type Error struct {
	Dir, Doing string
	Err        error
}

func (e *Error) Error() string { return fmt.Sprintf("history %s: %s: %v", e.Dir, e.Doing, e.Err) }

func (e *Error) Unwrap() error { return e.Err }

// Hint is the next step.
func (e *Error) Hint() string {
	if errors.Is(e.Err, context.Canceled) {
		return "ask again"
	}
	return "make room or mend the permissions there, or name another directory in $" + Variable + " (off: keep none)"
}

func (s *Store) failed(doing string, err error) error {
	var own *Error
	if err == nil || errors.As(err, &own) {
		return err
	}
	return &Error{s.opts.Dir, doing, err}
}
