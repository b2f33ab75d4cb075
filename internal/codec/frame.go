package codec

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"sync/atomic"
)

// What happens to a full frame: it is counted, hashed, compressed and emitted.

// summary is what is known of a blob when its last frame is written.
type summary struct {
	in, out int64
	frames  int
	crc     uint32  // gzip: IEEE, of the tar
	made    []Frame // zstd
}

// Frame is one data frame of a zstd blob.
type Frame struct {
	Packed, Size uint32             // bytes in the blob and of the tar
	Sum          *[sha256.Size]byte // of its tar, where BeginFrame was asked for it
}

// cut is where BeginFrame was called in a buffer; piece is what lies between.
type cut struct {
	at  int
	sum bool
}

type piece struct {
	end int
	sum bool
}

// format is how frames become a blob.
type format interface {
	head() []byte
	encode(w *worker, dst []byte, f *frame) ([]byte, error) // concurrently, in any order
	tail(s *summary) []byte
}

// frame is a buffer of tar on its way: one frame of the blob, or several that
// BeginFrame separated. Its input lives until it is both hashed and compressed.
type frame struct {
	in, out []byte
	pieces  []piece // of in, one at least
	made    []Frame // zstd: what they became
	dict    []byte  // gzip
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
	f := &frame{in: w.cur, pieces: w.pieces(), token: w.curToken, last: last, done: make(chan struct{})}
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
	w.sum.frames += len(f.pieces)
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
			w.sum.made = append(w.sum.made, f.made...)
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
	if w.failed() != nil {
		return
	}
	for _, b := range w.trail() {
		w.write(b)
	}
	w.write(w.format.tail(&w.sum))
}

// trail is what the trailer makes, with the headers of skippable frames.
func (w *Writer) trail() [][]byte {
	if w.trailer == nil {
		return nil
	}
	contents, err := w.trailer(w.sum.made)
	if err != nil {
		w.fail(err)
		return nil
	}
	b := make([][]byte, 0, 2*len(contents))
	for _, content := range contents {
		if uint64(len(content)) > math.MaxUint32 {
			w.fail(fmt.Errorf("%d bytes do not fit into a skippable frame", len(content)))
			return nil
		}
		header := binary.LittleEndian.AppendUint32(nil, skippableMagic)
		b = append(b, binary.LittleEndian.AppendUint32(header, uint32(len(content))), content)
	}
	return b
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
	f := &frame{in: w.cur, pieces: w.pieces(), last: true}
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
		w.sum.made = f.made
		out = append(w.format.head(), b...)
		for _, b := range w.trail() {
			out = append(out, b...)
		}
		out = append(out, w.format.tail(&w.sum)...)
	}
	w.write(out)
}
