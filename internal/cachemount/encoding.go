package cachemount

import (
	"encoding/binary"
	"errors"
)

// writer appends numbers and strings; reader takes them apart again. Numbers
// are varints as in encoding/binary.
type writer struct{ b []byte }

func (w *writer) uint(v uint64)      { w.b = binary.AppendUvarint(w.b, v) }
func (w *writer) int(v int64)        { w.b = binary.AppendVarint(w.b, v) }
func (w *writer) fixed32(v uint32)   { w.b = binary.LittleEndian.AppendUint32(w.b, v) }
func (w *writer) raw(b []byte)       { w.b = append(w.b, b...) }
func (w *writer) string(s string)    { w.uint(uint64(len(s))); w.b = append(w.b, s...) }
func (w *writer) section(of *writer) { w.uint(uint64(len(of.b))); w.raw(of.b) }

var errShort = errors.New("it ends too early")

// reader is of bytes from outside. After an error everything is zero.
type reader struct {
	b   []byte
	err error
}

func (r *reader) fail() {
	if r.err == nil {
		r.err = errShort
	}
	r.b = nil
}

func (r *reader) uint() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.fail()
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) int() int64 {
	v, n := binary.Varint(r.b)
	if n <= 0 {
		r.fail()
		return 0
	}
	r.b = r.b[n:]
	return v
}

// raw are the next n bytes, not copied.
func (r *reader) raw(n uint64) []byte {
	if n > uint64(len(r.b)) {
		r.fail()
		return nil
	}
	out := r.b[:n]
	r.b = r.b[n:]
	return out
}

func (r *reader) fixed32() uint32 {
	b := r.raw(4)
	if b == nil {
		return 0
	}
	return binary.LittleEndian.Uint32(b)
}

func (r *reader) string() string   { return string(r.raw(r.uint())) }
func (r *reader) section() *reader { return &reader{b: r.raw(r.uint())} }

// count is a number of things of which each takes a byte at least, so that no
// number alone makes anybody ask for memory.
func (r *reader) count() int {
	n := r.uint()
	if n > uint64(len(r.b)) {
		r.fail()
		return 0
	}
	return int(n)
}
