package event

import (
	"context"
	"iter"
	"sync"
	"time"
)

// Stream is the fan-out of one build: writers publish, and any number of
// readers start at any time, from any Seq, and see every event since then once
// and in order. Readers walk the kept events at their own pace, so a slow one
// costs a writer nothing.
//
// The zero value is an open, empty stream. All methods are safe for
// concurrent use.
type Stream struct {
	// MaxLogBytes bounds the log output that is kept for replay; 0 keeps all.
	// Past it the oldest Log events lose their Data and say so in Dropped;
	// their Seq stays, so numbering has no holes. The newest Log is always
	// whole. Set it before the first Publish.
	MaxLogBytes int64

	mu       sync.Mutex
	events   []Event       // events[i].Seq == i+1
	grown    chan struct{} // closed at the next Publish or Close; nil while nobody waits
	closed   bool
	logBytes int64 // of Log.Data still in events
	trimmed  int   // events[:trimmed] hold no Log.Data
}

// batch is how many events a reader copies under one lock: large enough that a
// replay of 100,000 events takes the lock some hundred times, small enough
// (about 40 kB) that no writer waits for it.
const batch = 256

// Publish numbers e, stamps it with the current time where it carries none,
// keeps it and wakes the readers. It returns the Seq, or 0 on a closed stream,
// which keeps nothing. Whatever e points to belongs to the stream from then on.
func (s *Stream) Publish(e Event) uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return 0
	}
	e.Seq = uint64(len(s.events)) + 1
	if e.Time.IsZero() {
		e.Time = time.Now()
	}
	s.events = append(s.events, e)
	if e.Log != nil {
		s.logBytes += int64(len(e.Log.Data))
		s.trim()
	}
	s.wake()
	return e.Seq
}

// Close ends the stream: readers get what they have not seen yet and then end.
// A second Close does nothing.
func (s *Stream) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	s.wake()
}

// Since yields the events after the given Seq (0 is all of them), first those
// already there, then those to come, until the stream is closed and drained or
// ctx ends. A Seq that was never reached waits for what will follow it. The
// sequence can be ranged over again and then starts again.
func (s *Stream) Since(ctx context.Context, after uint64) iter.Seq[Event] {
	return func(yield func(Event) bool) {
		var buf []Event
		for next := after; ; {
			var grown <-chan struct{}
			buf, grown = s.read(buf[:0], next)
			for _, e := range buf {
				if ctx.Err() != nil || !yield(e) {
					return
				}
				next = e.Seq
			}
			if len(buf) > 0 {
				continue
			}
			if grown == nil {
				return
			}
			select {
			case <-grown:
			case <-ctx.Done():
				return
			}
		}
	}
}

// read appends up to a batch of events after the given Seq to buf. Where there
// are none it returns the channel to wait on, or nil on a closed stream.
func (s *Stream) read(buf []Event, after uint64) ([]Event, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := uint64(len(s.events)); after < n {
		return append(buf, s.events[after:min(n, after+batch)]...), nil
	}
	if s.closed {
		return buf, nil
	}
	if s.grown == nil {
		s.grown = make(chan struct{})
	}
	return buf, s.grown
}

// wake lets waiting readers look again. The caller holds mu.
func (s *Stream) wake() {
	if s.grown != nil {
		close(s.grown)
		s.grown = nil
	}
}

// trim empties the oldest logs until the rest fits. It replaces a Log rather
// than changing it, since readers hold the old one. The caller holds mu.
func (s *Stream) trim() {
	if s.MaxLogBytes <= 0 {
		return
	}
	for newest := len(s.events) - 1; s.logBytes > s.MaxLogBytes && s.trimmed < newest; s.trimmed++ {
		l := s.events[s.trimmed].Log
		if l == nil || len(l.Data) == 0 {
			continue
		}
		s.logBytes -= int64(len(l.Data))
		s.events[s.trimmed].Log = &Log{Step: l.Step, Stream: l.Stream, Dropped: l.Dropped + len(l.Data)}
	}
}
