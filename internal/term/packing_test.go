package term

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/lighter-oci/lighter/internal/event"
)

// packed feeds a view the events of two compilers, of which one fails.
func packed(view *Packing) {
	at := func(s int) *time.Time { t := time.Unix(int64(s), 0); return &t }
	step := func(id string, start, end int, s event.Step) event.Event {
		s.ID, s.Name, s.Started = id, "go build "+id, at(start)
		if end > 0 {
			s.Completed = at(end)
		}
		return event.Event{Time: time.Unix(int64(max(start, end)), 0), Step: &s}
	}
	said := func(id, text string) event.Event {
		return event.Event{Time: time.Unix(2, 0), Log: &event.Log{Step: id, Data: []byte(text)}}
	}
	for _, e := range []event.Event{
		step("linux/amd64", 1, 0, event.Step{}), step("linux/arm64", 1, 0, event.Step{}),
		said("linux/amd64", "warning: \x1b[31mold\nhalf a "), said("linux/arm64", "undefined: x\n"), said("linux/amd64", "line\n"),
		step("linux/amd64", 1, 3, event.Step{Cached: true}),
		step("linux/arm64", 1, 4, event.Step{Error: "exit status 1"}),
		step("pushing", 4, 5, event.Step{}),
	} {
		view.Add(e)
	}
	view.Close()
	view.Add(said("linux/amd64", "too late\n"))
}

// In a log everything is said once, in whole lines.
func TestPackingInALog(t *testing.T) {
	var b bytes.Buffer
	packed((&Output{Err: &b}).NewPacking("plain"))
	want := `go build linux/amd64
go build linux/arm64
  warning: old
  undefined: x
  half a line
go build linux/amd64 unchanged, in 2.00 s
go build linux/arm64 failed after 3.00 s
go build pushing done in 1.00 s
`
	if b.String() != want {
		t.Errorf("%s\nwant\n%s", b.String(), want)
	}
}

// On a terminal one line is written over, and only the words of what fails stay.
func TestPackingOnATerminal(t *testing.T) {
	var b bytes.Buffer
	packed((&Output{Err: &b, Width: 60}).NewPacking("tty"))
	lines := []string{}
	for line := range strings.Lines(b.String()) {
		lines = append(lines, line[strings.LastIndex(line, "\x1b[K")+len("\x1b[K"):])
	}
	if got := strings.Join(lines, ""); got != "undefined: x\n" {
		t.Errorf("what stays is %q", got)
	}
	if want := "go build linux/amd64 + go build linux/arm64"; !strings.Contains(b.String(), want) {
		t.Errorf("no %q in %q", want, b.String())
	}
}

func TestPackingForPrograms(t *testing.T) {
	var b bytes.Buffer
	out := &Output{Err: &b}
	packed(out.NewPacking("quiet"))
	if b.Len() > 0 {
		t.Errorf("quiet says %q", b.String())
	}
	packed(out.NewPacking("rawjson"))
	n := 0
	for line := range bytes.Lines(b.Bytes()) {
		var e event.Event
		if err := json.Unmarshal(line, &e); err != nil {
			t.Errorf("%s: %v", line, err)
		}
		n++
	}
	if n != 8 {
		t.Errorf("%d events", n)
	}
}
