package codec

import (
	"bytes"
	"errors"
	"io"
	"runtime"
	"sync"
	"testing"
)

// Sixteen writers on one worker, fed in turns by one goroutine: each waits for
// all the others, so each must be able to go on with one buffer of its own.
func TestManyWritersOneWorker(t *testing.T) {
	const writers, frame = 16, 70 << 10
	in := corpus(7, 4*frame)
	for _, c := range every() {
		p := newPool(t, 1)
		want, _ := encode(t, p, in, Options{Compression: c, FrameSize: frame})
		outs := make([]bytes.Buffer, writers)
		ws := make([]*Writer, writers)
		for i := range ws {
			var err error
			if ws[i], err = p.NewWriter(&outs[i], Options{Compression: c, FrameSize: frame, DiffID: i%2 == 0}); err != nil {
				t.Fatal(err)
			}
		}
		for at := 0; at < len(in); at += 10_000 {
			for _, w := range ws {
				if _, err := w.Write(in[at:min(at+10_000, len(in))]); err != nil {
					t.Fatal(err)
				}
			}
		}
		for i, w := range ws {
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(outs[i].Bytes(), want) {
				t.Errorf("%s: writer %d made other bytes", c, i)
			}
		}
	}
}

// A blob is converted by one goroutine that reads from the pool and writes to
// it; many at once must not eat each other's budget.
func TestManyConversionsOneWorker(t *testing.T) {
	const frame = 70 << 10
	p := newPool(t, 1)
	in := corpus(8, 10*frame)
	from, _ := encode(t, p, in, Options{Compression: Compression{Zstd, 1}, FrameSize: frame})
	want, _ := encode(t, p, in, Options{FrameSize: frame})
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			var out bytes.Buffer
			r, err := p.NewParallelReader(bytes.NewReader(from), int64(len(from)))
			if err != nil {
				t.Error(err)
				return
			}
			w, err := p.NewWriter(&out, Options{FrameSize: frame, DiffID: true})
			if err != nil {
				t.Error(err)
				return
			}
			if _, err := io.Copy(w, r); err != nil {
				t.Error(err)
			}
			if err := errors.Join(w.Close(), r.Close()); err != nil {
				t.Error(err)
			}
			if !bytes.Equal(out.Bytes(), want) {
				t.Error("other bytes")
			}
		})
	}
	wg.Wait()
}

// A destination that does not move, in front of frames that take all of the
// shared budget, must not hold up other layers.
func TestSlowDestinationHoldsNobodyUp(t *testing.T) {
	const frame = 70 << 10
	p := newPool(t, 1)
	in := corpus(9, 40*frame)
	pr, pw := io.Pipe()
	slow, err := p.NewWriter(pw, Options{FrameSize: frame, DiffID: true})
	if err != nil {
		t.Fatal(err)
	}
	written := make(chan error, 1)
	go func() {
		_, err := slow.Write(in)
		written <- errors.Join(err, slow.Close(), pw.Close())
	}()
	for len(p.frames) > 0 {
		runtime.Gosched()
	}
	want, _ := encode(t, p, in, Options{FrameSize: frame})
	if back, err := decode(t, p, want); err != nil || !bytes.Equal(back, in) {
		t.Errorf("%d bytes of %d, %v", len(back), len(in), err)
	}
	got, err := io.ReadAll(pr)
	if err := errors.Join(err, <-written); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Error("other bytes")
	}
}

// Once nothing is under way the pool holds no more than the next layer needs.
func TestIdlePoolIsSmall(t *testing.T) {
	p := newPool(t, 4)
	heavy := every()[2] // zstd:7, the highest that both encoders have
	if c := (Compression{Zstd, 12}); c.Validate() == nil {
		heavy = c
	}
	for _, c := range []Compression{heavy, {Zstd, 1}} {
		ws := make([]*Writer, 4)
		for i := range ws {
			var err error
			if ws[i], err = p.NewWriter(io.Discard, Options{Compression: c, FrameSize: 70 << 10}); err != nil {
				t.Fatal(err)
			}
			if _, err := ws[i].Write(corpus(16, 400<<10)); err != nil {
				t.Fatal(err)
			}
		}
		for _, w := range ws {
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
		}
		if len(p.large) > 4 || len(p.idle) > 1 || c == heavy && c.Level > heavyLevel && len(p.idle) > 0 {
			t.Errorf("%s: an idle pool holds %d large buffers and %d workers", c, len(p.large), len(p.idle))
		}
	}
}
