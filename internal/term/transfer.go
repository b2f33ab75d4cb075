package term

import (
	"fmt"
	"sync"
	"time"

	"github.com/lighter-oci/lighter/internal/event"
	"github.com/lighter-oci/lighter/internal/report"
)

// Transfer shows layers on their way, from the events of a copy: one line that
// is written over and over on a terminal, a line for each finished layer
// elsewhere. It is safe for concurrent use.
type Transfer struct {
	out  *Output
	line liveLine

	mu      sync.Mutex
	started time.Time
	shown   time.Time
	read    map[string]*event.Progress
	done    int
}

// redraw is how often a live line changes at most: faster is a flicker.
const redraw = 100 * time.Millisecond

// NewTransfer starts the view. quiet shows nothing.
func (o *Output) NewTransfer(quiet bool) *Transfer {
	if quiet {
		return nil
	}
	return &Transfer{out: o, line: liveLine{out: o, live: o.terminal}, started: time.Now(), read: map[string]*event.Progress{}}
}

// Add takes one event.
func (t *Transfer) Add(e event.Event) {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case e.Progress != nil:
		t.read[e.Progress.ID] = e.Progress
		t.draw(e.Time)
	case e.Warning != nil:
		t.line.erase()
		t.out.writeLine("! " + report.Clean(e.Warning.Short))
	case e.Layer != nil:
		t.done++
		if !t.line.live {
			l := e.Layer
			t.out.writeLine(fmt.Sprintf("layer %s %s %s %s in %s", report.ShortDigest(l.Digest), l.Codec, l.Action, report.Bytes(l.Out), report.Duration(l.Took)))
		}
	}
}

// draw writes the live line.
func (t *Transfer) draw(now time.Time) {
	if !t.line.live || now.Sub(t.shown) < redraw {
		return
	}
	t.shown = now
	var read, total int64
	for _, p := range t.read {
		read += p.Current
		total += p.Total
	}
	text := fmt.Sprintf("%s of %s read · %s MB/s · %d layers done", report.Bytes(read), report.Bytes(total),
		report.Figures(report.MBps(read, now.Sub(t.started))), t.done)
	t.line.draw(text)
}

// Close takes the live line away.
func (t *Transfer) Close() {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.line.end()
}
