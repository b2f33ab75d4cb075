package history

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/lighter-oci/lighter/internal/report"
)

// Filter chooses builds. The zero value is all, 100 of them at most.
type Filter struct {
	Project string
	Dir     string // of the project
	Variant string
	Verb    string
	States  []State
	Parent  string    // the parts of a publish
	Top     bool      // no parts
	Since   time.Time // that began then or later
	Until   time.Time // that began before
	Text    string    // words that all have to be in names, errors or logs, or their beginnings
	Before  string    // IDs before this one: the next page
	Limit   int       // 0 is 100, negative no limit
}

const defaultLimit = 100

// List is builds, the last first: those that wait or run, and those that ended.
func (s *Store) List(ctx context.Context, f Filter) ([]Build, error) {
	if f.Limit == 0 {
		f.Limit = defaultLimit
	}
	live, err := s.live(ctx)
	if err != nil {
		return nil, err
	}
	var list []Build
	err = s.existing(ctx, func(db *sql.DB) (err error) {
		list, err = query(ctx, db, f)
		return err
	})
	if err != nil {
		return nil, s.failed("list", err)
	}
	for _, b := range live {
		if f.takes(b) && !slices.ContainsFunc(list, func(l Build) bool { return l.ID == b.ID }) {
			list = append(list, b)
		}
	}
	slices.SortFunc(list, func(a, b Build) int { return cmp.Compare(b.ID, a.ID) })
	if f.Limit > 0 && len(list) > f.Limit {
		list = list[:f.Limit]
	}
	return list, nil
}

// takes tells whether a build that has not ended is among those that f wants.
func (f Filter) takes(b Build) bool {
	text := strings.ToLower(strings.Join(append([]string{b.Project, b.Dir, b.Verb, b.Variant, b.Version, b.Commit, b.Branch, b.Who}, b.Names...), "\n"))
	for _, word := range strings.Fields(strings.ToLower(f.Text)) {
		if !strings.Contains(text, word) {
			return false
		}
	}
	return (f.Project == "" || f.Project == b.Project) && (f.Dir == "" || f.Dir == b.Dir) && (f.Variant == "" || f.Variant == b.Variant) && (f.Verb == "" || f.Verb == b.Verb) &&
		(len(f.States) == 0 || slices.Contains(f.States, b.State)) && (f.Parent == "" || f.Parent == b.Parent) && (!f.Top || b.Parent == "") &&
		(f.Since.IsZero() || !b.Started.Before(f.Since)) && (f.Until.IsZero() || b.Started.Before(f.Until)) && (f.Before == "" || b.ID < f.Before)
}

// live is what waits and runs. What died meanwhile is taken in first.
func (s *Store) live(ctx context.Context) ([]Build, error) {
	if _, err := s.Sweep(ctx); err != nil {
		s.opts.Warn(err) // what can be listed is
	}
	seen := map[string]bool{}
	var list []Build
	for _, ext := range []string{journalExt, queuedExt} {
		ids, err := s.waiting(ext)
		if err != nil {
			return nil, s.failed("list", err)
		}
		for _, id := range ids {
			if seen[id] {
				continue // a ticket whose build runs
			}
			begun, first, err := readBegun(s.running(id + ext))
			if err != nil {
				continue // taken in meanwhile
			}
			b, ok := s.liveBuild(begun, first, ext)
			if !ok {
				continue
			}
			seen[id] = true
			list = append(list, b)
		}
	}
	return list, nil
}

// liveBuild is a build of running/. One that nobody runs any more is there while the
// database cannot take it in: on a full disk, say. It is false where that has just
// been done.
func (s *Store) liveBuild(begun Begun, first time.Time, ext string) (Build, bool) {
	b := Build{Begun: begun, State: Running}
	if ext == queuedExt {
		b.State = Queued
		return b, true
	}
	b.Took = report.Seconds(max(s.opts.now().Sub(first), 0))
	if path := s.running(begun.ID + ext); !held(path) {
		end, err := lastWords(path)
		if err != nil {
			return b, false
		}
		b.State, b.Error, b.Ended = end.State, end.Error, end.Time
		if _, err := os.Stat(s.running(begun.ID + stoppedExt)); err == nil && b.State == Interrupted {
			b.State = Killed
		}
		b.Took = report.Seconds(max(b.Ended.Sub(first), 0))
	}
	return b, true
}

// readBegun reads the first lines of a journal, among which Source is as soon as it
// is known, and when something first happened: from there a build's time counts, which
// is what its process began with where nothing has.
func readBegun(path string) (begun Begun, first time.Time, err error) {
	f, err := os.Open(path)
	if err != nil {
		return begun, first, err
	}
	defer f.Close()
	lines := tail{r: f}
	data, err := lines.next()
	if err != nil {
		return begun, first, err
	}
	l, err := decode(data)
	if err == nil && l.Begun == nil {
		err = errors.New(path + ": a journal without a beginning")
	}
	if err != nil {
		return begun, first, err
	}
	begun = *l.Begun
	for range 8 {
		if data, err = lines.next(); err != nil {
			break
		}
		l, ok := readable(data)
		if ok && l.isEvent() && first.IsZero() {
			first = l.Time
		}
		if ok && l.Source != nil {
			begun.Source = *l.Source
			if !first.IsZero() {
				break
			}
		}
	}
	if first.IsZero() {
		first = begun.Started
	}
	return begun, first, nil
}

// NotFoundError is an ID, or a part of one, that names no build, or several.
type NotFoundError struct {
	ID   string
	Many []string // that it could be
}

func (e *NotFoundError) Error() string {
	if len(e.Many) > 0 {
		return fmt.Sprintf("build %q is one of several: %s", e.ID, strings.Join(e.Many, ", "))
	}
	return fmt.Sprintf("no build %q in the history", e.ID)
}

// Hint is the next step.
func (e *NotFoundError) Hint() string {
	if len(e.Many) > 0 {
		return "type more of it"
	}
	return "`lighter history ls` lists them; @1 is the last"
}

// Build is one build by its ID.
func (s *Store) Build(ctx context.Context, id string) (Build, error) {
	b, _, err := s.row(ctx, id)
	return b, err
}

// row is a build and its n; 0 where it is not in the database.
func (s *Store) row(ctx context.Context, id string) (b Build, n int64, err error) {
	if !ValidID(id) {
		return b, 0, &NotFoundError{ID: id}
	}
	if _, err := s.Sweep(ctx); err != nil {
		s.opts.Warn(err)
	}
	if begun, first, err := readBegun(s.running(id + journalExt)); err == nil {
		if b, ok := s.liveBuild(begun, first, journalExt); ok {
			return b, 0, nil
		}
	}
	err = s.existing(ctx, func(db *sql.DB) error {
		var raw []byte
		err := db.QueryRowContext(ctx, "SELECT n, row FROM builds WHERE id = ?", id).Scan(&n, &raw)
		if err == nil {
			err = json.Unmarshal(raw, &b)
		}
		return err
	})
	if errors.Is(err, sql.ErrNoRows) || err == nil && n == 0 {
		// Only now: the ticket of a build that has run is there a moment longer.
		if begun, first, err := readBegun(s.running(id + queuedExt)); err == nil {
			b, _ := s.liveBuild(begun, first, queuedExt)
			return b, 0, nil
		}
		return b, 0, &NotFoundError{ID: id}
	}
	return b, n, s.failed("read build "+Short(id), err)
}

// Report is what a build told its reader: steps, stages, layers, proofs, mounts,
// warnings and findings. Of one that is running it says how far it is.
func (s *Store) Report(ctx context.Context, id string) (report.Report, error) {
	var r report.Report
	_, n, err := s.row(ctx, id)
	if err != nil {
		return r, err
	}
	if n == 0 {
		r, err = s.soFar(id)
		return r, s.failed("read build "+Short(id), err)
	}
	err = s.sound(ctx, func(db *sql.DB) error {
		var raw []byte
		err := db.QueryRowContext(ctx, "SELECT report FROM builds WHERE n = ?", n).Scan(&raw)
		if err == nil {
			raw, err = s.unpack(raw)
		}
		if err == nil {
			err = json.Unmarshal(raw, &r)
		}
		return err
	})
	return r, s.failed("read build "+Short(id), err)
}

func (s *Store) unpack(data []byte) ([]byte, error) { return s.zstd.DecodeAll(data, nil) }
