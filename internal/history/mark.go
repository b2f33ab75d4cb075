package history

import (
	"bytes"
	"fmt"

	"github.com/lighter-oci/lighter/internal/event"
	"github.com/lighter-oci/lighter/internal/report"
)

// Output is what a step wrote, or that some of it was not kept: what the lines of a
// log are counted in.
func Output(l event.Log) []byte {
	if l.Dropped > 0 {
		return append(fmt.Appendf(nil, "[%d bytes of output were not kept]\n", l.Dropped), l.Data...)
	}
	return l.Data
}

// outputIn is the output in a line of a journal, if there is any. It is valid until
// data or buf are written over.
func outputIn(data, buf []byte) (step, output []byte, ok bool) {
	if q, ok := quick(data, buf); ok && q.dropped == 0 {
		return q.step, q.text, true
	}
	if !bytes.Contains(data, []byte(`"log":`)) {
		return nil, nil, false
	}
	l, ok := readable(data)
	if !ok || !l.isEvent() || l.Event.Log == nil {
		return nil, nil, false
	}
	return []byte(l.Event.Log.Step), Output(*l.Event.Log), true
}

// mark says where a stretch of a journal is in the log of a step.
type mark struct {
	line  int // lines that ended before it
	lines int // that end in it
	open  int // bytes behind the last of them
	wrong int // the line that is the first to look like an error, where that is in it; 0 is none
}

// counter makes the marks of one step.
type counter struct {
	mark
	spoken bool // in this stretch
	found  bool // what looks like an error
	begun  []byte
}

// maxBegun is how much of a line without an end is looked at, bytes.
const maxBegun = 16 << 10

func (c *counter) add(output []byte) {
	c.spoken = true
	if !c.found {
		c.look(output)
	}
	c.lines += bytes.Count(output, []byte("\n"))
	if i := bytes.LastIndexByte(output, '\n'); i >= 0 {
		c.open, output = 0, output[i+1:]
	}
	c.open += len(output)
}

// look finds the first line that looks like an error.
func (c *counter) look(output []byte) {
	for n := c.line + c.lines + 1; ; n++ {
		line, rest, ended := bytes.Cut(output, []byte("\n"))
		if !ended || len(c.begun) > 0 {
			c.begun = append(c.begun, line[:min(len(line), max(maxBegun-len(c.begun), 0))]...)
			line = c.begun
		}
		if !ended {
			return
		}
		if report.Wrong(line) {
			c.found, c.wrong, c.begun = true, n, nil
			return
		}
		c.begun, output = c.begun[:0], rest
	}
}

// next ends a stretch and begins another.
func (c *counter) next() mark {
	if !c.found && report.Wrong(c.begun) { // nobody knows whether that line will end
		c.found, c.wrong = true, c.line+c.lines+1
	}
	m := c.mark
	c.mark, c.spoken = mark{line: m.line + m.lines, open: m.open}, false
	return m
}

// counters are those of a build, by step.
type counters map[string]*counter

func (c counters) of(step string) *counter {
	at := c[step]
	if at == nil {
		at = &counter{}
		c[step] = at
	}
	return at
}

// ended ends a stretch: the marks of the steps that have spoken in it.
func (c counters) ended() map[string]mark {
	marks := map[string]mark{}
	for step, at := range c {
		if at.spoken {
			marks[step] = at.next()
		}
	}
	return marks
}
