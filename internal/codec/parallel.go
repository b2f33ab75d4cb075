package codec

import (
	"encoding/binary"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"
)

// NewParallelReader decodes the blob of size bytes in r, like NewReader. Where
// the blob is zstd and ends in a seek table, frames are decoded on all of the
// pool's workers, a few ahead of the reader, and delivered in order. A table
// that is missing, odd, or of frames larger than 8 MiB means NewReader; one
// that is not what the frames really are means an error when it shows. r is
// read concurrently and not closed.
func (p *Pool) NewParallelReader(r io.ReaderAt, size int64) (io.ReadCloser, error) {
	spans, err := readSeekTable(r, size)
	if err != nil {
		return nil, err
	}
	if len(spans) < 2 {
		return p.NewReader(io.NewSectionReader(r, 0, size))
	}
	if err := p.enter(); err != nil {
		return nil, err
	}
	d, err := p.frameDecoder()
	if err != nil {
		p.leave()
		return nil, err
	}
	return &parallelReader{pool: p, src: r, dec: d, spans: spans, own: tokens(1), stop: make(chan struct{})}, nil
}

// readSeekTable returns the spans of a blob's frames, or none where there is
// no table that could be trusted to be about the whole blob.
func readSeekTable(r io.ReaderAt, size int64) ([]span, error) {
	spans, err := readSpans(r, size)
	if err != nil {
		return nil, err
	}
	for _, s := range spans {
		if s.out > bufferSize || s.in > maxFrame {
			return nil, nil
		}
	}
	return spans, nil
}

// joinedSize is how much of the tar small frames are read and decoded
// together: one by one, the frames of a chunked blob are a read, a goroutine
// and a buffer for some hundred bytes each.
const joinedSize = 64 << 10

// joined is how many of the first spans are decoded together, and what they
// sum up to. At least it is one.
func joined(spans []span) (n int, sum span) {
	for _, s := range spans {
		if n > 0 && (sum.in+s.in > joinedSize || sum.out+s.out > bufferSize) {
			break
		}
		n++
		sum.in += s.in
		sum.out += s.out
	}
	return n, sum
}

// onlySkippable says whether nothing but a few skippable frames lies between
// two offsets: data there would be seen by every decoder but this one.
func onlySkippable(r io.ReaderAt, from, to int64) (bool, error) {
	for range 16 {
		if from == to {
			return true, nil
		}
		var b [8]byte
		if to-from < 8 {
			return false, nil
		}
		if err := readFullAt(r, b[:], from); err != nil {
			return false, fmt.Errorf("read seek table: %w", err)
		}
		if binary.LittleEndian.Uint32(b[:])&^0xf != skippableMagic {
			return false, nil
		}
		from += 8 + int64(binary.LittleEndian.Uint32(b[4:]))
	}
	return false, nil
}

// frameDecoder is the pool's decoder of whole frames, made when first needed.
func (p *Pool) frameDecoder() (*zstd.Decoder, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.dec == nil {
		d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(p.workers), zstd.WithDecoderLowmem(true),
			zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecodeAllCapLimit(true))
		if err != nil {
			return nil, fmt.Errorf("zstd: %w", err)
		}
		p.dec = d
	}
	return p.dec, nil
}

// parallelReader decodes the frames of one blob. It always may have one frame
// in flight, and as many more, up to one for each worker and one, as the
// pool's budget has to spare when it looks: it never waits for others.
type parallelReader struct {
	pool  *Pool
	src   io.ReaderAt
	dec   *zstd.Decoder
	spans []span // not started yet
	off   int64  // of the first of them
	own   chan struct{}
	stop  chan struct{}

	cur    *decoding   // being delivered
	unread []byte      // what of it is still to come
	queue  []*decoding // started after cur, in order
	packed [][]byte    // free memory for compressed frames
	err    error       // from then on
}

// decoding is one frame on its way, or several small ones.
type decoding struct {
	token       chan struct{} // where its token goes back to
	off         int64
	frames      []span
	span        span // all of them
	packed, buf []byte
	done        chan struct{} // closed when err is there, or buf holds span.in bytes
	err         error
}

// Read delivers decoded bytes.
func (r *parallelReader) Read(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	if err := r.more(); err != nil {
		return 0, err
	}
	n := copy(b, r.unread)
	r.unread = r.unread[n:]
	return n, nil
}

// WriteTo writes all that is left to w, a frame at a time.
func (r *parallelReader) WriteTo(w io.Writer) (int64, error) {
	var sum int64
	for {
		if err := r.more(); err == io.EOF {
			return sum, nil
		} else if err != nil {
			return sum, err
		}
		n, err := w.Write(r.unread)
		sum += int64(n)
		r.unread = r.unread[n:]
		if err != nil {
			return sum, err
		}
	}
}

// more sees to it that something is unread.
func (r *parallelReader) more() error {
	for len(r.unread) == 0 && r.err == nil {
		r.recycle()
		r.start()
		if len(r.queue) == 0 {
			r.err = io.EOF
			break
		}
		r.cur, r.queue = r.queue[0], r.queue[1:]
		<-r.cur.done
		r.unread = r.cur.buf[:r.cur.span.in]
		if r.cur.err != nil {
			r.unread, r.err = nil, fmt.Errorf("zstd frame at byte %d: %w", r.cur.off, r.cur.err)
		}
	}
	return r.err
}

// recycle gives back what the frame that was delivered last held.
func (r *parallelReader) recycle() {
	if r.cur == nil {
		return
	}
	r.pool.put(r.cur.buf)
	r.packed = append(r.packed, r.cur.packed)
	r.cur.token <- struct{}{}
	r.cur = nil
}

// start sends off as many frames as may be in flight.
func (r *parallelReader) start() {
	for len(r.spans) > 0 && len(r.queue) <= r.pool.workers {
		n, sum := joined(r.spans)
		d := &decoding{off: r.off, frames: r.spans[:n], span: sum, done: make(chan struct{})}
		select {
		case <-r.own:
			d.token = r.own
		default:
			select {
			case <-r.pool.frames:
				d.token = r.pool.frames
			default:
				return
			}
		}
		r.spans = r.spans[n:]
		r.off += int64(d.span.out)
		if n := len(r.packed); n > 0 {
			d.packed, r.packed = r.packed[n-1], r.packed[:n-1]
		}
		if cap(d.packed) < int(d.span.out) {
			d.packed = make([]byte, (d.span.out+1<<20-1)&^(1<<20-1)) // in steps, to be of use again
		}
		d.buf = r.pool.buffer()
		r.queue = append(r.queue, d)
		go r.decode(d)
	}
}

// decode reads its frames, with no claim on the CPU while the source is waited
// for, and decodes them. Each must be what the table says.
func (r *parallelReader) decode(d *decoding) {
	defer close(d.done)
	packed := d.packed[:d.span.out]
	if d.err = readFullAt(r.src, packed, d.off); d.err != nil {
		return
	}
	select {
	case <-r.pool.cpu:
	case <-r.stop:
		d.err = errReaderClosed
		return
	}
	defer func() { r.pool.cpu <- struct{}{} }()
	buf := d.buf
	for _, s := range d.frames {
		n := int(s.in)
		if d.err = decodeFrame(r.dec, buf[:n], packed[:s.out]); d.err != nil {
			return
		}
		packed, buf = packed[s.out:], buf[n:]
		d.off += int64(s.out) // of the frame at fault
	}
}

// Close waits for the frames in flight. It may be called again.
func (r *parallelReader) Close() error {
	if r.stop == nil {
		return nil
	}
	close(r.stop)
	r.recycle()
	for _, r.cur = range r.queue {
		<-r.cur.done
		r.recycle()
	}
	r.stop, r.queue, r.spans, r.packed, r.unread, r.err = nil, nil, nil, nil, nil, errReaderClosed
	r.pool.leave()
	return nil
}
