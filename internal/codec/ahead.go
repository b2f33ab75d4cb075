package codec

import "io"

// ahead reads from a source on a goroutine of its own, up to four chunks ahead
// of whoever reads from it, so that inflating goes on while files are written.
type ahead struct {
	src    io.ReadCloser
	full   chan []byte   // read, in order; closed after the last
	free   chan []byte   // to be filled; nil where memory is still to be made
	stop   chan struct{} // closed by Close
	err    error         // why full was closed; read after it
	chunk  []byte        // being delivered
	unread []byte        // what of it is still to come
}

const aheadChunk = 128 << 10

func newAhead(src io.ReadCloser) *ahead {
	const chunks = 4
	a := &ahead{src: src, full: make(chan []byte, chunks), free: make(chan []byte, chunks), stop: make(chan struct{})}
	for range chunks {
		a.free <- nil
	}
	go a.run()
	return a
}

// run fills chunks. There are as many as full holds, so that it only ever
// waits for the source and for a free one.
func (a *ahead) run() {
	defer close(a.full)
	for a.err == nil {
		var b []byte
		select {
		case b = <-a.free:
		case <-a.stop:
			return
		}
		if b == nil {
			b = make([]byte, aheadChunk)
		}
		n := 0
		for n < len(b) && a.err == nil {
			var k int
			k, a.err = a.src.Read(b[n:])
			n += k
		}
		a.full <- b[:n]
	}
}

func (a *ahead) Read(p []byte) (int, error) {
	for len(a.unread) == 0 {
		if a.chunk != nil {
			a.free <- a.chunk[:cap(a.chunk)]
			a.chunk = nil
		}
		var ok bool
		if a.chunk, ok = <-a.full; !ok {
			return 0, a.err
		}
		a.unread = a.chunk
	}
	n := copy(p, a.unread)
	a.unread = a.unread[n:]
	return n, nil
}

// Close waits for a read of the source under way and closes the source.
func (a *ahead) Close() error {
	close(a.stop)
	for range a.full {
		// what was read ahead is dropped
	}
	return a.src.Close()
}
