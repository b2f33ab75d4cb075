package kitchen

import (
	"bytes"
	"fmt"
	"html/template"
	"regexp"
	"sort"

	"github.com/lighter-oci/lighter/internal/event"
	"github.com/lighter-oci/lighter/internal/report"
)

const (
	// windowLines is how much of a step's log is held for pages that are open;
	// what is above is read from the history when it is asked for.
	windowLines = 1000
	// pageLines is how much of it comes with a page, or at once.
	pageLines = 200
	// maxLineBytes is where a line without an end is cut.
	maxLineBytes = 8 << 10
)

// logLine is one line as pages have it.
type logLine struct {
	N    int           // from 1, in its step
	HTML template.HTML // escaped, see lineRenderer
	text string        // without colours
	seq  uint64        // of the event that last changed it
}

// stepLog is the end of what one step has printed. Only its last line changes, so
// that the events' numbers rise with those of the lines.
type stepLog struct {
	key     string
	lines   []logLine
	total   int
	open    []byte // of the last line, which has no end yet
	errorAt int
	render  lineRenderer
}

// add splits output into lines.
func (l *stepLog) add(seq uint64, e event.Log) {
	data := e.Data
	if e.Dropped > 0 {
		data = append([]byte(fmt.Sprintf("[%d bytes were not kept]\n", e.Dropped)), data...)
	}
	for len(data) > 0 {
		i := bytes.IndexByte(data, '\n')
		end, whole := i+1, true
		if i < 0 {
			end, i, whole = len(data), len(data), false
		}
		if room := maxLineBytes - len(l.open); i > room {
			end, i, whole = room, room, true
		}
		fresh := len(l.open) == 0
		l.open = append(l.open, data[:i]...)
		data = data[end:]
		l.put(seq, fresh, whole)
	}
}

// put shows the open line, as a new one or in place of what was there of it.
func (l *stepLog) put(seq uint64, fresh, whole bool) {
	raw := bytes.TrimSuffix(l.open, []byte("\r"))
	if fresh || len(l.lines) == 0 {
		l.total++
		l.lines = append(l.lines, logLine{N: l.total})
		if len(l.lines) > 2*windowLines {
			l.lines = append(l.lines[:0:0], l.lines[len(l.lines)-windowLines:]...)
		}
	}
	at := &l.lines[len(l.lines)-1]
	at.HTML, at.text, at.seq = l.render.line(raw, whole), report.Clean(string(raw)), seq
	if whole {
		if l.errorAt == 0 && looksLikeError(at.text) {
			l.errorAt = l.total
		}
		l.open = l.open[:0]
	}
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
var harmless = regexp.MustCompile(`(?i)\b(0|no) (errors?|failed|failures?)\b|--[a-z-]*error|error(s|_chain|-chain|-code)?[-_ ]?(v?\d|free)`)

func looksLikeError(line string) bool { return wrong.MatchString(line) && !harmless.MatchString(line) }
