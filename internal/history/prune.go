package history

import (
	"context"
	"database/sql"
	"errors"
	"io/fs"
	"os"
	"time"
)

// kept is how many builds of each project age alone takes nothing of: a clock that
// jumps would take all.
const kept = 10

// Limits are what is kept, as Prune takes it.
type Limits struct {
	Age   time.Duration
	Bytes int64
}

// SetLimits says what every process keeps of this history from here on, in place of
// its own Options. What is 0 is theirs.
func (s *Store) SetLimits(ctx context.Context, l Limits) error {
	err := s.sound(ctx, func(db *sql.DB) error {
		_, err := db.ExecContext(ctx, "INSERT OR REPLACE INTO keep VALUES (1, nullif(?, 0), nullif(?, 0))", int64(l.Age), l.Bytes)
		return err
	})
	return s.failed("say what is kept", err)
}

// Limits is what is kept: what SetLimits has said, or the Options.
func (s *Store) Limits(ctx context.Context) (Limits, error) {
	l := Limits{s.opts.MaxAge, s.opts.MaxBytes}
	err := s.existing(ctx, func(db *sql.DB) error {
		err := db.QueryRowContext(ctx, "SELECT coalesce(age, ?), coalesce(bytes, ?) FROM keep", int64(l.Age), l.Bytes).Scan((*int64)(&l.Age), &l.Bytes)
		if errors.Is(err, sql.ErrNoRows) {
			err = nil
		}
		return err
	})
	return l, s.failed("see what is kept", err)
}

// Trim removes what is beyond the Limits.
func (s *Store) Trim(ctx context.Context) error {
	l, err := s.Limits(ctx)
	if err == nil {
		_, err = s.Prune(ctx, l.Age, l.Bytes)
	}
	return err
}

// Pruned is what was removed.
type Pruned struct {
	Builds int   `json:"builds"`
	Bytes  int64 `json:"bytes"`
}

// Prune removes builds that began before an age ago, but for the last ten of each
// project, and then the oldest until the rest takes no more than so many bytes.
// Where one is negative, nothing goes for it. What is running stays.
func (s *Store) Prune(ctx context.Context, age time.Duration, bytes int64) (Pruned, error) {
	var p Pruned
	if _, err := os.Stat(s.file()); errors.Is(err, fs.ErrNotExist) {
		return p, nil
	}
	err := s.sound(ctx, func(db *sql.DB) error {
		p = Pruned{}
		if age >= 0 {
			if err := p.remove(ctx, db, `SELECT n FROM builds b WHERE started < ? AND
				(SELECT count(*) FROM (SELECT 1 FROM builds o WHERE o.project = b.project AND o.id > b.id LIMIT ?)) = ?`,
				s.opts.now().Add(-age).UnixMilli(), kept, kept); err != nil {
				return err
			}
		}
		if bytes < 0 {
			return nil
		}
		var total int64
		if err := db.QueryRowContext(ctx, "SELECT coalesce(sum(stored), 0) FROM builds").Scan(&total); err != nil || total <= bytes {
			return err
		}
		return p.remove(ctx, db, `SELECT n FROM (SELECT n, sum(stored) OVER (ORDER BY id DESC) AS upto FROM builds) WHERE upto > ?`, bytes)
	})
	return p, s.failed("prune", err)
}

// Remove forgets builds.
func (s *Store) Remove(ctx context.Context, ids ...string) (Pruned, error) {
	var p Pruned
	for _, id := range ids {
		b, n, err := s.row(ctx, id)
		if err != nil {
			return p, err
		}
		if !b.State.Over() {
			return p, s.failed("remove build "+Short(id), errors.New("it is "+string(b.State)))
		}
		err = s.sound(ctx, func(db *sql.DB) error { return p.remove(ctx, db, "SELECT ?", n) })
		if err != nil {
			return p, s.failed("remove build "+Short(id), err)
		}
	}
	return p, nil
}

// remove deletes the rows whose n a query answers.
func (p *Pruned) remove(ctx context.Context, db *sql.DB, q string, args ...any) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback() //nolint:errcheck // after Commit there is nothing to roll back
	rows, err := tx.QueryContext(ctx, "SELECT n, stored FROM builds WHERE n IN ("+q+")", args...)
	if err != nil {
		return err
	}
	var list []int64
	var freed int64
	for rows.Next() {
		var n, stored int64
		if err := rows.Scan(&n, &stored); err != nil {
			return errors.Join(err, rows.Close())
		}
		list, freed = append(list, n), freed+stored
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil || len(list) == 0 {
		return err
	}
	for _, n := range list {
		for _, q := range []string{"DELETE FROM words WHERE rowid = ?", "DELETE FROM builds WHERE n = ?"} {
			if _, err := tx.ExecContext(ctx, q, n); err != nil {
				return err
			}
		}
	}
	if err := tx.Commit(); err != nil {
		return err
	}
	// Gives the pages that are free now back to the file system, a step a page.
	if rows, err = db.QueryContext(ctx, "PRAGMA incremental_vacuum"); err != nil {
		return err
	}
	for rows.Next() {
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil {
		return err
	}
	p.Builds, p.Bytes = p.Builds+len(list), p.Bytes+freed
	return nil
}
