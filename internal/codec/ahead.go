package codec

import "io"

// ahead inflates on a goroutine of its own, up to four windows ahead of whoever
// reads from it, so that inflating goes on while files are written.
type ahead struct {
	pool   *Pool
	d      *inflater
	full   chan *window  // decoded, in order; closed after the last
	free   chan *window  // to be filled; nil where memory is still to be made
	stop   chan struct{} // closed by Close
	err    error         // why full was closed; read after it
	cur    *window       // being delivered
	unread []byte        // what of it is still to come
}

const aheadWindows = 4

// newAhead decodes the gzip blob in src. The error is about its first header.
func newAhead(p *Pool, src io.Reader) (*ahead, error) {
	a := &ahead{pool: p, d: &inflater{src: src}, full: make(chan *window, aheadWindows), free: make(chan *window, aheadWindows), stop: make(chan struct{})}
	if err := a.d.header(); err != nil {
		return nil, err
	}
	for range aheadWindows {
		a.free <- nil
	}
	a.d.emit = a.emit
	a.d.begin(a.next())
	go a.run()
	return a, nil
}

// run decodes to the end. What was decoded before an error is delivered.
func (a *ahead) run() {
	defer close(a.full)
	a.err = a.d.members()
	if a.err != errReaderClosed {
		a.full <- a.d.w
	}
}

// emit never waits for full, which holds as many windows as there are.
func (a *ahead) emit(w *window) *window {
	a.full <- w
	return a.next()
}

// next is a window to be filled, nil after Close.
func (a *ahead) next() *window {
	select {
	case w := <-a.free:
		if w == nil {
			w = a.pool.window()
		}
		return w
	case <-a.stop:
		return nil
	}
}

// more sees to it that something is unread.
func (a *ahead) more() error {
	for len(a.unread) == 0 {
		if a.cur != nil {
			a.free <- a.cur
			a.cur = nil
		}
		var ok bool
		if a.cur, ok = <-a.full; !ok {
			return a.err
		}
		a.unread = a.cur.output()
	}
	return nil
}

// Read delivers decoded bytes.
func (a *ahead) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if err := a.more(); err != nil {
		return 0, err
	}
	n := copy(p, a.unread)
	a.unread = a.unread[n:]
	return n, nil
}

// WriteTo writes all that is left to w, from the memory that it was decoded into.
func (a *ahead) WriteTo(w io.Writer) (int64, error) {
	var sum int64
	for {
		if err := a.more(); err == io.EOF {
			return sum, nil
		} else if err != nil {
			return sum, err
		}
		n, err := w.Write(a.unread)
		sum += int64(n)
		a.unread = a.unread[n:]
		if err != nil {
			return sum, err
		}
	}
}

// Close waits for a read of the source under way.
func (a *ahead) Close() error {
	close(a.stop)
	for w := range a.full {
		a.pool.putWindow(w) // decoded in vain
	}
	if a.cur != nil {
		a.pool.putWindow(a.cur)
	}
	for range len(a.free) {
		if w := <-a.free; w != nil {
			a.pool.putWindow(w)
		}
	}
	return nil
}
