package cachemount

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/opencontainers/go-digest"
)

// The two halves send each other messages over one stream of bytes, whatever
// carries it: a kind (1 byte), the length of the body (4, big-endian), the
// body. The session asks, the agent answers, one operation at a time:
//
//	session                          agent
//	hello                            hello
//	import, data … end (the tree)    want
//	data … end (what is wanted)      want … result
//	export, data … end (the base)    want
//	data … end                       pack, data …, packed; pack …; data (the tree); result
//	confirm                          result
//
// Instead of what is expected of it, either side may send failure; the agent
// then undoes what it was at, and the stream is good for the next operation.
// Stop makes the agent fail while it is sending. Both sides read all the time, so
// that neither waits for the other to do so.
const wireVersion = 1

const (
	msgHello   = 'H' // hello
	msgImport  = 'I' // importRequest
	msgExport  = 'X' // exportRequest
	msgConfirm = 'C' // confirmRequest
	msgData    = 'D' // bytes
	msgEnd     = 'E' // of data
	msgWant    = 'W' // wanted
	msgPack    = 'P' // a pack begins
	msgPacked  = 'Q' // Index: it ends
	msgResult  = 'R' // as the operation has it
	msgFailure = 'F' // failure
	msgStop    = 'S'
)

// dataSize is how much one message of data carries at most; maxMessage bounds
// every body. Bytes.
const (
	dataSize   = 256 << 10
	maxMessage = 16 << 20
)

type hello struct {
	Version int `json:"version"`
}

// importRequest asks for a mount's directory to become what the artifact has.
// Its tree follows as data.
type importRequest struct {
	Root   string        `json:"root"`
	Packs  []Pack        `json:"packs"`
	Tree   digest.Digest `json:"tree"`
	Option ImportOptions `json:"options"`
}

// exportRequest asks for what a mount's directory has now. What the last artifact
// has of it, exportBase, follows as data once it is known.
type exportRequest struct {
	Root   string        `json:"root"`
	Option ExportOptions `json:"options"`
}

type exportBase struct {
	Packs []Pack        `json:"packs"`
	Tree  digest.Digest `json:"tree"` // "" for none
}

// confirmRequest says that what was exported is in the artifact now.
type confirmRequest struct {
	Root  string `json:"root"`
	Packs []Pack `json:"packs"`
}

// wanted are ranges of packs, whose bytes are to be sent one after the other, or
// the tree.
type wanted struct {
	Tree   bool        `json:"tree,omitempty"`
	Ranges []packRange `json:"ranges,omitempty"`
}

// packRange is a part of a pack that the request named, by its number there.
type packRange struct {
	Pack   int   `json:"pack"`
	Offset int64 `json:"offset"`
	Length int64 `json:"length"`
}

type message struct {
	kind byte
	body []byte
}

// conn is one end of the stream. One goroutine may send, one receive.
type conn struct {
	stream io.ReadWriteCloser
	in     chan message
	done   chan struct{} // closed by close
	once   sync.Once
	err    error // why in was closed; read after that

	mu  sync.Mutex // held while sending
	out []byte

	bodies sync.Pool // of *[]byte, dataSize each
}

func newConn(stream io.ReadWriteCloser) *conn {
	c := &conn{stream: stream, in: make(chan message, 4), done: make(chan struct{})}
	go c.receive()
	return c
}

// close ends both directions. It may be called from any goroutine, repeatedly.
func (c *conn) close() {
	c.once.Do(func() {
		close(c.done)
		_ = c.stream.Close()
	})
}

func (c *conn) receive() {
	defer close(c.in)
	for {
		m, err := c.read()
		if err != nil {
			c.err = err
			return
		}
		select {
		case c.in <- m:
		case <-c.done:
			c.err = ErrCut
			return
		}
	}
}

func (c *conn) read() (message, error) {
	var head [5]byte
	if _, err := io.ReadFull(c.stream, head[:]); err != nil {
		return message{}, cut(err)
	}
	n := binary.BigEndian.Uint32(head[1:])
	if n > maxMessage {
		return message{}, fmt.Errorf("%w: a message of %d bytes", ErrVersion, n)
	}
	m := message{kind: head[0]}
	if b, ok := c.bodies.Get().(*[]byte); ok && n <= dataSize {
		m.body = (*b)[:n]
	} else {
		m.body = make([]byte, n, max(n, dataSize))
	}
	if _, err := io.ReadFull(c.stream, m.body); err != nil {
		return message{}, cut(err)
	}
	return m, nil
}

// cut is what an error of the stream is to both sides.
func cut(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return ErrCut
	}
	return fmt.Errorf("%w: %w", ErrCut, err)
}

// recycle gives a body back that nobody reads any more.
func (c *conn) recycle(b []byte) {
	if cap(b) == dataSize {
		b = b[:dataSize]
		c.bodies.Put(&b)
	}
}

// next is the next message; what it holds is the caller's.
func (c *conn) next() (message, error) {
	m, ok := <-c.in
	if !ok {
		return m, c.err
	}
	if m.kind == msgFailure {
		return m, m.failure()
	}
	return m, nil
}

func (m message) failure() error {
	var f failure
	if err := json.Unmarshal(m.body, &f); err != nil {
		return fmt.Errorf("%w: %w", ErrVersion, err)
	}
	return f.error()
}

// expect is the next message, of one kind, as JSON.
func (c *conn) expect(kind byte, into any) error {
	m, err := c.next()
	if err != nil {
		return err
	}
	return m.decode(kind, into)
}

func (m message) decode(kind byte, into any) error {
	if m.kind != kind {
		return fmt.Errorf("%w: %q where %q should be", ErrVersion, m.kind, kind)
	}
	if err := json.Unmarshal(m.body, into); err != nil {
		return fmt.Errorf("%w: %w", ErrVersion, err)
	}
	return nil
}

// send sends a message whose body is v as JSON; nil is an empty one.
func (c *conn) send(kind byte, v any) error {
	var body []byte
	if v != nil {
		var err error
		if body, err = json.Marshal(v); err != nil {
			return err
		}
	}
	return c.sendRaw(kind, body)
}

func (c *conn) sendRaw(kind byte, body []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.out = append(c.out[:0], kind)
	c.out = binary.BigEndian.AppendUint32(c.out, uint32(len(body)))
	c.out = append(c.out, body...)
	if _, err := c.stream.Write(c.out); err != nil {
		return cut(err)
	}
	return nil
}

// Write sends p as data.
func (c *conn) Write(p []byte) (int, error) {
	n := 0
	for n < len(p) {
		k := min(len(p)-n, dataSize)
		if err := c.sendRaw(msgData, p[n:n+k]); err != nil {
			return n, err
		}
		n += k
	}
	return n, nil
}

// dataReader reads data up to its end.
type dataReader struct {
	c     *conn
	whole []byte // the body that rest is a part of
	rest  []byte
	err   error
}

// Read implements io.Reader; a failure of the other side is an error.
func (r *dataReader) Read(p []byte) (int, error) {
	for len(r.rest) == 0 && r.err == nil {
		r.c.recycle(r.whole)
		r.whole = nil
		m, err := r.c.next()
		switch {
		case err != nil:
			r.err = err
		case m.kind == msgEnd:
			r.err = io.EOF
		case m.kind == msgData:
			r.whole, r.rest = m.body, m.body
		default:
			r.err = fmt.Errorf("%w: %q among data", ErrVersion, m.kind)
		}
	}
	if r.err != nil && len(r.rest) == 0 {
		return 0, r.err
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

// drain reads what is still to come, so that the next message is another.
func (r *dataReader) drain() {
	_, _ = io.Copy(io.Discard, r)
}
