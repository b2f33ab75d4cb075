package codec

import (
	"fmt"
	"hash/crc32"
	"io"
	"sync/atomic"
)

// What happens to a full frame: it is counted, hashed, compressed and emitted.

// summary is what is known of a blob when its last frame is written.
type summary struct {
	in, out int64
	frames  int
	crc     uint32 // gzip: IEEE, of the tar
	spans   []span // zstd
}

// format is how frames become a blob.
type format interface {
	head() []byte
	encode(w *worker, dst []byte, f *frame) ([]byte, error) // concurrently, in any order
	tail(s *summary) []byte
}

// frame is a piece of the tar on its way. Its input lives until it is both
// hashed and compressed.
type frame struct {
	in, out []byte
	dict    []byte // gzip
	last    bool
	token   chan struct{} // where the frame's token goes back to
	outTok  bool          // holds a token of pool.outs
	refs    atomic.Int32  // users of in
	done    chan struct{} // closed when out or err is there
	err     error
}

// submit sends the frame being filled, which is in a large buffer, to be
// hashed, compressed and emitted.
func (w *Writer) submit(last bool) {
	if !w.submitted {
		w.start()
	}
	f := &frame{in: w.cur, token: w.curToken, last: last, done: make(chan struct{})}
	w.cur, w.curToken = nil, nil
	w.count(f)
	f.refs.Store(1)
	if w.sha != nil {
		f.refs.Store(2)
		w.hashing <- f
	}
	w.queue <- f
	if w.c.Codec == Uncompressed {
		f.out = f.in
		close(f.done)
		return
	}
	w.running.Add(1)
	go w.compress(f)
}

// count does what must be done to the tar in order and costs next to nothing.
func (w *Writer) count(f *frame) {
	w.sum.in += int64(len(f.in))
	w.sum.frames++
	if w.c.Codec != Gzip {
		return
	}
	w.sum.crc = crc32.Update(w.sum.crc, crc32.IEEETable, f.in) // 10 GB/s and more
	f.dict = w.dict
	w.dict = append([]byte(nil), f.in[max(0, len(f.in)-gzipDict):]...)
}

// start makes the goroutines that a layer of more than a small buffer needs.
// The channels hold all frames there can be, so that filling never waits for
// anything but a token.
func (w *Writer) start() {
	w.submitted = true
	n := cap(w.pool.frames) + 1
	w.queue = make(chan *frame, n)
	w.running.Add(1)
	go w.emit()
	if w.sha != nil {
		w.hashing = make(chan *frame, n+cap(w.pool.outs))
		w.running.Add(1)
		go w.hash()
	}
}

// hash runs beside compression and reading: without SHA instructions it is
// half of the work.
func (w *Writer) hash() {
	defer w.running.Done()
	for f := range w.hashing {
		if w.failed() == nil {
			w.sha.Write(f.in)
		}
		w.release(f)
	}
}

// release gives up one use of a frame's input.
func (w *Writer) release(f *frame) {
	if f.refs.Add(-1) > 0 {
		return
	}
	w.pool.put(f.in)
	if f.outTok {
		w.pool.outs <- struct{}{}
	}
	if w.c.Codec == Uncompressed {
		f.token <- struct{}{}
	}
}

// compress makes f.out with the next free worker. The buffer for it counts
// against pool.outs until the input's is free in exchange; from then on the
// frame holds one buffer again, and its token stands for that.
func (w *Writer) compress(f *frame) {
	defer w.running.Done()
	defer close(f.done)
	defer w.release(f)
	select {
	case <-w.pool.outs:
		f.outTok = true
	case <-w.stop:
		return
	}
	select {
	case <-w.pool.cpu:
	case <-w.stop:
		return
	}
	defer func() { w.pool.cpu <- struct{}{} }()
	if w.failed() != nil {
		return
	}
	b := w.pool.buffer()
	wk := w.pool.worker()
	f.out, f.err = w.format.encode(wk, b, f)
	w.pool.putWorker(wk)
	if f.err != nil {
		w.pool.put(b)
	}
}

// emit writes what the frames became, in order, and the blob's ends.
func (w *Writer) emit() {
	defer w.running.Done()
	w.write(w.format.head())
	for f := range w.queue {
		<-f.done
		switch {
		case f.err != nil:
			w.fail(f.err)
		case f.out != nil:
			w.write(f.out)
			w.sum.spans = append(w.sum.spans, span{uint32(len(f.out)), uint32(len(f.in))})
		}
		if w.c.Codec == Uncompressed {
			w.release(f)
			continue
		}
		if f.out != nil {
			w.pool.put(f.out)
		}
		f.token <- struct{}{}
	}
	w.write(w.format.tail(&w.sum))
}

// write sends b to dst unless w has failed. After fail and a turn of dstMu
// nothing is written any more.
func (w *Writer) write(b []byte) {
	w.dstMu.Lock()
	defer w.dstMu.Unlock()
	if len(b) == 0 || w.failed() != nil {
		return
	}
	n, err := w.dst.Write(b)
	w.sum.out += int64(n)
	if err == nil && n != len(b) {
		err = io.ErrShortWrite
	}
	if err != nil {
		w.fail(fmt.Errorf("write: %w", err))
	}
}

// closeSmall makes the whole blob of a layer within one small buffer, on this
// goroutine.
func (w *Writer) closeSmall() {
	f := &frame{in: w.cur, last: true}
	w.count(f)
	if w.sha != nil {
		w.sha.Write(f.in)
	}
	out := f.in
	if w.c.Codec != Uncompressed {
		select {
		case <-w.pool.cpu:
		case <-w.stop:
			return
		}
		wk := w.pool.worker()
		b, err := w.format.encode(wk, nil, f)
		w.pool.putWorker(wk)
		w.pool.cpu <- struct{}{}
		if err != nil {
			w.fail(err)
			return
		}
		w.sum.spans = append(w.sum.spans, span{uint32(len(b)), uint32(len(f.in))})
		out = append(w.format.head(), b...)
		out = append(out, w.format.tail(&w.sum)...)
	}
	w.write(out)
}
