package event_test

import (
	"context"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/lighter-oci/lighter/internal/event"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func logEvent(data string) event.Event {
	return event.Event{Log: &event.Log{Step: "s", Stream: 1, Data: []byte(data)}}
}

func seqs(events []event.Event) []uint64 {
	var s []uint64
	for _, e := range events {
		s = append(s, e.Seq)
	}
	return s
}

// wantSeqs is after+1 … last.
func wantSeqs(after, last uint64) []uint64 {
	var s []uint64
	for i := after + 1; i <= last; i++ {
		s = append(s, i)
	}
	return s
}

// Readers that come at any moment, from any Seq, at any speed, see exactly
// what follows, in order, whatever the writers do at the same time.
func TestStreamReadersSeeEverythingOnce(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		writers := rapid.SliceOfN(rapid.IntRange(0, 400), 1, 4).Draw(rt, "events per writer")
		type reader struct {
			after       uint64
			start, lazy time.Duration
		}
		readers := rapid.SliceOfN(rapid.Custom(func(rt *rapid.T) reader {
			return reader{
				after: rapid.Uint64Range(0, 500).Draw(rt, "after"),
				start: time.Duration(rapid.IntRange(0, 500).Draw(rt, "start")) * time.Millisecond,
				lazy:  time.Duration(rapid.IntRange(0, 5).Draw(rt, "lazy")) * time.Millisecond,
			}
		}), 1, 5).Draw(rt, "readers")

		got := make([][]event.Event, len(readers))
		var total uint64
		synctest.Test(t, func(t *testing.T) {
			var s event.Stream
			var w, r sync.WaitGroup
			for i, n := range writers {
				total += uint64(n)
				w.Go(func() {
					for range n {
						s.Publish(event.Event{})
						time.Sleep(time.Duration(i) * time.Millisecond)
					}
				})
			}
			for i, rd := range readers {
				r.Go(func() {
					time.Sleep(rd.start)
					for e := range s.Since(t.Context(), rd.after) {
						got[i] = append(got[i], e)
						time.Sleep(rd.lazy)
					}
				})
			}
			w.Wait()
			s.Close()
			r.Wait()
		})
		for i, rd := range readers {
			if g, w := seqs(got[i]), wantSeqs(rd.after, total); !slices.Equal(g, w) {
				rt.Fatalf("reader %d after %d saw %v of %d", i, rd.after, g, total)
			}
		}
	})
}

// Outside of a bubble, for the race detector: real goroutines, real clock.
func TestStreamConcurrent(t *testing.T) {
	s := event.Stream{MaxLogBytes: 100}
	var w, r sync.WaitGroup
	for range 4 {
		w.Go(func() {
			for range 500 {
				s.Publish(logEvent("0123456789"))
			}
		})
		r.Go(func() {
			var n uint64
			for e := range s.Since(context.Background(), 0) {
				n++
				if e.Seq != n || len(e.Log.Data)+e.Log.Dropped != 10 {
					t.Errorf("event %d is %d with %d bytes, %d dropped", n, e.Seq, len(e.Log.Data), e.Log.Dropped)
				}
			}
			if n != 2000 {
				t.Errorf("saw %d of 2000", n)
			}
		})
	}
	w.Wait()
	s.Close()
	r.Wait()
}

func TestStreamStuckReaderBlocksNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s event.Stream
		release := make(chan struct{})
		var r sync.WaitGroup
		var n int
		r.Go(func() {
			for range s.Since(t.Context(), 0) {
				n++
				<-release
			}
		})
		s.Publish(event.Event{})
		synctest.Wait() // the reader now sits in its loop body
		for range 10_000 {
			s.Publish(event.Event{}) // deadlocks the bubble, and so fails, if it waits
		}
		s.Close()
		close(release)
		r.Wait()
		if n != 10_001 {
			t.Errorf("the stuck reader saw %d events", n)
		}
	})
}

func TestStreamCancel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s event.Stream
		for range 3 {
			s.Publish(event.Event{})
		}
		ctx, cancel := context.WithCancel(t.Context())
		var got []event.Event
		var r sync.WaitGroup
		r.Go(func() {
			for e := range s.Since(ctx, 0) {
				got = append(got, e)
			}
		})
		synctest.Wait()
		cancel() // while it waits
		r.Wait()
		if len(got) != 3 {
			t.Errorf("saw %d events before the cancel", len(got))
		}
		for range s.Since(ctx, 0) {
			t.Error("a cancelled reader got an event that was there")
		}

		ctx, cancel = context.WithCancel(t.Context())
		defer cancel()
		n := 0
		for range s.Since(ctx, 0) {
			n++
			cancel() // in the middle of a batch
		}
		if n != 1 {
			t.Errorf("a reader cancelled at its first event saw %d", n)
		}
	})
}

func TestStreamPublishStampsAndCloses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s event.Stream
		given := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
		now := time.Now()
		if seq := s.Publish(event.Event{Seq: 99, Time: given}); seq != 1 {
			t.Errorf("first seq is %d", seq)
		}
		s.Publish(event.Event{})
		s.Close()
		s.Close()
		if seq := s.Publish(event.Event{}); seq != 0 {
			t.Errorf("a closed stream took an event as %d", seq)
		}
		all := s.Since(t.Context(), 0)
		got := slices.Collect(all)
		if len(got) != 2 || !got[0].Time.Equal(given) || !got[1].Time.Equal(now) {
			t.Errorf("kept %+v", got)
		}
		if again := slices.Collect(all); len(again) != 2 {
			t.Errorf("the second range saw %d", len(again))
		}
		for range all {
			break // leaving early is allowed
		}
		for range s.Since(t.Context(), 1<<63) {
			t.Error("an event after the last possible one")
		}
	})
}

// The bound holds, only the oldest logs pay for it, and nothing is renumbered.
func TestStreamMaxLogBytes(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		bound := rapid.Int64Range(1, 50).Draw(rt, "bound")
		sizes := rapid.SliceOf(rapid.IntRange(-1, 30)).Draw(rt, "sizes") // -1 is no log
		s := event.Stream{MaxLogBytes: bound}
		var published []event.Event
		for _, n := range sizes {
			e := event.Event{Step: &event.Step{}}
			if n >= 0 {
				e = logEvent(string(make([]byte, n)))
			}
			s.Publish(e)
			published = append(published, e)
		}
		s.Close()
		got := slices.Collect(s.Since(context.Background(), 0))
		if !slices.Equal(seqs(got), wantSeqs(0, uint64(len(sizes)))) {
			rt.Fatalf("seqs %v", seqs(got))
		}
		var kept int64
		whole := false // from here on nothing may be dropped
		newest := -1
		for i, n := range sizes {
			if n >= 0 {
				newest = i
			}
		}
		for i, e := range got {
			n := sizes[i]
			if n < 0 {
				continue
			}
			if len(e.Log.Data)+e.Log.Dropped != n || len(e.Log.Data) > 0 && e.Log.Dropped > 0 {
				rt.Fatalf("log %d of %d bytes: %d kept, %d dropped", i, n, len(e.Log.Data), e.Log.Dropped)
			}
			if e.Log.Dropped > 0 && whole {
				rt.Fatalf("log %d dropped after an older one was kept", i)
			}
			whole = whole || len(e.Log.Data) > 0
			kept += int64(len(e.Log.Data))
			if i == newest && e.Log.Dropped > 0 {
				rt.Fatal("the newest log lost its data")
			}
			if len(published[i].Log.Data) != n {
				rt.Fatal("a log that a reader may hold was changed")
			}
		}
		if kept > bound && int64(sizes[newest]) <= bound {
			rt.Fatalf("%d bytes kept, bound %d", kept, bound)
		}
	})
}
