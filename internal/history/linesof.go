package history

import (
	"bytes"
	"iter"
	"slices"

	"github.com/lighter-oci/lighter/internal/event"
)

// StepLine is a line of one step among those of others.
type StepLine struct {
	Step string
	Text []byte // as it came, without its end; valid until the next
}

// LinesOf are the lines of all steps that have output among events, in the order in
// which they ended; those that never did come last. One that gets longer than maxOpen
// without an end is given out as far as it is there. An error is the last.
func LinesOf(events iter.Seq2[event.Event, error]) iter.Seq2[StepLine, error] {
	return func(yield func(StepLine, error) bool) {
		open := map[string][]byte{}
		var order []string // of open
		for e, err := range events {
			if err != nil {
				yield(StepLine{}, err)
				return
			}
			if e.Log == nil {
				continue
			}
			step, rest := e.Log.Step, Output(*e.Log)
			if before, ok := open[step]; !ok {
				order = append(order, step)
			} else if len(before) > 0 {
				rest = slices.Concat(before, rest)
			}
			for {
				line, after, ended := bytes.Cut(rest, []byte("\n"))
				if !ended && len(line) < maxOpen {
					break
				}
				if !yield(StepLine{step, line}, nil) {
					return
				}
				rest = after
			}
			open[step] = append(open[step][:0:0], rest...)
		}
		for _, step := range order {
			if len(open[step]) > 0 && !yield(StepLine{step, open[step]}, nil) {
				return
			}
		}
	}
}
