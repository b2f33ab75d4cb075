package registry

import (
	"errors"
	"io"
	"sync"
	"time"
)

// ahead is how far a writer may be in front of what the connection has taken,
// in bytes, where nobody waits for more.
const ahead = 1 << 20

// ringBlock is how a ring's memory is allocated, in bytes: a small blob takes
// one block and not all that a big one may have.
const ringBlock = 256 << 10

// ring is a stream between its writer and a connection that may break: it
// holds the end of what was written, so that another connection can start
// further back. Offsets count from the stream's start.
type ring struct {
	mu      sync.Mutex
	changed sync.Cond
	blocks  [][]byte // offset o is at o modulo their sum; nil before its first use
	end     int64    // how much was written
	cursor  int64    // how much the reader has given out
	lead    int64    // how far the writer may be in front of that
	reader  *ringReader
	atEnd   bool  // it has given out its last byte
	closed  bool  // nothing more will be written
	err     error // nothing more will be read
}

// newRing holds at least keep bytes behind the cursor.
func newRing(keep int64) *ring {
	r := &ring{blocks: make([][]byte, (keep+ahead+ringBlock-1)/ringBlock), lead: ahead}
	r.changed.L = &r.mu
	return r
}

// low is the first byte that is still there.
func (r *ring) low() int64 { return max(0, r.end-int64(len(r.blocks))*ringBlock) }

// Write waits while the reader is behind. Errors are those of fail.
func (r *ring) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	for n < len(p) {
		for r.err == nil && r.end-r.cursor >= r.lead {
			r.changed.Wait()
		}
		if r.err != nil {
			return n, r.err
		}
		room := min(int64(len(p)-n), r.lead-(r.end-r.cursor))
		m := copy(r.at(r.end, true), p[n:int64(n)+room])
		n += m
		r.end += int64(m)
		r.changed.Broadcast()
	}
	return n, nil
}

// at is the memory from an offset to the end of its block.
func (r *ring) at(offset int64, allocate bool) []byte {
	i := offset / ringBlock % int64(len(r.blocks))
	if r.blocks[i] == nil && allocate {
		r.blocks[i] = make([]byte, ringBlock)
	}
	return r.blocks[i][offset%ringBlock:]
}

// close tells the reader that it gets an end.
func (r *ring) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	r.changed.Broadcast()
}

// fail ends the stream for both sides and frees its memory. The first error
// counts.
func (r *ring) fail(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err == nil {
		r.err, r.blocks, r.reader = err, nil, nil
	}
	r.changed.Broadcast()
}

// ready waits until n bytes can be read from an offset on, or all there will be,
// and answers how many; 0 is the end of the stream. Up to half of what the ring
// holds can be asked for: what is written while that is on its way leaves it
// there.
func (r *ring) ready(from, n int64) (int64, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lead = max(n, ahead)
	r.changed.Broadcast()
	for r.err == nil && r.end-from < n && !r.closed {
		r.changed.Wait()
	}
	return min(n, r.end-from), r.err
}

// span answers the first byte that is there and the one behind the last.
func (r *ring) span() (low, end int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.low(), r.end
}

// reached is how far the last reader came.
func (r *ring) reached() int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.cursor
}

// spent tells whether the reader came to its end.
func (r *ring) spent() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.atEnd
}

// whole answers a copy of all that was written, where it is still there.
func (r *ring) whole() ([]byte, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.low() > 0 || r.err != nil {
		return nil, false
	}
	b := make([]byte, 0, r.end)
	for o := int64(0); o < r.end; o = int64(len(b)) {
		part := r.at(o, false)
		b = append(b, part[:min(int64(len(part)), r.end-o)]...)
	}
	return b, true
}

// open starts a reader of at most limit bytes from an offset, and ends the one
// before. The timer runs while the reader waits for whoever reads, and not
// while that one waits for the writer.
func (r *ring) open(from, limit int64, timer *time.Timer, idle time.Duration) (io.ReadCloser, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.err != nil:
		return nil, r.err
	case from < r.low() || from > r.end:
		return nil, errGone
	}
	end := from + limit
	if end < from { // no limit
		end = limit
	}
	rd := &ringReader{ring: r, end: end, timer: timer, idle: idle}
	r.reader, r.cursor, r.atEnd = rd, from, false
	r.changed.Broadcast()
	return rd, nil
}

// detach ends the reader. Until the next one the writer gets no further.
func (r *ring) detach() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.reader = nil
	r.changed.Broadcast()
}

// ringReader is one connection's way through a ring.
type ringReader struct {
	ring  *ring
	end   int64 // where it ends, whatever is written
	timer *time.Timer
	idle  time.Duration
}

// Read implements io.Reader.
func (rd *ringReader) Read(p []byte) (int, error) {
	r := rd.ring
	r.mu.Lock()
	defer r.mu.Unlock()
	defer func() {
		if r.reader == rd {
			rd.timer.Reset(rd.idle)
		}
	}()
	for {
		switch {
		case r.err != nil:
			return 0, r.err
		case r.reader != rd:
			return 0, errGone
		case r.cursor == rd.end, r.closed && r.cursor == r.end:
			r.atEnd = true
			return 0, io.EOF
		case r.cursor < r.end:
			n := copy(p[:min(int64(len(p)), rd.end-r.cursor, r.end-r.cursor)], r.at(r.cursor, false))
			r.cursor += int64(n)
			r.changed.Broadcast()
			return n, nil
		}
		rd.timer.Stop()
		r.changed.Wait()
	}
}

// Close implements io.Closer.
func (rd *ringReader) Close() error {
	r := rd.ring
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.reader == rd {
		r.reader = nil
	}
	r.changed.Broadcast()
	return nil
}

var errGone = errors.New("this part of the upload is no longer held")
