package history

import (
	"bytes"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lighter-oci/lighter/internal/event"
)

// talk is what two steps say in turn, in pieces that end anywhere, and the lines
// that this is.
func talk(pieces int) (events []event.Event, lines map[string][]string) {
	r := rand.New(rand.NewPCG(1, 2))
	text := map[string]*strings.Builder{"sha256:a": {}, "sha256:b": {}}
	for i := range pieces {
		step := []string{"sha256:a", "sha256:b"}[r.IntN(2)]
		var b strings.Builder
		for range r.IntN(40) {
			fmt.Fprintf(&b, "%d zw\u00f6lf \x1b[3%dmB\x1b[1mig\x1b[0m %s", r.IntN(1000), r.IntN(8), []string{"\n", "\r", "\n\n", "\tx", `"\`}[r.IntN(5)])
		}
		l := event.Log{Step: step, Stream: 1, Data: []byte(b.String())}
		if i == pieces/2 {
			l.Dropped = 17
			text[step].WriteString("[17 bytes of output were not kept]\n")
		}
		if i == pieces*2/3 {
			l.Data = append(l.Data, "\n\x1b[31mERROR\x1b[0m: of both\n\xff\xfe\n"...)
		}
		text[step].Write(l.Data)
		events = append(events, event.Event{Time: time.Now(), Log: &l}, event.Event{Time: time.Now(), Progress: &event.Progress{Step: step, ID: "x"}})
	}
	lines = map[string][]string{}
	for step, b := range text {
		lines[step] = strings.Split(b.String(), "\n")
		if n := len(lines[step]); lines[step][n-1] == "" {
			lines[step] = lines[step][:n-1]
		}
	}
	return events, lines
}

// The lines of all steps come in the order in which they end, whatever pieces they
// came in, and nothing is lost of one that never ends.
func TestLinesOf(t *testing.T) {
	events, want := talk(200)
	got := map[string][]string{}
	for line, err := range LinesOf(given(events, nil)) {
		if err != nil {
			t.Fatal(err)
		}
		got[line.Step] = append(got[line.Step], string(line.Text))
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("lines (-want +got):\n%s", diff)
	}

	var order []string
	piece := func(step, text string) event.Event {
		return event.Event{Log: &event.Log{Step: step, Data: []byte(text)}}
	}
	broken := errors.New("broken")
	list := []event.Event{piece("a", "1"), piece("b", "2\n3"), piece("a", "4\n"), piece("c", strings.Repeat("x", maxOpen-1)), piece("c", "xy"), piece("c", "z")}
	for _, failed := range []error{nil, broken} {
		order = order[:0]
		for line, err := range LinesOf(given(list, failed)) {
			order = append(order, line.Step+" "+string(line.Text[max(0, len(line.Text)-2):]))
			if err != nil {
				order[len(order)-1] = err.Error()
			}
		}
		want := []string{"b 2", "a 14", "c xy"}
		if failed != nil {
			want = append(want, "broken")
		} else {
			want = append(want, "b 3", "c z")
		}
		if diff := cmp.Diff(want, order); diff != "" {
			t.Errorf("order, %v (-want +got):\n%s", failed, diff)
		}
	}
}

// given are events, and what comes of reading on.
func given(events []event.Event, failed error) iter.Seq2[event.Event, error] {
	return func(yield func(event.Event, error) bool) {
		for _, e := range events {
			if !yield(e, nil) {
				return
			}
		}
		if failed != nil {
			yield(event.Event{}, failed)
		}
	}
}

// said holds what the store has of a step's lines against what they are.
func said(t *testing.T, s *Store, id, step string, want []string) {
	t.Helper()
	p, err := s.Printed(t.Context(), id, step)
	if err != nil || p.Lines != len(want) {
		t.Errorf("%s has %d lines, %v; want %d", step, p.Lines, err, len(want))
	}
	if i := slices.Index(want, "\x1b[31mERROR\x1b[0m: of both"); p.Wrong != i+1 {
		t.Errorf("%s: the first error is in line %d, want %d", step, p.Wrong, i+1)
	}
	all, err := s.stretches(t.Context(), id, step)
	if err != nil {
		t.Fatal(err)
	}
	all.done()
	places := []int{-1, 1, 2, 3, len(want) - 1, len(want), len(want) + 1}
	for _, at := range all.list {
		places = append(places, at.line, at.line+1, at.line+2)
	}
	for _, from := range places {
		n := max(from, 1)
		for l, err := range s.Lines(t.Context(), id, step, from) {
			if err != nil {
				t.Fatal(err)
			}
			if l.N != n || n > len(want) || string(l.Text) != want[n-1] {
				t.Fatalf("%s from %d: line %d is %q; it should be the %dth of %d", step, from, l.N, l.Text, n, len(want))
			}
			if n++; from > 3 && n > from+200 { // as a page
				break
			}
		}
		if n != max(len(want)+1, from) && n != from+201 {
			t.Errorf("%s from %d: ended before line %d of %d", step, from, n, len(want))
		}
	}
	var found, wanted []string
	for l, err := range s.Grep(t.Context(), id, step, "ZW\u00d6LF big 4") {
		if err != nil {
			t.Fatal(err)
		}
		found = append(found, fmt.Sprintf("%d %s", l.N, l.Text))
	}
	for i, line := range want {
		if strings.Contains(colours.Replace(line), "zw\u00f6lf Big 4") {
			wanted = append(wanted, fmt.Sprintf("%d %s", i+1, line))
		}
	}
	if diff := cmp.Diff(wanted, found); diff != "" {
		t.Errorf("%s: found: %s", step, diff)
	}
}

var colours = func() *strings.Replacer {
	list := []string{"\x1b[1m", "", "\x1b[0m", ""}
	for i := range 8 {
		list = append(list, fmt.Sprintf("\x1b[3%dm", i), "")
	}
	return strings.NewReplacer(list...)
}()

// The lines of a step are the same while the build runs, when it has ended, and in a
// database of before they were counted.
func TestLines(t *testing.T) {
	s, _ := opened(t, Options{})
	events, _ := talk(1200)
	r, err := s.Begin(Begun{Project: "p"})
	if err != nil {
		t.Fatal(err)
	}
	check := func(state string) {
		t.Helper()
		_, lines := talk(1200)
		for step, want := range lines {
			said(t, s, r.ID(), step, want)
		}
		if t.Failed() {
			t.Fatal(state)
		}
	}
	said(t, s, r.ID(), "sha256:a", nil)
	for i, e := range events {
		if r.Add(e); i%500 == 0 {
			if _, err := s.Printed(t.Context(), r.ID(), "sha256:a"); err != nil {
				t.Fatal(err)
			}
		}
	}
	check("while it runs")
	if err := r.End(t.Context(), Outcome{State: Done}); err != nil {
		t.Fatal(err)
	}
	check("when it has ended")

	db, err := s.open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var chunks int
	if err := db.QueryRow("SELECT count(*) FROM chunks").Scan(&chunks); err != nil || chunks < 3 {
		t.Fatalf("%d chunks, %v: too few to try anything", chunks, err)
	}
	for _, q := range []string{
		"ALTER TABLE logs DROP COLUMN line", "ALTER TABLE logs DROP COLUMN lines", "ALTER TABLE logs DROP COLUMN open", "ALTER TABLE logs DROP COLUMN wrong",
		"DROP TABLE keep", "PRAGMA user_version = 1",
	} {
		if _, err := db.Exec(q); err != nil {
			t.Fatal(q, err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	check("from a database of version 1")
	check("and once more")
}

// A page is read from the part of the log that it is in.
func TestPageReadsItsPart(t *testing.T) {
	s, _ := opened(t, Options{})
	r, err := s.Begin(Begun{Project: "p"})
	if err != nil {
		t.Fatal(err)
	}
	const lines = 60_000
	for i := range lines {
		r.Add(event.Event{Log: &event.Log{Step: "s", Stream: 1, Data: fmt.Appendf(nil, "line %d %s\n", i+1, strings.Repeat("x", 60))}})
	}
	for _, state := range []string{"running", "done"} {
		all, err := s.stretches(t.Context(), r.ID(), "s")
		if err != nil || len(all.list) < 20 {
			t.Fatalf("%s: %d parts, %v", state, len(all.list), err)
		}
		for _, from := range []int{1, lines / 2, lines - 200} {
			read, got := 0, 0
			whole := all.read
			count := all
			count.read = func(at stretch) ([]byte, error) { read++; return whole(at) }
			err := count.each(t.Context(), "s", from, func(before int, output []byte) bool {
				for line := range bytes.Lines(output) {
					if before++; before >= from && got < 200 {
						if got++; !bytes.HasPrefix(line, fmt.Appendf(nil, "line %d ", before)) {
							t.Fatalf("%s, from %d: line %d is %s", state, from, before, line)
						}
					}
				}
				return got < 200
			})
			if err != nil || got != 200 || read > 3 {
				t.Errorf("%s, from %d: %d lines from %d of %d parts, %v", state, from, got, read, len(all.list), err)
			}
		}
		all.done()
		if state == "running" {
			if err := r.End(t.Context(), Outcome{State: Done}); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// A line without an end costs no memory: what is kept of it is its end.
func TestLineWithoutEnd(t *testing.T) {
	s, _ := opened(t, Options{})
	var events []event.Event
	for range 40 {
		events = append(events, event.Event{Log: &event.Log{Step: "s", Stream: 1, Data: []byte(strings.Repeat("working \r", 3000))}})
	}
	id := record(t, s, Begun{Project: "p"}, Outcome{State: Done}, append(events, event.Event{Log: &event.Log{Step: "s", Stream: 1, Data: []byte("fatal: no end")}})...)
	n := 0
	for l, err := range s.Lines(t.Context(), id, "s", 1) {
		if n++; err != nil || l.N != 1 || len(l.Text) > 8*maxOpen || !bytes.HasSuffix(l.Text, []byte("\rfatal: no end")) {
			t.Errorf("line %d has %d bytes, %v", l.N, len(l.Text), err)
		}
	}
	p, err := s.Printed(t.Context(), id, "s")
	if err != nil || n != 1 || p.Lines != 1 {
		t.Errorf("%d lines, %+v, %v", n, p, err)
	}
}

func TestLike(t *testing.T) {
	for _, tt := range []struct {
		text, line string
		want       bool
	}{
		{"error", "an \x1b[1;31mERR\x1b[0mor", true}, {"31m", "\x1b[31mx", false}, {"\x1b[31mx", "x", true}, {"ΣΑΣ", "σασ", true}, {"a b", "A  B", false},
		{"x", "\x1b[31", false}, {"[31", "\x1b[31", true}, {"\xff", "a\xffb", true}, {"a", "", false},
	} {
		if got := Like(tt.text).Has([]byte(tt.line)); got != tt.want {
			t.Errorf("%q in %q: %v", tt.text, tt.line, got)
		}
	}
}
