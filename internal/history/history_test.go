package history

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lighter-oci/lighter/internal/event"
	"github.com/lighter-oci/lighter/internal/report"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv("HISTORY_TEST_WRITER"); dir != "" {
		write(dir, os.Getenv("HISTORY_TEST_BUILDS"))
		return
	}
	os.Exit(m.Run())
}

// opened is a store in a directory of its own, with what it warned of.
func opened(t *testing.T, o Options) (*Store, *[]string) {
	t.Helper()
	if o.Dir == "" {
		o.Dir = filepath.Join(t.TempDir(), "a ?#% history")
	}
	said := &[]string{}
	o.Warn = func(err error) { *said = append(*said, err.Error()) }
	s, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s, said
}

// step is the events of one step of a build, with output.
func step(id, name string, output ...string) []event.Event {
	at := time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)
	end := at.Add(time.Second)
	list := []event.Event{{Time: at, Step: &event.Step{ID: id, Name: name, Started: &at}}}
	for _, o := range output {
		list = append(list, event.Event{Time: at, Log: &event.Log{Step: id, Stream: 1, Data: []byte(o)}})
	}
	return append(list, event.Event{Time: end, Step: &event.Step{ID: id, Name: name, Started: &at, Completed: &end}})
}

// small is a build of two steps.
func small() []event.Event {
	list := append(step("sha256:a", "[1/2] RUN echo one", "one\n", "\xff\xfe\x00\n"), step("sha256:b", "[2/2] RUN echo zwei", "zw\u00f6lf \x1b[31mrot\x1b[0m\n")...)
	at := list[len(list)-1].Time
	return append(list,
		event.Event{Time: at, Layer: &event.Layer{Action: event.LayerPushed, Digest: "sha256:l", Codec: "zstd:3", Out: 77, Where: "r/x"}},
		event.Event{Time: at, Result: &event.Result{Digest: "sha256:d", Names: []string{"r/x:1"}}})
}

// record records a build whole.
func record(t *testing.T, s *Store, b Begun, o Outcome, events ...event.Event) string {
	t.Helper()
	r, err := s.Begin(b)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range events {
		r.Add(e)
	}
	if err := r.End(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	return r.ID()
}

// follow is what Follow answers, which ends.
func follow(t *testing.T, s *Store, id string, after uint64) []event.Event {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	var list []event.Event
	for e, err := range s.Follow(ctx, id, after) {
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, e)
	}
	if ctx.Err() != nil {
		t.Fatalf("following %s did not end; got %d events", id, len(list))
	}
	return list
}

// numbered is events as a history gives them back.
func numbered(id string, events []event.Event) []event.Event {
	list := slices.Clone(events)
	for i := range list {
		list[i].Seq, list[i].Build = uint64(i)+1, id
	}
	return list
}

func TestBuildIsRecordedAndReadBack(t *testing.T) {
	s, said := opened(t, Options{})
	begun := Begun{Project: "shop", Dir: "/src/shop", Verb: "build", Variant: "gpu", Platforms: []string{"linux/amd64"},
		Who: "ann@host", How: HowCLI, Engine: "embedded", Started: time.Now().Add(-3 * time.Second)}
	r, err := s.Begin(begun)
	if err != nil {
		t.Fatal(err)
	}
	live, err := s.Build(t.Context(), r.ID())
	if err != nil || live.State != Running || live.Project != "shop" || live.Took < report.Seconds(3*time.Second) {
		t.Fatalf("while it runs: %+v, %v", live, err)
	}
	r.Source(Source{Commit: "abc", Branch: "main", Dirty: true})
	if live, err = s.Build(t.Context(), r.ID()); err != nil || live.Commit != "abc" {
		t.Fatalf("while it runs: %+v, %v", live, err)
	}
	for _, e := range small() {
		r.Add(e)
	}
	soFar, err := s.Report(t.Context(), r.ID())
	if err != nil || soFar.Summary.Steps.Run != 2 {
		t.Fatalf("report so far: %+v, %v", soFar.Summary, err)
	}
	if err := r.End(t.Context(), Outcome{State: Done}); err != nil {
		t.Fatal(err)
	}
	list, err := s.List(t.Context(), Filter{})
	if err != nil || len(list) != 1 {
		t.Fatalf("%d builds, %v", len(list), err)
	}
	got := list[0]
	if got.State != Done || got.Digest != "sha256:d" || got.Pushed != 77 || got.Steps.Run != 2 || got.Took != report.Seconds(time.Second) ||
		got.Branch != "main" || !got.Dirty || got.Stored == 0 || got.Names[0] != "r/x:1" || got.Log == 0 {
		t.Errorf("%+v", got)
	}
	rep, err := s.Report(t.Context(), r.ID())
	if err != nil || len(rep.Steps) != 2 || len(rep.Layers) != 1 {
		t.Errorf("%+v, %v", rep, err)
	}
	if diff := cmp.Diff(numbered(r.ID(), small()), follow(t, s, r.ID(), 0)); diff != "" {
		t.Errorf("events (-was +is):\n%s", diff)
	}
	if got := follow(t, s, r.ID(), 6); len(got) != 3 || got[0].Seq != 7 {
		t.Errorf("after 6: %+v", got)
	}
	if left, _ := os.ReadDir(s.running("")); len(left) > 0 || len(*said) > 0 {
		t.Errorf("left %v, said %v", left, *said)
	}
}

// A reader that comes early, one that comes late, and one that stands in the middle
// when the build ends see the same events with the same numbers.
func TestFollow(t *testing.T) {
	s, _ := opened(t, Options{})
	r, err := s.Begin(Begun{Project: "p", Verb: "build"})
	if err != nil {
		t.Fatal(err)
	}
	const n = 2000
	got := make(chan []uint64, 8)
	reader := func(slow bool) {
		var seqs []uint64
		for e, err := range s.Follow(t.Context(), r.ID(), 0) {
			if err != nil {
				t.Error(err)
			}
			seqs = append(seqs, e.Seq)
			if slow && e.Seq%500 == 0 {
				time.Sleep(100 * time.Millisecond)
			}
		}
		got <- seqs
	}
	readers := 0
	for i := range n {
		if i%400 == 0 {
			readers++
			go reader(i%800 == 0)
		}
		r.Add(event.Event{Log: &event.Log{Step: "x", Data: fmt.Appendf(nil, "line %d\n", i)}})
	}
	// One that comes back goes on where it was.
	for e, err := range s.Follow(t.Context(), r.ID(), 700) {
		if err != nil || e.Seq != 701 {
			t.Errorf("after 700 comes %d, %v", e.Seq, err)
		}
		break
	}
	if err := r.End(t.Context(), Outcome{State: Failed, Error: "no"}); err != nil {
		t.Fatal(err)
	}
	readers++
	go reader(false)
	for range readers {
		seqs := <-got
		if len(seqs) != n || !slices.IsSorted(seqs) || seqs[0] != 1 || seqs[n-1] != n {
			t.Errorf("%d events, not %d once each", len(seqs), n)
		}
	}
}

func TestFollowOfNothing(t *testing.T) {
	s, _ := opened(t, Options{})
	for _, id := range []string{"", "../../etc/passwd", strings.Repeat("0", 26)} {
		n := 0
		for _, err := range s.Follow(t.Context(), id, 0) {
			if n++; err == nil || !strings.Contains(err.Error(), "no build") {
				t.Errorf("%q: %v", id, err)
			}
		}
		if n != 1 {
			t.Errorf("%q: %d answers", id, n)
		}
	}
}

func TestIDs(t *testing.T) {
	at := time.UnixMilli(1469918176385)
	id := newID(at)
	if !strings.HasPrefix(id, "01aryz6s41") {
		t.Errorf("%s does not begin as the specification's example", id)
	}
	if !ValidID(id) || !timeOf(id).Equal(at) {
		t.Errorf("%s: valid %v, %v", id, ValidID(id), timeOf(id))
	}
	for _, bad := range []string{"", id + "0", strings.ToUpper(id), id[:25] + "u", id[:25] + "/", "z" + id[1:]} {
		if ValidID(bad) {
			t.Errorf("%q is valid", bad)
		}
	}
}

// A clock that is set back does not put new builds before old ones, nor does one
// that was wrong once empty the history.
func TestClockJumps(t *testing.T) {
	now := time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)
	s, _ := opened(t, Options{now: func() time.Time { return now }})
	first := record(t, s, Begun{Project: "p"}, Outcome{State: Done}, small()...)
	now = now.Add(-48 * time.Hour)
	second := record(t, s, Begun{Project: "p"}, Outcome{State: Done}, small()...)
	now = now.AddDate(70, 0, 0)
	third := record(t, s, Begun{Project: "p"}, Outcome{State: Done}, small()...)
	now = now.AddDate(-70, 0, 0)
	fourth := record(t, s, Begun{Project: "p", Started: now.Add(time.Minute)}, Outcome{State: Done}, small()...)
	list, err := s.List(t.Context(), Filter{})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, b := range list {
		got = append(got, b.ID)
		if b.Took < 0 {
			t.Errorf("took %v", b.Took)
		}
	}
	if diff := cmp.Diff([]string{fourth, third, second, first}, got); diff != "" {
		t.Errorf("the last first (-want +got):\n%s", diff)
	}
}

func TestTicket(t *testing.T) {
	s, _ := opened(t, Options{})
	state := func(id string) State {
		t.Helper()
		b, err := s.Build(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		return b.State
	}
	ticket, err := s.Queue(Begun{Project: "p", How: HowKitchen})
	if err != nil {
		t.Fatal(err)
	}
	if got := state(ticket.ID()); got != Queued {
		t.Errorf("it is %s", got)
	}
	r, err := s.Begin(Begun{ID: ticket.ID(), Project: "p", How: HowKitchen})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Begin(Begun{ID: ticket.ID(), Project: "p"}); err == nil {
		t.Error("one ID twice at a time")
	}
	if got := state(ticket.ID()); got != Running {
		t.Errorf("it is %s", got)
	}
	if err := ticket.Leave(t.Context(), Outcome{State: Killed}); err != nil {
		t.Fatal(err)
	}
	if err := r.End(t.Context(), Outcome{State: Done}); err != nil {
		t.Fatal(err)
	}
	if got := state(ticket.ID()); got != Done {
		t.Errorf("it is %s", got)
	}
	gone, err := s.Queue(Begun{Project: "p"})
	if err != nil {
		t.Fatal(err)
	}
	if err := gone.Leave(t.Context(), Outcome{State: Killed, Error: "taken out of the queue"}); err != nil {
		t.Fatal(err)
	}
	b, err := s.Build(t.Context(), gone.ID())
	if err != nil || b.State != Killed || b.Error != "taken out of the queue" {
		t.Errorf("%+v, %v", b, err)
	}
	if got := follow(t, s, gone.ID(), 0); len(got) > 0 {
		t.Errorf("a build that never began has %d events", len(got))
	}
}

// A list and the build's own report tell one time: from the first event to the
// result, or to its end where there is none, whatever its process did before.
func TestTookIsOne(t *testing.T) {
	now := time.Date(2026, 11, 30, 13, 0, 0, 0, time.UTC)
	s, _ := opened(t, Options{now: func() time.Time { return now }})
	for _, result := range []bool{true, false} {
		r, err := s.Begin(Begun{Project: "p", Started: now.Add(-time.Minute)})
		if err != nil {
			t.Fatal(err)
		}
		want := report.Seconds(30 * time.Second)
		r.Add(event.Event{Time: now, Step: &event.Step{ID: "s", Name: "RUN make", Started: &now}})
		now = now.Add(time.Duration(want))
		if result {
			r.Add(event.Event{Time: now, Result: &event.Result{}})
		}
		live, err := s.Build(t.Context(), r.ID())
		if err != nil || live.Took != want {
			t.Errorf("running: %v, %v", live.Took, err)
		}
		now = now.Add(10 * time.Second)
		if !result {
			want += report.Seconds(10 * time.Second)
		}
		if err := r.End(t.Context(), Outcome{State: Done}); err != nil {
			t.Fatal(err)
		}
		b, err := s.Build(t.Context(), r.ID())
		if err != nil {
			t.Fatal(err)
		}
		rep, err := s.Report(t.Context(), r.ID())
		if err != nil || b.Took != want || rep.Summary.Took != want {
			t.Errorf("with a result (%v): the row says %v, the report %v, want %v; %v", result, b.Took, rep.Summary.Took, want, err)
		}
	}
}
