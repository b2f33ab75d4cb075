package history

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// Whatever is wrong with the database, it is set aside whole, somebody is told, and
// the build that came upon it is recorded.
func TestCorrupt(t *testing.T) {
	spoil := func(at int64, data string) func(*testing.T, string) {
		return func(t *testing.T, path string) {
			t.Helper()
			f, err := os.OpenFile(path, os.O_WRONLY, 0)
			if err != nil {
				t.Fatal(err)
			}
			_, err = f.WriteAt([]byte(data), at)
			if err = errors.Join(err, f.Close()); err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, do := range map[string]func(*testing.T, string){
		"no database": spoil(0, strings.Repeat("this is something else altogether", 200)),
		"half of it": func(t *testing.T, path string) {
			t.Helper()
			info, err := os.Stat(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.Truncate(path, info.Size()/2); err != nil {
				t.Fatal(err)
			}
		},
		"a page of the schema": spoil(100, strings.Repeat("\xff", 3000)),
		"all but the head":     spoil(4096, strings.Repeat("\xee", 60<<10)),
	} {
		t.Run(name, func(t *testing.T) {
			first, _ := opened(t, Options{})
			for range 5 {
				record(t, first, Begun{Project: "p"}, Outcome{State: Done}, small()...)
			}
			if err := first.Close(); err != nil {
				t.Fatal(err)
			}
			do(t, first.file())
			before, err := os.ReadFile(first.file())
			if err != nil {
				t.Fatal(err)
			}
			s, said := opened(t, Options{Dir: first.opts.Dir})
			id := record(t, s, Begun{Project: "q"}, Outcome{State: Done}, small()...)
			list, err := s.List(t.Context(), Filter{})
			if err != nil || len(list) != 1 || list[0].ID != id {
				t.Errorf("%+v, %v", list, err)
			}
			aside, err := filepath.Glob(globbed(s.file()) + ".corrupt-*")
			if err != nil || len(aside) != 1 {
				t.Fatalf("set aside: %q, %v", aside, err)
			}
			after, err := os.ReadFile(aside[0])
			const head = 100 // which counts changes, also those that came to nothing
			if err != nil || !slices.Equal(before[head:], after[head:]) {
				t.Errorf("what was set aside is not what was there (%v)", err)
			}
			if len(*said) != 1 || !strings.Contains((*said)[0], "set aside as "+aside[0]) {
				t.Errorf("said %q", *said)
			}
		})
	}
}

// globbed is a path in which nothing is a pattern.
func globbed(path string) string {
	return strings.NewReplacer("?", `\?`, "*", `\*`, "[", `\[`).Replace(path)
}

// Damage that no list comes upon is found by Check, and what a store had open is
// another file then.
func TestCheck(t *testing.T) {
	s, said := opened(t, Options{})
	if err := s.Check(t.Context()); err != nil {
		t.Fatalf("of no database: %v", err)
	}
	id := record(t, s, Begun{Project: "p"}, Outcome{State: Done}, small()...)
	if err := s.Check(t.Context()); err != nil || len(*said) > 0 {
		t.Fatalf("of a sound one: %v, %v", err, *said)
	}
	other, _ := opened(t, Options{Dir: s.opts.Dir})
	if _, err := other.Build(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	db, err := s.open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	// The list's own pages stay sound: only the text index is damaged.
	if _, err := db.Exec("PRAGMA wal_checkpoint(truncate)"); err != nil {
		t.Fatal(err)
	}
	var root int64
	if err := db.QueryRow("SELECT rootpage FROM sqlite_schema WHERE name = 'words_data'").Scan(&root); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(s.file(), os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteAt([]byte(strings.Repeat("\xee", 4096)), (root-1)*4096)
	if err = errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	third, said := opened(t, Options{Dir: s.opts.Dir})
	if err := third.Check(t.Context()); err != nil || len(*said) != 1 {
		t.Fatalf("of a damaged one: %v, %v", err, *said)
	}
	id = record(t, other, Begun{Project: "q"}, Outcome{State: Done}, small()...)
	if b, err := third.Build(t.Context(), id); err != nil || b.Project != "q" {
		t.Errorf("a store that had the damaged one open records elsewhere: %v", err)
	}
}

// A database that somebody else has locked costs a warning; the build is taken in
// later, as it ended.
func TestLocked(t *testing.T) {
	s, _ := opened(t, Options{})
	record(t, s, Begun{Project: "p"}, Outcome{State: Done}, small()...)
	other, _ := opened(t, Options{Dir: s.opts.Dir})
	db, err := other.open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	tx, err := db.BeginTx(t.Context(), nil) // immediate: it has the lock
	if err != nil {
		t.Fatal(err)
	}
	r, err := s.Begin(Begun{Project: "late"})
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range small() {
		r.Add(e)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if err := r.End(ctx, Outcome{State: Failed, Error: "mine"}); err == nil {
		t.Fatal("a locked database takes a build in")
	}
	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}
	b, err := other.Build(t.Context(), r.ID())
	if err != nil || b.State != Failed || b.Error != "mine" || b.Pushed != 77 {
		t.Errorf("%+v, %v", b, err)
	}
	if diff := cmp.Diff(numbered(r.ID(), small()), follow(t, other, r.ID(), 0)); diff != "" {
		t.Errorf("events (-was +is):\n%s", diff)
	}
}

// A database of a later version is left alone.
func TestNewer(t *testing.T) {
	s, _ := opened(t, Options{})
	record(t, s, Begun{Project: "p"}, Outcome{State: Done}, small()...)
	db, err := s.open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec("PRAGMA user_version = 99"); err != nil {
		t.Fatal(err)
	}
	later, said := opened(t, Options{Dir: s.opts.Dir})
	_, err = later.List(t.Context(), Filter{})
	var hinted interface{ Hint() string }
	if err == nil || !strings.Contains(err.Error(), "version 99") || !errors.As(err, &hinted) || len(*said) > 0 {
		t.Errorf("%v, said %v", err, *said)
	}
}

// Lines that a disk has lost, or that a later lighter wrote, cost themselves.
func TestOddJournal(t *testing.T) {
	s, _ := opened(t, Options{})
	id := s.NewID()
	lines := strings.Join([]string{
		`{"begun":{"id":"` + id + `","project":"p","verb":"build","started":"2026-11-30T12:00:00Z"}}`,
		`{"seq":1,"time":"2026-11-30T12:00:01Z","log":{"step":"s","stream":1,"text":"one\n"}}`,
		"\x00\x00\x00{",
		`{"tomorrow":{}}`,
		`{"seq":2,"time":"2026-11-30T12:00:02Z","log":{"step":"s","stream":1,"text":"two\n"}}`,
		`{"seq":3,"time":"2026-11-30T12:00:03Z","log":{"step":"s","stre`,
	}, "\n")
	if err := os.WriteFile(s.running(id+journalExt), []byte(lines), 0o600); err != nil {
		t.Fatal(err)
	}
	// Neither is a name that is no ID anybody's journal.
	if err := os.WriteFile(s.running("notes"+journalExt), []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	b, err := s.Build(t.Context(), id)
	if err != nil || b.State != Interrupted || !strings.Contains(b.Error, "interrupted") {
		t.Fatalf("%+v, %v", b, err)
	}
	if got := follow(t, s, id, 0); len(got) != 2 || string(got[1].Log.Data) != "two\n" {
		t.Errorf("%+v", got)
	}
	if _, err := os.Stat(s.running("notes" + journalExt)); err != nil {
		t.Error(err)
	}
}
