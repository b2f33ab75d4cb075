package kitchen

import (
	"context"
	"html/template"
	"sort"

	"github.com/lighter-oci/lighter/internal/event"
	"github.com/lighter-oci/lighter/internal/history"
	"github.com/lighter-oci/lighter/internal/report"
)

const (
	// windowLines is how much of a step's log is held for pages that are open;
	// what is above is read from the history when it is asked for.
	windowLines = 1000
	// pageLines is how much of it comes with a page, or at once.
	pageLines = 200
	// maxFound bounds the lines that a search answers.
	maxFound = 500
)

// logLine is one line as pages have it.
type logLine struct {
	N    int           // from 1, in its step
	HTML template.HTML // of a report.Console, which escapes
	seq  uint64        // of the event that last changed it
}

// stepLog is the end of what one step has printed so far. Only its last line
// changes, so that the events' numbers rise with those of the lines.
type stepLog struct {
	key     string
	console report.Console
	lines   []logLine
	total   int
	open    bool // the last line has no end yet
	errorAt int
}

// add takes in output.
func (l *stepLog) add(seq uint64, e event.Log) {
	for _, line := range l.console.Write(history.Output(e)) {
		l.put(seq, line)
		if l.errorAt == 0 && report.Wrong([]byte(line.Text)) {
			l.errorAt = l.total
		}
		l.open = false
	}
	if line := l.console.Line(); line.Text != "" || l.open {
		l.put(seq, line)
		l.open = true
	}
}

// put shows a line, in place of what was there of it.
func (l *stepLog) put(seq uint64, line report.LogLine) {
	if !l.open {
		l.total++
		l.lines = append(l.lines, logLine{N: l.total})
		if len(l.lines) > 2*windowLines {
			l.lines = append(l.lines[:0:0], l.lines[len(l.lines)-windowLines:]...)
		}
	}
	at := &l.lines[len(l.lines)-1]
	at.HTML, at.seq = template.HTML(line.HTML), seq
}

// tail is the last n lines.
func (l *stepLog) tail(n int) []logLine { return l.lines[max(0, len(l.lines)-n):] }

// since is what changed after an event: the lines, and whether there are so many
// that they take the place of what a page has.
func (l *stepLog) since(after uint64) (lines []logLine, instead bool) {
	i := sort.Search(len(l.lines), func(i int) bool { return l.lines[i].seq > after })
	lines = l.lines[i:]
	if len(lines) > pageLines {
		return l.tail(pageLines), true
	}
	return lines, i == 0 && len(lines) > 0 && lines[0].N > 1
}

// logRange says which lines of a log are wanted: the last ones, those before a
// number, those from one on, or those with a text in them.
type logRange struct {
	before, from int
	find         string
}

// logPart is what was found.
type logPart struct {
	lines   []logLine
	total   int  // lines of the log
	more    bool // there are others with the text
	errorAt int
}

// readLog reads of a step's log what is wanted; colours begin anew with each line.
func (s *Server) readLog(ctx context.Context, id, step string, want logRange) (logPart, error) {
	printed, err := s.store.Printed(ctx, id, step)
	if err != nil {
		return logPart{}, err
	}
	part := logPart{total: printed.Lines, errorAt: printed.Wrong}
	from, end := max(part.total-pageLines+1, 1), 0 // the last page, also in place of one beyond it
	switch {
	case want.from > 0 && want.from <= part.total:
		from, end = want.from, want.from+pageLines
	case want.before > 1 && want.before <= part.total:
		from, end = max(want.before-pageLines, 1), want.before
	}
	lines := s.store.Lines(ctx, id, step, from)
	if want.find != "" {
		lines, end = s.store.Grep(ctx, id, step, want.find), 0
	}
	var c report.Console
	for l, err := range lines {
		if part.more = want.find != "" && len(part.lines) == maxFound; err != nil || part.more || end > 0 && l.N >= end {
			return part, err
		}
		for _, line := range c.Write(append(l.Text[:len(l.Text):len(l.Text)], '\n')) {
			part.lines = append(part.lines, logLine{N: l.N, HTML: template.HTML(line.HTML)})
		}
	}
	return part, nil
}
