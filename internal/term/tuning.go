package term

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/lighter-oci/lighter/internal/event"
	"github.com/lighter-oci/lighter/internal/report"
)

// Tuning says which level pays: on Err, or as JSON on Out.
func (o *Output) Tuning(t *report.Tuning) error {
	if o.JSON {
		return o.Encode(t)
	}
	s := screen{width: o.width(), color: o.Color}
	s.hang(s.paint(green, "✓")+" ", 2, report.Clean(t.Headline()))
	s.line("")
	s.fact("of", "·", []string{report.Clean(t.Subject)})
	s.fact("measured", "·", strings.Split(t.Basis(), " · "))
	s.line("")
	best := -1
	for i, l := range t.Levels {
		if l.Name == t.Recommended {
			best = i
		}
	}
	for _, l := range t.Table().Render(s.width-2, func(row, _ int, cell string) string {
		switch row {
		case -1:
			return s.paint(dim, cell)
		case best:
			return s.paint(bold, cell)
		}
		return cell
	}) {
		s.line("  " + l)
	}
	s.line("")
	s.hang("  cost: ", 8, t.Criterion())
	s.hang("  pull: ", 8, t.Model())
	for _, n := range t.Warnings() {
		s.hang(s.paint(yellow, "!")+" ", 2, report.Clean(n))
	}
	_, err := io.WriteString(o.Err, s.String())
	return err
}

// Trials shows levels being measured: one line that is written over and over
// on a terminal, a line for each measurement elsewhere. It is safe for
// concurrent use; a nil one shows nothing.
type Trials struct {
	out  *Output
	line liveLine

	mu    sync.Mutex
	shown time.Time
	round string // "zstd:3, round 2 of 3"
}

// NewTrials starts the view. quiet shows nothing.
func (o *Output) NewTrials(quiet bool) *Trials {
	if quiet {
		return nil
	}
	return &Trials{out: o, line: liveLine{out: o, live: o.terminal}}
}

// Add takes one event of a measurement: Progress with bytes of what is read or,
// where it has a level's name, with its rounds; Layer when a level was measured.
func (t *Trials) Add(e event.Event) {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case e.Progress != nil && e.Progress.ID == e.Progress.Step: // reading
		p := e.Progress
		text := "reading layers: " + report.Bytes(p.Current)
		if p.Total > 0 {
			text += " of " + report.Bytes(p.Total)
		}
		if e.Time.Sub(t.shown) >= redraw {
			t.draw(e.Time, text)
		}
	case e.Progress != nil:
		p := e.Progress
		t.round = fmt.Sprintf("%s, round %d of %d", report.Clean(p.ID), p.Current, p.Total)
		t.draw(e.Time, "measuring "+t.round)
	case e.Layer != nil && !t.line.live:
		l := e.Layer
		t.out.writeLine(fmt.Sprintf("%s: %s → %s in %s, %s MB/s", t.round, report.Bytes(l.In), report.Bytes(l.Out),
			report.Duration(l.Took), report.Figures(report.MBps(l.In, l.Took))))
	}
}

// draw writes the live line.
func (t *Trials) draw(now time.Time, text string) {
	t.shown = now
	t.line.draw(text)
}

// Close takes the live line away.
func (t *Trials) Close() {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.line.end()
}
