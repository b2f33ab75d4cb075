package history

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"

	"github.com/gofrs/flock"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// schema is what each version of the database adds to the one before. A step that
// has been released never changes.
var schema = [...]string{1: `
CREATE TABLE builds (
	n        INTEGER PRIMARY KEY,
	id       TEXT NOT NULL UNIQUE,
	parent   TEXT NOT NULL,
	project  TEXT NOT NULL,
	dir      TEXT NOT NULL,
	verb     TEXT NOT NULL,
	variant  TEXT NOT NULL,
	state    TEXT NOT NULL,
	started  INTEGER NOT NULL, -- milliseconds since 1970
	seconds  REAL NOT NULL,
	image    INTEGER NOT NULL, -- bytes, as all sizes
	pushed   INTEGER NOT NULL,
	total    INTEGER NOT NULL, -- steps
	cached   INTEGER NOT NULL,
	stored   INTEGER NOT NULL, -- by this build, about
	events   INTEGER NOT NULL, -- the last Seq
	row      BLOB NOT NULL,    -- a Build as JSON
	report   BLOB NOT NULL     -- a report.Report as JSON, zstd
) STRICT;
CREATE INDEX builds_project ON builds (project, id);
CREATE INDEX builds_dir ON builds (dir, id);
CREATE INDEX builds_parent ON builds (parent, id);
CREATE INDEX builds_started ON builds (started); -- for what is too old
CREATE INDEX builds_state ON builds (state, id);
CREATE INDEX builds_stored ON builds (id, stored);
CREATE TABLE chunks (
	build INTEGER NOT NULL REFERENCES builds ON DELETE CASCADE,
	first INTEGER NOT NULL, -- Seq of its first event
	last  INTEGER NOT NULL,
	data  BLOB NOT NULL,    -- lines of the journal, zstd
	PRIMARY KEY (build, first)
) STRICT;
CREATE TABLE logs ( -- which chunks have output of a step
	build INTEGER NOT NULL,
	step  TEXT NOT NULL,
	first INTEGER NOT NULL,
	PRIMARY KEY (build, step, first),
	FOREIGN KEY (build, first) REFERENCES chunks ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
CREATE VIRTUAL TABLE words USING fts5 (about, errors, log, content='', contentless_delete=1);
`, 2: `
ALTER TABLE logs ADD COLUMN line  INTEGER NOT NULL DEFAULT -1; -- a mark; -1 is not counted yet
ALTER TABLE logs ADD COLUMN lines INTEGER NOT NULL DEFAULT 0;
ALTER TABLE logs ADD COLUMN open  INTEGER NOT NULL DEFAULT 0;
ALTER TABLE logs ADD COLUMN wrong INTEGER NOT NULL DEFAULT 0;
CREATE TABLE keep ( -- what a dashboard says is kept: one row at most
	one   INTEGER PRIMARY KEY CHECK (one = 1),
	age   INTEGER, -- nanoseconds; NULL is as Options have it
	bytes INTEGER
) STRICT;
`}

// open is the database, made or brought up to date where it has to be. One that is
// corrupt is set aside, and a new one begun.
func (s *Store) open(ctx context.Context) (*sql.DB, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.db != nil {
		// Somebody may have set it aside, or removed it.
		if now, err := os.Stat(s.file()); err == nil && os.SameFile(now, s.opened) {
			return s.db, nil
		}
		_ = s.db.Close()
		s.db = nil
	}
	db, err := s.connect(ctx)
	if corrupt(err) {
		if err = s.setAside(ctx, err); err == nil {
			db, err = s.connect(ctx)
		}
	}
	if err != nil {
		return nil, s.failed("open", err)
	}
	s.db = db
	return db, nil
}

func (s *Store) connect(ctx context.Context) (*sql.DB, error) {
	// The file is made here, because SQLite would let others read it.
	f, err := os.OpenFile(s.file(), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	s.opened, err = f.Stat()
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	where := url.URL{Scheme: "file", Path: s.file(), RawQuery: "_txlock=immediate&_pragma=busy_timeout(10000)&_pragma=auto_vacuum(incremental)" +
		"&_pragma=journal_mode(wal)&_pragma=synchronous(normal)&_pragma=foreign_keys(1)"}
	db, err := sql.Open("sqlite", where.String())
	if err == nil {
		err = migrate(ctx, db)
	}
	if err != nil && db != nil {
		_ = db.Close()
	}
	return db, err
}

// migrate brings the database up to the last version.
func migrate(ctx context.Context, db *sql.DB) error {
	var version int
	if err := db.QueryRowContext(ctx, "PRAGMA user_version").Scan(&version); err != nil {
		return err
	}
	last := len(schema) - 1
	if version > last {
		return &newerError{version, last}
	}
	if version == last {
		// Damage that matters to every query is found here; the rest by Check.
		return db.QueryRowContext(ctx, "SELECT count(*) FROM (SELECT id FROM builds ORDER BY id DESC LIMIT 1)").Scan(new(int))
	}
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback() //nolint:errcheck // after Commit there is nothing to roll back
	// Another process may have been first.
	if err := tx.QueryRowContext(ctx, "PRAGMA user_version").Scan(&version); err != nil {
		return err
	}
	for v := version + 1; v <= last; v++ {
		if _, err := tx.ExecContext(ctx, schema[v]); err != nil {
			return fmt.Errorf("migration %d: %w", v, err)
		}
	}
	if _, err := tx.ExecContext(ctx, fmt.Sprintf("PRAGMA user_version = %d", last)); err != nil {
		return err
	}
	return tx.Commit()
}

// newerError is a database of a later lighter, which is left alone.
type newerError struct{ has, knows int }

func (e *newerError) Error() string {
	return fmt.Sprintf("history.db has version %d, and this lighter knows %d", e.has, e.knows)
}

// Hint is the next step.
func (e *newerError) Hint() string {
	return "use the newer lighter, or another directory in $" + Variable
}

// corrupt tells an error that says that the file is no sound database.
func corrupt(err error) bool {
	var e *sqlite.Error
	if !errors.As(err, &e) {
		return false
	}
	code := e.Code() & 0xff
	return code == sqlite3.SQLITE_CORRUPT || code == sqlite3.SQLITE_NOTADB
}

// Check reads the whole database and sets it aside where it is not sound: for who
// starts to serve it. It takes a second for each gigabyte or so.
func (s *Store) Check(ctx context.Context) error {
	if _, err := os.Stat(s.file()); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	db, err := s.open(ctx)
	if err != nil {
		return err
	}
	var said string
	err = db.QueryRowContext(ctx, "PRAGMA quick_check(1)").Scan(&said)
	switch {
	case err == nil && said == "ok":
		return nil
	case err == nil:
		err = errors.New(said)
	case !corrupt(err):
		return s.failed("check", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	_ = s.db.Close()
	s.db = nil
	return s.failed("set aside", s.setAside(ctx, err))
}

// sound runs something on the database, and once more on a new one where it turns
// out to be corrupt.
func (s *Store) sound(ctx context.Context, do func(*sql.DB) error) error {
	for again := false; ; again = true {
		db, err := s.open(ctx)
		if err != nil {
			return err
		}
		if err = do(db); again || !corrupt(err) {
			return err
		}
		s.mu.Lock()
		if s.db == db {
			_ = s.db.Close()
			s.db = nil
			err = s.setAside(ctx, err)
		} else {
			err = nil // somebody else of this process did
		}
		s.mu.Unlock()
		if err != nil {
			return s.failed("set aside", err)
		}
	}
}

// setAside gives a database that is not sound a name with the date. It stays for
// whoever wants to mend it. The caller holds mu.
func (s *Store) setAside(ctx context.Context, why error) error {
	l := flock.New(s.file()+".lock", flock.SetPermissions(0o600))
	if err := l.Lock(); err != nil {
		return err
	}
	defer l.Close()
	// Where it is another file by now, another process was here before.
	if now, err := os.Stat(s.file()); err != nil || !os.SameFile(now, s.opened) {
		return nil
	}
	to := s.file() + ".corrupt-" + s.opts.now().UTC().Format("20060102T150405.000")
	for _, part := range []string{"-wal", "-shm", ""} {
		if err := os.Rename(s.file()+part, to+part); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	s.opts.Warn(fmt.Errorf("history: %s is corrupt (%w): set aside as %s, and a new one begun", s.file(), why, to))
	return ctx.Err()
}
