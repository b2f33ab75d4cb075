package codec

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"sync"

	"github.com/opencontainers/go-digest"
)

// Options say what a Writer makes. The zero value is zstd:3.
type Options struct {
	Compression Compression
	FrameSize   int    // bytes of tar a frame, 1 KiB to 8 MiB; 0 is 8 MiB for zstd, 1 MiB for gzip and uncompressed
	DiffID      bool   // hash what is written for Result.DiffID
	Epoch       *int64 // recorded in the blob: seconds the tar's times were clamped to
	Layout      Layout // recorded in the blob: by what rule BeginFrame is called

	// Bare leaves out what lighter says about a blob in it, record and seek
	// table: for zstd that stands inside of something else.
	Bare bool

	// Trailer is called once, when all frames of a zstd blob are written. What
	// it returns goes into the blob as skippable frames, one for each slice,
	// between the last frame and the record.
	Trailer func(frames []Frame) ([][]byte, error)
}

// Result is what a Writer made.
type Result struct {
	DiffID digest.Digest // sha256 of the tar; "" unless Options.DiffID
	In     int64         // bytes of tar
	Out    int64         // bytes of blob
	Frames int           // data frames, gzip blocks
}

// Writer makes one blob of the tar that is written to it. It is for one
// goroutine, but for Abort. Every Writer must be closed or aborted.
//
// What comes in fills a frame; a full frame goes to a goroutine that compresses
// it when a core is free, to one that hashes all frames in order, and to one
// that writes all results in order. A layer that ends within its first 64 KiB
// meets none of them: Close does it all.
type Writer struct {
	pool      *Pool
	dst       io.Writer
	c         Compression
	format    format
	frameSize int

	mu        sync.Mutex    // held by Write, ReadFrom, Close; Abort waits for it
	cur       []byte        // the frame being filled: length so far, nil when there is none
	curToken  chan struct{} // where its token goes back to; nil for a small buffer
	dict      []byte        // gzip: the end of the frame before
	cuts      []cut         // where frames begin in cur, if not just at its start
	submitted bool          // the goroutines below run
	ended     bool          // Close or Abort was here
	own       chan struct{} // the token of the one frame that is always allowed

	queue   chan *frame // to emit, in order
	hashing chan *frame // to hash, in order
	running sync.WaitGroup

	stopOnce sync.Once
	stop     chan struct{} // closed on the first error
	err      error         // that error; read after stop
	dstMu    sync.Mutex    // held while dst is written

	trailer func([]Frame) ([][]byte, error)
	sha     hash.Hash
	sum     summary
}

var (
	errAborted = errors.New("aborted")
	errClosed  = errors.New("write after close")
)

// NewWriter starts a blob on dst, which is written by one goroutine at a time,
// in order, until Close or Abort returns. The error is about o, or says that
// the pool is closed.
func (p *Pool) NewWriter(dst io.Writer, o Options) (*Writer, error) {
	c := o.Compression.Resolve()
	if err := c.Validate(); err != nil {
		return nil, err
	}
	size := o.FrameSize
	if size == 0 {
		size = gzipFrame
		if c.Codec == Zstd {
			size = maxFrame
		}
	}
	if size < 1<<10 || size > maxFrame {
		return nil, fmt.Errorf("frame size of %d bytes is not between 1 KiB and 8 MiB", size)
	}
	if c.Codec != Zstd && (o.Bare || o.Trailer != nil || o.Layout != Even) {
		return nil, fmt.Errorf("%s blob: bare blobs, trailers and layouts are zstd's", c)
	}
	w := &Writer{pool: p, dst: dst, c: c, frameSize: size, format: rawFormat{}, stop: make(chan struct{}), trailer: o.Trailer}
	switch {
	case o.Bare:
		w.format = zstdFormat{c.Level, nil}
	case c.Codec != Uncompressed:
		rec, err := Record{c, size, Encoder(c), o.Epoch, o.Layout}.encode()
		if err != nil {
			return nil, err
		}
		w.format = zstdFormat{c.Level, rec}
		if c.Codec == Gzip {
			w.format = gzipFormat{c.Level, rec}
		}
	}
	if o.DiffID {
		w.sha = sha256.New()
	}
	if err := p.enter(); err != nil {
		return nil, err
	}
	return w, nil
}

// Write adds p to the tar. It waits while the pool's budget is used up.
func (w *Writer) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := 0
	for n < len(p) {
		room, err := w.room()
		if err != nil {
			return n, err
		}
		k := copy(room, p[n:])
		n += k
		if err := w.grow(k); err != nil {
			return n, err
		}
	}
	return n, w.failed()
}

// ReadFrom adds all of r to the tar, reading straight into the frames.
func (w *Writer) ReadFrom(r io.Reader) (int64, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	var n int64
	for empty := 0; ; {
		room, err := w.room()
		if err != nil {
			return n, err
		}
		k, rerr := r.Read(room)
		n += int64(k)
		if err := w.grow(k); err != nil {
			return n, err
		}
		if rerr == io.EOF {
			return n, nil
		}
		if rerr != nil {
			return n, rerr
		}
		if k > 0 {
			empty = 0
		} else if empty++; empty == 100 {
			return n, io.ErrNoProgress
		}
	}
}

// failed is the error that stopped w, if one did.
func (w *Writer) failed() error {
	select {
	case <-w.stop:
		return w.err
	default:
		return nil
	}
}

// fail stops w with its first error.
func (w *Writer) fail(err error) {
	w.stopOnce.Do(func() {
		w.err = fmt.Errorf("%s blob: %w", w.c, err)
		close(w.stop)
	})
}

// room is the free part of the frame being filled, never empty.
func (w *Writer) room() ([]byte, error) {
	if err := w.failed(); err != nil {
		return nil, err
	}
	if w.ended {
		return nil, fmt.Errorf("%s blob: %w", w.c, errClosed)
	}
	if w.cur == nil && !w.submitted {
		w.cur = w.pool.take(&w.pool.small, smallBuffer)[:0]
	}
	if w.cur == nil || len(w.cur) == cap(w.cur) {
		if err := w.enlarge(); err != nil {
			return nil, err
		}
	}
	return w.cur[len(w.cur):min(cap(w.cur), w.frameSize)], nil
}

// enlarge waits for a token and gives w a large buffer, with what the small one
// held.
func (w *Writer) enlarge() error {
	if w.own == nil {
		w.own = tokens(1)
	}
	select { // its own first, or a lone writer would take from the others
	case <-w.own:
		w.curToken = w.own
	default:
		select {
		case <-w.own:
			w.curToken = w.own
		case <-w.pool.frames:
			w.curToken = w.pool.frames
		case <-w.stop:
			return w.err
		}
	}
	b := w.pool.buffer()
	n := copy(b, w.cur)
	if w.cur != nil {
		w.pool.put(w.cur)
	}
	w.cur = b[:n]
	return nil
}

// grow counts n bytes that were put into room and sends a full frame off.
func (w *Writer) grow(n int) error {
	w.cur = w.cur[:len(w.cur)+n]
	if len(w.cur) < w.frameSize {
		return nil
	}
	if w.curToken == nil { // a frame no larger than the small buffer
		if err := w.enlarge(); err != nil {
			return err
		}
	}
	w.submit(false)
	return nil
}

// Close ends the blob. Only when it returns nil is the blob whole. It may be
// called again and returns the same. dst is not closed.
func (w *Writer) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ended {
		return w.failed()
	}
	if w.failed() == nil {
		w.finish()
	}
	w.end()
	w.running.Wait()
	w.pool.leave()
	w.stopOnce.Do(func() {}) // an Abort from now on changes nothing
	return w.failed()
}

// finish sends off what is in the frame being filled. A gzip stream always
// needs a last block; a zstd blob has one frame at least, because not every
// decoder takes a file of skippable frames for zstd.
func (w *Writer) finish() {
	if !w.submitted && w.curToken == nil {
		w.closeSmall()
		return
	}
	if len(w.cur) == 0 && w.c.Codec != Gzip {
		return
	}
	if w.cur == nil {
		if err := w.enlarge(); err != nil {
			return
		}
	}
	w.submit(true)
}

// end lets the goroutines run out and gives back the frame being filled.
func (w *Writer) end() {
	w.ended = true
	if w.cur != nil {
		w.pool.put(w.cur)
		w.cur = nil
	}
	if w.curToken != nil {
		w.curToken <- struct{}{}
		w.curToken = nil
	}
	if !w.submitted {
		return
	}
	close(w.queue)
	if w.hashing != nil {
		close(w.hashing)
	}
}

// Abort gives the blob up: dst is not written any more once it returns, and
// all later calls fail. It may be called at any time, from any goroutine, more
// than once, and does nothing after Close. It waits for a Write, ReadFrom or
// dst.Write under way, which includes a read from ReadFrom's source, but not
// for frames that are being compressed: their buffers go back when they are
// done.
func (w *Writer) Abort() {
	w.fail(errAborted)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ended {
		return
	}
	w.end()
	w.dstMu.Lock()   // a write under way ends
	w.dstMu.Unlock() //nolint:staticcheck // waiting is all there is to do
	go func() {
		w.running.Wait()
		w.pool.leave()
	}()
}

// Result is what was made. It is valid after Close returned nil.
func (w *Writer) Result() Result {
	r := Result{In: w.sum.in, Out: w.sum.out, Frames: w.sum.frames}
	if w.sha != nil {
		r.DiffID = digest.NewDigest(digest.SHA256, w.sha)
	}
	return r
}
