package term

import (
	"bytes"
	"io"
	"sync"
)

// Queue are outputs of things that happen at the same time and are told one
// after the other. Of the first that has not ended every word is shown as it
// comes; the others' wait.
type Queue struct {
	mu    sync.Mutex
	all   []*waiting
	ended []bool
	turn  int
}

// NewQueue makes n outputs of o's kind. Results go nowhere: they are for whoever
// waits for all.
func (o *Output) NewQueue(n int) (*Queue, []*Output) {
	q := &Queue{ended: make([]bool, n)}
	outs := make([]*Output, n)
	for i := range outs {
		one := *o
		w := &waiting{to: o.Err, open: i == 0}
		one.Out, one.Err, one.JSON = io.Discard, w, false
		q.all, outs[i] = append(q.all, w), &one
	}
	return q, outs
}

// End says that output i is complete.
func (q *Queue) End(i int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.ended[i] = true
	for q.turn < len(q.all) && q.ended[q.turn] {
		if q.turn++; q.turn < len(q.all) {
			q.all[q.turn].begin()
		}
	}
}

// waiting keeps what is written to it until it is its turn.
type waiting struct {
	to   io.Writer
	mu   sync.Mutex
	open bool
	kept bytes.Buffer
}

func (w *waiting) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.open {
		return w.to.Write(p)
	}
	return w.kept.Write(p)
}

func (w *waiting) begin() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.open = true
	_, _ = w.kept.WriteTo(w.to) // words only
}

// waits tells whether words to Err are not seen yet.
func (o *Output) waits() bool {
	w, ok := o.Err.(*waiting)
	if !ok {
		return false
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return !w.open
}
