package history

import (
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lighter-oci/lighter/internal/event"
	"github.com/lighter-oci/lighter/internal/report"
)

// A log that grows without end is recorded up to a limit, and what is missing is
// counted.
func TestLogLimit(t *testing.T) {
	s, _ := opened(t, Options{MaxLog: 100 << 10})
	r, err := s.Begin(Begun{Project: "p"})
	if err != nil {
		t.Fatal(err)
	}
	line := strings.Repeat("ä", 25<<10) // 50 kB without an end: two pieces
	for range 5 {
		r.Add(event.Event{Log: &event.Log{Step: "s", Data: []byte(line)}})
	}
	if err := r.End(t.Context(), Outcome{State: Done}); err != nil {
		t.Fatal(err)
	}
	var got strings.Builder
	dropped := 0
	for e, err := range s.Log(t.Context(), r.ID(), "s") {
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(line, string(e.Log.Data[:min(len(e.Log.Data), 2)])) {
			t.Errorf("a character was cut in two")
		}
		got.Write(e.Log.Data)
		dropped += e.Log.Dropped
	}
	if got.String() != strings.Repeat(line, 2) && got.String() != strings.Repeat(line, 3) || got.Len()+dropped != 5*len(line) {
		t.Errorf("%d bytes and %d dropped", got.Len(), dropped)
	}
}

func TestSearch(t *testing.T) {
	s, _ := opened(t, Options{})
	end := time.Now()
	failing := []event.Event{
		{Step: &event.Step{ID: "a", Name: "[1/1] RUN make widgets", Started: &end}},
		{Log: &event.Log{Step: "a", Data: []byte("gcc: fatal error: \x1b[31mundefined\x1b[0m reference to libfoo.so.2\n")}},
		{Log: &event.Log{Step: "a", Data: []byte(strings.Repeat("noise that fills the middle of it\n", 12_000))}},
		{Log: &event.Log{Step: "a", Data: []byte("Segmentierungsfehler in Größe\n")}},
		{Step: &event.Step{ID: "a", Name: "[1/1] RUN make widgets", Started: &end, Completed: &end, Error: `process "make" did not complete: exit code: 2`}},
		{Warning: &event.Warning{Short: "LegacyKeyValueFormat: old"}},
	}
	id := record(t, s, Begun{Project: "shop", Variant: "gpu", Who: "ann@desk"}, Outcome{State: Failed, Error: "exit code: 2",
		Findings: []report.Finding{{Kind: report.CacheMiss, Text: "main.go modified"}}}, failing...)
	record(t, s, Begun{Project: "other"}, Outcome{State: Done}, small()...)
	for text, found := range map[string]bool{
		"widgets": true, "widg": true, "idgets": false, "WIDGETS shop": true, "widgets nothing": false, "libfoo.so.2": true, "undefined reference": true,
		"segmentierungsfehler": true, "groesse": false, "größe": true, `exit "code: 2`: true, "legacykey": true, "main.go": true, "ann@desk": true, "gpu": true,
		`" OR project:*`: false, "NEAR(": false, "*": false, "a AND b": false, "'; DROP TABLE builds": false,
	} {
		list, err := s.List(t.Context(), Filter{Text: text, Project: "shop"})
		if err != nil {
			t.Errorf("%q: %v", text, err)
			continue
		}
		if (len(list) == 1 && list[0].ID == id) != found {
			t.Errorf("%q finds %d builds, want %v", text, len(list), found)
		}
	}
	if _, err := s.Remove(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if list, err := s.List(t.Context(), Filter{Text: "widgets"}); err != nil || len(list) > 0 {
		t.Errorf("a build that is gone is still found: %v, %v", list, err)
	}
}

func TestFilter(t *testing.T) {
	now := time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)
	s, _ := opened(t, Options{now: func() time.Time { now = now.Add(time.Minute); return now }})
	a := record(t, s, Begun{Project: "a", Dir: "/a", Verb: "publish"}, Outcome{State: Done})
	part := record(t, s, Begun{Project: "a", Dir: "/a", Verb: "build", Parent: a, Variant: "x"}, Outcome{State: Done})
	b := record(t, s, Begun{Project: "b", Dir: "/b", Verb: "pack"}, Outcome{State: Failed})
	r, err := s.Begin(Begun{Project: "a", Dir: "/a", Verb: "build", Variant: "x", Names: []string{"r/a:1"}})
	if err != nil {
		t.Fatal(err)
	}
	defer r.End(t.Context(), Outcome{State: Done})
	live := r.ID()
	for name, tt := range map[string]struct {
		f    Filter
		want []string
	}{
		"all":          {Filter{}, []string{live, b, part, a}},
		"project":      {Filter{Project: "a"}, []string{live, part, a}},
		"dir":          {Filter{Dir: "/b"}, []string{b}},
		"verb":         {Filter{Verb: "build"}, []string{live, part}},
		"variant":      {Filter{Variant: "x", States: []State{Done}}, []string{part}},
		"states":       {Filter{States: []State{Failed, Running}}, []string{live, b}},
		"parts":        {Filter{Parent: a}, []string{part}},
		"top":          {Filter{Top: true}, []string{live, b, a}},
		"limit":        {Filter{Limit: 2}, []string{live, b}},
		"page":         {Filter{Before: b}, []string{part, a}},
		"since":        {Filter{Since: time.Date(2026, 11, 30, 12, 5, 0, 0, time.UTC)}, nil},
		"words":        {Filter{Text: "r/A"}, []string{live}},
		"until":        {Filter{Until: time.Date(2026, 11, 30, 12, 2, 30, 0, time.UTC), Top: true}, []string{a}},
		"no such":      {Filter{Project: "c"}, []string{}},
		"injected one": {Filter{Project: "a' OR '1'='1"}, []string{}},
	} {
		list, err := s.List(t.Context(), tt.f)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		got := []string{}
		for _, b := range list {
			got = append(got, b.ID)
		}
		if name == "since" { // whose clock the store moves
			if len(got) == 0 || len(got) == 4 {
				t.Errorf("since: %d builds", len(got))
			}
			continue
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	for typed, want := range map[string]string{"@1": live, "@2": b, "@3": a, Short(b): b, strings.ToUpper(Short(b)): b, part: part, a[:26]: a} {
		if got, err := s.Find(t.Context(), typed); err != nil || got != want {
			t.Errorf("%q is %s, %v", typed, got, err)
		}
	}
	for _, typed := range []string{"", "@0", "@4", "@-1", "@", "@1x", "%", "_", "0"} {
		if got, err := s.Find(t.Context(), typed); err == nil {
			t.Errorf("%q is %s", typed, got)
		}
	}
	if _, err := s.Remove(t.Context(), live); err == nil || !strings.Contains(err.Error(), "running") {
		t.Errorf("removed a build that runs: %v", err)
	}
}

func TestPrune(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	s, _ := opened(t, Options{MaxAge: -1, MaxBytes: -1, now: func() time.Time { return now }})
	for i := range 30 {
		record(t, s, Begun{Project: []string{"a", "b"}[i%2]}, Outcome{State: Done}, small()...)
		now = now.AddDate(0, 0, 1)
	}
	all, err := s.List(t.Context(), Filter{})
	if err != nil {
		t.Fatal(err)
	}
	left := func(want int) []Build {
		t.Helper()
		list, err := s.List(t.Context(), Filter{})
		if err != nil || len(list) != want || !cmp.Equal(list, all[:want]) {
			t.Errorf("%d are left, not the last %d; %v", len(list), want, err)
		}
		return list
	}
	if p, err := s.Prune(t.Context(), 26*24*time.Hour, -1); err != nil || p.Builds != 4 || p.Bytes == 0 {
		t.Errorf("%+v, %v", p, err)
	}
	left(26)
	if p, err := s.Prune(t.Context(), 0, -1); err != nil || p.Builds != 6 {
		t.Errorf("the last ten of each project stay: %+v, %v", p, err)
	}
	list := left(20)
	var bytes int64
	for _, b := range list[:3] {
		bytes += b.Stored
	}
	if _, err := s.Prune(t.Context(), -1, bytes); err != nil {
		t.Error(err)
	}
	left(3)
	db, err := s.open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, table := range []string{"chunks", "logs"} {
		var n int
		if err := db.QueryRow("SELECT count(*) FROM " + table + " WHERE build NOT IN (SELECT n FROM builds)").Scan(&n); err != nil || n > 0 {
			t.Errorf("%s: %d rows of builds that are gone, %v", table, n, err)
		}
	}
	// End does the same.
	s.opts.MaxBytes = bytes
	record(t, s, Begun{Project: "a"}, Outcome{State: Done}, small()...)
	if list, err := s.List(t.Context(), Filter{}); err != nil || len(list) > 3 {
		t.Errorf("%d are left, %v", len(list), err)
	}
	size := func() int64 {
		t.Helper()
		if _, err := db.Exec("PRAGMA wal_checkpoint(truncate)"); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(s.file())
		if err != nil {
			t.Fatal(err)
		}
		return info.Size()
	}
	large := make([]byte, 2<<20)
	if _, err := rand.Read(large); err != nil {
		t.Fatal(err)
	}
	s.opts.MaxBytes = -1
	record(t, s, Begun{Project: "a"}, Outcome{State: Done}, event.Event{Log: &event.Log{Step: "s", Data: large}})
	before := size()
	if p, err := s.Prune(t.Context(), -1, 0); err != nil || p.Builds == 0 {
		t.Errorf("%+v, %v", p, err)
	}
	left(0)
	if after := size(); after > before/4 {
		t.Errorf("%d bytes became %d", before, after)
	}
}

func TestModes(t *testing.T) {
	s, _ := opened(t, Options{})
	ticket, err := s.Queue(Begun{Project: "p"})
	if err != nil {
		t.Fatal(err)
	}
	defer ticket.Leave(t.Context(), Outcome{State: Killed})
	r, err := s.Begin(Begun{Project: "p"})
	if err != nil {
		t.Fatal(err)
	}
	record(t, s, Begun{Project: "p"}, Outcome{State: Done}, small()...)
	if err := s.Stopping(r.ID()); err != nil {
		t.Fatal(err)
	}
	n := 0
	err = filepath.WalkDir(s.opts.Dir, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err == nil && info.Mode().Perm()&0o077 != 0 {
			err = fmt.Errorf("%s has mode %v", path, info.Mode())
		}
		n++
		return err
	})
	if err != nil || n < 6 {
		t.Errorf("%d files, %v", n, err)
	}
	if err := r.Drop(); err != nil {
		t.Error(err)
	}
	if list, err := s.List(t.Context(), Filter{States: []State{Running}}); err != nil || len(list) > 0 {
		t.Errorf("%+v, %v", list, err)
	}
}
