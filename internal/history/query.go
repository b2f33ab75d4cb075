package history

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/lighter-oci/lighter/internal/report"
)

// statement is f in SQL, for some columns.
func (f Filter) statement(columns string) (string, []any) {
	var where []string
	var args []any
	and := func(clause string, arg any) {
		where, args = append(where, clause), append(args, arg)
	}
	for column, want := range map[string]string{"project": f.Project, "dir": f.Dir, "variant": f.Variant, "verb": f.Verb, "parent": f.Parent} {
		if want != "" {
			and(column+" = ?", want)
		}
	}
	if f.Top {
		and("parent = ?", "")
	}
	if len(f.States) > 0 {
		raw, _ := json.Marshal(f.States) // of strings
		and("state IN (SELECT value FROM json_each(?))", string(raw))
	}
	if !f.Since.IsZero() {
		and("started >= ?", f.Since.UnixMilli())
	}
	if !f.Until.IsZero() {
		and("started < ?", f.Until.UnixMilli())
	}
	if f.Before != "" {
		and("id < ?", f.Before)
	}
	if match := matching(f.Text); match != "" {
		and("n IN (SELECT rowid FROM words WHERE words MATCH ?)", match)
	}
	q := "SELECT " + columns + " FROM builds"
	if len(where) > 0 {
		q += " WHERE " + strings.Join(where, " AND ")
	}
	if f.Limit == 0 {
		f.Limit = defaultLimit
	}
	return q + " ORDER BY id DESC LIMIT ?", append(args, f.Limit)
}

// matching is words in the language of FTS5: each a phrase, as it may have any sign
// in it, and the beginning of a longer one.
func matching(text string) string {
	var list []string
	for _, word := range strings.FieldsFunc(text, func(r rune) bool { return unicode.IsSpace(r) || r == 0 }) { // a string of FTS5 ends at a NUL
		list = append(list, `"`+strings.ReplaceAll(word, `"`, `""`)+`"*`)
	}
	return strings.Join(list, " ")
}

func query(ctx context.Context, db *sql.DB, f Filter) ([]Build, error) {
	q, args := f.statement("row")
	rows, err := db.QueryContext(ctx, q, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	list := []Build{}
	for rows.Next() {
		var raw sql.RawBytes
		if err := rows.Scan(&raw); err != nil {
			return nil, err
		}
		var b Build
		if err := json.Unmarshal(raw, &b); err != nil {
			return nil, err
		}
		list = append(list, b)
	}
	return list, rows.Err()
}

// Point is one build in a trend.
type Point struct {
	ID      string         `json:"id"`
	State   State          `json:"state"`
	Started time.Time      `json:"started"`
	Took    report.Seconds `json:"seconds"`
	Image   int64          `json:"imageBytes"`
	Pushed  int64          `json:"pushedBytes"`
	Steps   int            `json:"steps"`
	Cached  int            `json:"cached"`
}

// Trend is how time, size and cache went over the builds that ended, the last first.
// It reads columns only: 10,000 builds take some milliseconds.
func (s *Store) Trend(ctx context.Context, f Filter) ([]Point, error) {
	list := []Point{}
	err := s.existing(ctx, func(db *sql.DB) error {
		list = list[:0]
		q, args := f.statement("id, state, started, seconds, image, pushed, total, cached")
		rows, err := db.QueryContext(ctx, q, args...)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var p Point
			var started int64
			var seconds float64
			if err := rows.Scan(&p.ID, &p.State, &started, &seconds, &p.Image, &p.Pushed, &p.Steps, &p.Cached); err != nil {
				return err
			}
			p.Started, p.Took = time.UnixMilli(started), report.Seconds(seconds*float64(time.Second))
			list = append(list, p)
		}
		return rows.Err()
	})
	return list, s.failed("list", err)
}

// Previous is the last build of the same thing that ended well before this one; the
// error is a *NotFoundError where there is none.
func (s *Store) Previous(ctx context.Context, b Build) (Build, error) {
	f := Filter{Project: b.Project, Dir: b.Dir, Verb: b.Verb, Variant: b.Variant, States: []State{Done}, Before: b.ID, Limit: 20}
	var list []Build
	err := s.existing(ctx, func(db *sql.DB) (err error) {
		list, err = query(ctx, db, f)
		return err
	})
	if err != nil {
		return Build{}, s.failed("list", err)
	}
	for _, p := range list {
		if p.Variant == b.Variant && slices.Equal(p.Platforms, b.Platforms) {
			return p, nil
		}
	}
	return Build{}, &NotFoundError{ID: "before " + Short(b.ID)}
}

// Find is the ID of what somebody typed: a whole ID, its end, its beginning, or @1
// for the last build that began, @2 for the one before, the parts of others not
// counted.
func (s *Store) Find(ctx context.Context, typed string) (string, error) {
	typed = strings.ToLower(strings.TrimSpace(typed))
	if back, err := strconv.Atoi(strings.TrimPrefix(typed, "@")); err == nil && strings.HasPrefix(typed, "@") {
		list, err := s.List(ctx, Filter{Top: true, Limit: max(back, 1)})
		if err == nil && (back < 1 || back > len(list)) {
			err = &NotFoundError{ID: typed}
		}
		if err != nil {
			return "", err
		}
		return list[back-1].ID, nil
	}
	ids, err := s.ids(ctx)
	if err != nil {
		return "", err
	}
	var found []string
	for _, id := range ids {
		if typed != "" && (strings.HasSuffix(id, typed) || strings.HasPrefix(id, typed)) {
			found = append(found, id)
		}
	}
	switch len(found) {
	case 0:
		return "", &NotFoundError{ID: typed}
	case 1:
		return found[0], nil
	}
	few := &NotFoundError{ID: typed}
	for _, id := range found[:min(len(found), 5)] {
		few.Many = append(few.Many, Short(id))
	}
	return "", few
}

// ids is all IDs, the last first.
func (s *Store) ids(ctx context.Context) ([]string, error) {
	live, err := s.live(ctx)
	if err != nil {
		return nil, err
	}
	var list []string
	for _, b := range live {
		list = append(list, b.ID)
	}
	err = s.existing(ctx, func(db *sql.DB) error {
		rows, err := db.QueryContext(ctx, "SELECT id FROM builds")
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var id string
			if err := rows.Scan(&id); err != nil {
				return err
			}
			list = append(list, id)
		}
		return rows.Err()
	})
	slices.Sort(list)
	list = slices.Compact(list)
	slices.Reverse(list)
	return list, s.failed("list", err)
}

// existing runs something on the database where there is one.
func (s *Store) existing(ctx context.Context, do func(*sql.DB) error) error {
	if _, err := os.Stat(s.file()); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return s.sound(ctx, do)
}
