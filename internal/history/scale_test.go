package history

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lighter-oci/lighter/internal/event"
)

// many fills a history with builds of 20 projects.
func many(tb testing.TB, n int) *Store {
	tb.Helper()
	s, err := Open(Options{Dir: tb.TempDir(), MaxAge: -1, MaxBytes: -1})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = s.Close() })
	db, err := s.open(tb.Context())
	if err != nil {
		tb.Fatal(err)
	}
	tx, err := db.Begin()
	if err != nil {
		tb.Fatal(err)
	}
	at := time.Now().Add(-time.Duration(n) * time.Minute)
	for i := range n {
		at = at.Add(time.Minute)
		b := Begun{
			ID: newID(at), Project: fmt.Sprintf("project-%d", i%20), Dir: fmt.Sprintf("/src/project-%d", i%20), Verb: "build", Variant: []string{"", "gpu"}[i%2],
			Platforms: []string{"linux/amd64", "linux/arm64"}, Who: "ann@host", How: HowCLI, Started: at, Names: []string{"registry.example.com/team/app:1.2.3"},
			Source: Source{Commit: strings.Repeat("a", 40), Branch: "main"},
		}
		t := taking{ctx: tb.Context(), tx: tx, died: Outcome{State: Done}, now: time.Now, begun: &b}
		if i%50 == 0 {
			t.died = Outcome{State: Failed, Error: "exit code: 1"}
		}
		for seq, e := range small() {
			t.fold.Add(e)
			t.last.Seq = uint64(seq) + 1
		}
		if err := t.finish(); err != nil {
			tb.Fatal(err)
		}
	}
	if err := tx.Commit(); err != nil {
		tb.Fatal(err)
	}
	return s
}

// What a screen lists is read along an index that has its order: no scan of all
// builds, and nothing is sorted.
func TestPlans(t *testing.T) {
	s := many(t, 300)
	db, err := s.open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		f     Filter
		index string
	}{
		"last":    {Filter{}, "sqlite_autoindex_builds_1"},
		"page":    {Filter{Before: "01"}, "sqlite_autoindex_builds_1"},
		"project": {Filter{Project: "project-1"}, "builds_project"},
		"dir":     {Filter{Dir: "/src/project-1", Verb: "build"}, "builds_dir"},
		"parts":   {Filter{Parent: "x"}, "builds_parent"},
		"top":     {Filter{Top: true}, "builds_parent"},
		"words":   {Filter{Text: "nothing"}, "words VIRTUAL TABLE INDEX"},
	} {
		q, args := tt.f.statement("row")
		rows, err := db.Query("EXPLAIN QUERY PLAN "+q, args...)
		if err != nil {
			t.Fatal(err)
		}
		var plan []string
		for rows.Next() {
			var id, parent, unused int
			var detail string
			if err := rows.Scan(&id, &parent, &unused, &detail); err != nil {
				t.Fatal(err)
			}
			plan = append(plan, detail)
		}
		if err := rows.Err(); err != nil {
			t.Fatal(err)
		}
		all := strings.Join(plan, "\n")
		if !strings.Contains(all, tt.index) || strings.Contains(all, "TEMP B-TREE FOR ORDER BY") && name != "words" ||
			strings.Contains(all, "SCAN builds\n") || strings.HasSuffix(all, "SCAN builds") {
			t.Errorf("%s: %s\n%s", name, q, all)
		}
	}
}

// BenchmarkList is what a page of builds costs in a history of 10,000.
func BenchmarkList(b *testing.B) {
	s := many(b, 10_000)
	for name, f := range map[string]Filter{
		"page": {Top: true}, "project": {Project: "project-7"}, "words": {Text: "nothing"}, "failed": {States: []State{Failed}}, "all": {Limit: -1},
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if _, err := s.List(b.Context(), f); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	b.Run("trend", func(b *testing.B) {
		for b.Loop() {
			if _, err := s.Trend(b.Context(), Filter{Project: "project-7", Limit: 100}); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("record", func(b *testing.B) { // with a process's own connection, as a command has
		for b.Loop() {
			s, err := Open(Options{Dir: s.opts.Dir})
			if err != nil {
				b.Fatal(err)
			}
			r, err := s.Begin(Begun{Project: "p"})
			if err != nil {
				b.Fatal(err)
			}
			for _, e := range small() {
				r.Add(e)
			}
			if err := r.End(b.Context(), Outcome{State: Done}); err != nil {
				b.Fatal(err)
			}
			if err := s.Close(); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// A log of 100 MB is recorded, taken in and read without being in memory.
func TestMemoryOfALargeLog(t *testing.T) {
	s, _ := opened(t, Options{})
	r, err := s.Begin(Begun{Project: "p"})
	if err != nil {
		t.Fatal(err)
	}
	const lines, width = 1_000_000, 100
	peak := highest(t, func() {
		var piece strings.Builder
		for i := range lines {
			fmt.Fprintf(&piece, "%-*d\n", width-1, i)
			if piece.Len() > 20<<10 {
				r.Add(event.Event{Log: &event.Log{Step: "s", Stream: 1, Data: []byte(piece.String())}})
				piece.Reset()
			}
		}
		r.Add(event.Event{Log: &event.Log{Step: "s", Stream: 1, Data: []byte(piece.String())}})
		if err := r.End(t.Context(), Outcome{State: Done}); err != nil {
			t.Fatal(err)
		}
		var got int64
		for e, err := range s.Log(t.Context(), r.ID(), "s") {
			if err != nil {
				t.Fatal(err)
			}
			got += int64(len(e.Log.Data))
		}
		if got != lines*width {
			t.Errorf("%d bytes came back, not %d", got, lines*width)
		}
	})
	// Measured: 14 MB.
	if limit := uint64(40 << 20); peak > limit {
		t.Errorf("the heap grew by %d MB, more than %d", peak>>20, limit>>20)
	}
	if info, err := os.Stat(s.file()); err != nil || info.Size() > 40<<20 {
		t.Errorf("100 MB of log take %d MB, %v", info.Size()>>20, err)
	}
}

// highest is how far the heap grew while do ran.
func highest(t *testing.T, do func()) uint64 {
	t.Helper()
	var before, now runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	peak := before.HeapAlloc
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			runtime.ReadMemStats(&now)
			peak = max(peak, now.HeapAlloc)
			select {
			case <-stop:
				return
			case <-time.After(5 * time.Millisecond):
			}
		}
	})
	do()
	close(stop)
	wg.Wait()
	t.Logf("the heap grew by %.1f MB", float64(peak-before.HeapAlloc)/(1<<20))
	return peak - before.HeapAlloc
}
