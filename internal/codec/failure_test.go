package codec

import (
	"bytes"
	"errors"
	"io"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"time"
)

// failAt fails once n bytes were written, or writes short if short.
type failAt struct {
	n     int
	short bool
}

var errDisk = errors.New("no space left on device")

func (f *failAt) Write(b []byte) (int, error) {
	if len(b) <= f.n {
		f.n -= len(b)
		return len(b), nil
	}
	n := f.n
	f.n = 0
	if f.short {
		return n, nil
	}
	return n, errDisk
}

func TestFailingDestination(t *testing.T) {
	const frame = 70 << 10
	p := newPool(t, 2)
	in := corpus(10, 12*frame)
	for _, c := range every() {
		for _, size := range []int{10, frame + 1, len(in)} {
			blob, _ := encode(t, p, in[:size], Options{Compression: c, FrameSize: frame})
			for _, at := range []int{0, 5, len(blob) / 2, len(blob) - 1} {
				for _, short := range []bool{false, true} {
					want := errDisk
					if short {
						want = io.ErrShortWrite
					}
					w, err := p.NewWriter(&failAt{at, short}, Options{Compression: c, FrameSize: frame, DiffID: true})
					if err != nil {
						t.Fatal(err)
					}
					_, werr := w.Write(in[:size])
					if werr != nil && !errors.Is(werr, want) {
						t.Errorf("%s: Write: %v, want %v", c, werr, want)
					}
					for range 2 {
						if err := w.Close(); !errors.Is(err, want) {
							t.Errorf("%s, %d of %d bytes: Close: %v, want %v", c, at, len(blob), err, want)
						}
					}
					if _, err := w.Write(in[:1]); !errors.Is(err, want) {
						t.Errorf("%s: Write after Close: %v", c, err)
					}
					w.Abort()
				}
			}
		}
	}
}

// A source that fails is the caller's to judge: what came before is in the blob.
func TestFailingSource(t *testing.T) {
	p := newPool(t, 2)
	in := corpus(11, 300<<10)
	for _, n := range []int{0, 10, 200 << 10, 300 << 10} {
		var out bytes.Buffer
		w, err := p.NewWriter(&out, Options{FrameSize: 100 << 10})
		if err != nil {
			t.Fatal(err)
		}
		k, err := w.ReadFrom(io.MultiReader(bytes.NewReader(in[:n]), iotest.ErrReader(errDisk)))
		if k != int64(n) || !errors.Is(err, errDisk) {
			t.Errorf("ReadFrom: %d, %v; want %d, %v", k, err, n, errDisk)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		if got, err := decode(t, p, out.Bytes()); err != nil || !bytes.Equal(got, in[:n]) {
			t.Errorf("%d bytes, %v; want %d", len(got), err, n)
		}
	}
}

// A source that returns nothing for ever must not be asked for ever.
func TestNoProgress(t *testing.T) {
	p := newPool(t, 1)
	w, err := p.NewWriter(io.Discard, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Abort()
	if _, err := w.ReadFrom(idleReader{}); !errors.Is(err, io.ErrNoProgress) {
		t.Error(err)
	}
}

type idleReader struct{}

func (idleReader) Read([]byte) (int, error) { return 0, nil }

// watched fails the test when it is written to after it was let go.
type watched struct {
	t    *testing.T
	mu   sync.Mutex
	gone bool
}

func (w *watched) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.gone {
		w.t.Error("written after Abort")
	}
	return len(b), nil
}

func TestAbortInEveryState(t *testing.T) {
	const frame = 70 << 10
	p := newPool(t, 2)
	in := corpus(12, 16*frame)
	states := map[string]func(w *Writer){
		"new":         func(*Writer) {},
		"small":       func(w *Writer) { w.Write(in[:100]) },
		"large":       func(w *Writer) { w.Write(in[:smallBuffer+1]) },
		"full frame":  func(w *Writer) { w.Write(in[:frame]) },
		"in flight":   func(w *Writer) { w.Write(in[:10*frame+5]) },
		"after error": func(w *Writer) { w.fail(errDisk) },
		"aborted":     func(w *Writer) { w.Write(in); w.Abort() },
	}
	for _, c := range every() {
		for state, reach := range states {
			dst := &watched{t: t}
			w, err := p.NewWriter(dst, Options{Compression: c, FrameSize: frame, DiffID: true})
			if err != nil {
				t.Fatal(err)
			}
			reach(w)
			w.Abort()
			dst.mu.Lock()
			dst.gone = true
			dst.mu.Unlock()
			w.Abort()
			if _, err := w.Write(in[:1]); err == nil {
				t.Errorf("%s, %s: Write after Abort succeeds", c, state)
			}
			if _, err := w.ReadFrom(bytes.NewReader(in)); err == nil {
				t.Errorf("%s, %s: ReadFrom after Abort succeeds", c, state)
			}
			if err := w.Close(); err == nil {
				t.Errorf("%s, %s: Close after Abort succeeds", c, state)
			}
		}
	}
}

// Abort from another goroutine ends a Write that waits for the budget.
func TestAbortWhileWriting(t *testing.T) {
	const frame = 70 << 10
	p := newPool(t, 1)
	<-p.cpu // nothing is compressed, so nothing comes back
	w, err := p.NewWriter(io.Discard, Options{FrameSize: frame, DiffID: true})
	if err != nil {
		t.Fatal(err)
	}
	result := make(chan error)
	go func() {
		_, err := w.Write(corpus(13, 40*frame))
		result <- err
	}()
	for len(p.frames) > 0 {
		runtime.Gosched()
	}
	w.Abort()
	if err := <-result; !errors.Is(err, errAborted) {
		t.Errorf("Write: %v", err)
	}
	p.cpu <- struct{}{}
}

// slow takes its time for a write.
type slow struct {
	entered chan struct{}
	left    atomic.Bool
}

func (s *slow) Write(b []byte) (int, error) {
	close(s.entered)
	time.Sleep(50 * time.Millisecond)
	s.left.Store(true)
	return 0, errDisk
}

// Once Abort has returned the destination may be closed or removed.
func TestAbortWaitsForTheDestination(t *testing.T) {
	p := newPool(t, 1)
	dst := &slow{entered: make(chan struct{})}
	w, err := p.NewWriter(dst, Options{FrameSize: 70 << 10})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(corpus(16, 70<<10)); err != nil {
		t.Fatal(err)
	}
	<-dst.entered
	w.Abort()
	if !dst.left.Load() {
		t.Error("Abort returned during dst.Write")
	}
}

func TestAbortAfterClose(t *testing.T) {
	p := newPool(t, 2)
	for _, n := range []int{10, 3 << 20} {
		var out bytes.Buffer
		w, err := p.NewWriter(&out, Options{FrameSize: 1 << 20, DiffID: true})
		if err != nil {
			t.Fatal(err)
		}
		w.Write(corpus(14, n))
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		w.Abort()
		if err := w.Close(); err != nil {
			t.Errorf("Close, Abort, Close: %v", err)
		}
		if _, err := w.Write([]byte("x")); !errors.Is(err, errClosed) {
			t.Errorf("Write after Close: %v", err)
		}
		if w.Result().Out != int64(out.Len()) {
			t.Errorf("result %+v after Abort", w.Result())
		}
	}
}
