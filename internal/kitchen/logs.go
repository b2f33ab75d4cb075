package kitchen

import (
	"bytes"
	"context"
	"fmt"
	"html/template"
	"regexp"
	"slices"
	"sort"
	"strings"

	"github.com/lighter-oci/lighter/internal/event"
	"github.com/lighter-oci/lighter/internal/report"
)

const (
	// windowLines is how much of a step's log is held for pages that are open;
	// what is above is read from the history when it is asked for.
	windowLines = 1000
	// pageLines is how much of it comes with a page, or at once.
	pageLines = 200
	// maxRaw is how much of a line without an end is kept, bytes: progress bars.
	maxRaw = 64 << 10
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
	for _, line := range l.console.Write(output(e)) {
		l.put(seq, line)
		if l.errorAt == 0 && looksLikeError(line.Text) {
			l.errorAt = l.total
		}
		l.open = false
	}
	if line := l.console.Line(); line.Text != "" || l.open {
		l.put(seq, line)
		l.open = true
	}
}

// output is what a step wrote, or that some of it was not kept.
func output(e event.Log) []byte {
	if e.Dropped > 0 {
		return append(fmt.Appendf(nil, "[%d bytes of output were not kept]\n", e.Dropped), e.Data...)
	}
	return e.Data
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

// wrong are lines that the first look is for.
var wrong = regexp.MustCompile(`(?i)\b(error|fatal|panic|failed|failure|cannot|not found|denied|traceback|undefined)\b`)

// harmless are lines that only speak of such words.
var harmless = regexp.MustCompile(`(?i)\b(0|no) (errors?|failed|failures?)\b|--[a-z-]*error|\berror[-_.]?(chain|code|v?\d|free)`)

// hints are what each of those lines has in it: most lines are done with here.
var hints = []string{"rror", "RROR", "atal", "ATAL", "anic", "ail", "AIL", "annot", "ot found", "enied", "aceback", "ndefined"}

func looksLikeError(line string) bool {
	return slices.ContainsFunc(hints, func(h string) bool { return strings.Contains(line, h) }) && wrong.MatchString(line) && !harmless.MatchString(line)
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
	total   int  // lines that were read
	more    bool // there are others behind them, which were not
	errorAt int
}

// end is the line before which reading ends; 0 is that of the log.
func (want logRange) end() int {
	switch {
	case want.find != "":
		return 0
	case want.before > 0:
		return want.before
	case want.from > 0:
		return want.from + pageLines
	}
	return 0
}

// readLog reads a step's log as it was recorded. It is passed over line by line, and
// only those that are wanted are drawn; colours begin anew with each.
func (s *Server) readLog(ctx context.Context, id, step string, want logRange) (logPart, error) {
	var part logPart
	type kept struct {
		n   int
		raw string
	}
	var lines []kept
	find := []byte(strings.ToLower(want.find))
	err := s.scanLog(ctx, id, step, func(raw []byte) bool {
		if part.more = want.end() > 0 && part.total+1 >= want.end(); part.more {
			return false
		}
		part.total++
		n := part.total
		if part.errorAt == 0 && looksLikeError(string(raw)) {
			part.errorAt = n
		}
		switch {
		case want.find != "":
			if len(lines) >= maxFound || !bytes.Contains(bytes.ToLower(raw), find) {
				return true
			}
		case want.before > 0:
			if n < want.before-pageLines {
				return true
			}
		case want.from > 0:
			if n < want.from {
				return true
			}
		case len(lines) >= 2*pageLines:
			lines = append(lines[:0], lines[pageLines:]...)
		}
		lines = append(lines, kept{n, string(raw)})
		return true
	})
	if want == (logRange{}) {
		lines = lines[max(0, len(lines)-pageLines):]
	}
	var c report.Console
	for _, l := range lines {
		for _, line := range c.Write([]byte(l.raw + "\n")) {
			part.lines = append(part.lines, logLine{N: l.n, HTML: template.HTML(line.HTML)})
		}
	}
	return part, err
}

// scanLog gives out the lines of a log, each valid until the next, until one is not
// taken.
func (s *Server) scanLog(ctx context.Context, id, step string, give func([]byte) bool) error {
	var open []byte
	for e, err := range s.store.Log(ctx, id, step) {
		if err != nil {
			return err
		}
		data := output(*e.Log)
		for len(data) > 0 {
			i := bytes.IndexByte(data, '\n')
			if i < 0 {
				if open = append(open, data...); len(open) > 2*maxRaw {
					open = append(open[:0], open[len(open)-maxRaw:]...)
				}
				break
			}
			line := data[:i]
			if len(open) > 0 {
				open = append(open, line...)
				line = open
			}
			if !give(line) {
				return nil
			}
			open, data = open[:0], data[i+1:]
		}
	}
	if len(open) > 0 {
		give(open)
	}
	return ctx.Err()
}
