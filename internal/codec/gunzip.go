package codec

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
)

// The gzip side of inflater: members, checksums, and where bytes come from.

// Bits of a header's flags, RFC 1952, section 2.3.1.
const (
	gzipHeaderCRC = 1 << 1
	gzipExtra     = 1 << 2
	gzipName      = 1 << 3
	gzipComment   = 1 << 4
	gzipReserved  = 7 << 5

	// maxGzipString is the longest name or comment with its final zero that
	// is read, as in compress/gzip.
	maxGzipString = 512
)

var (
	errGzipHeader   = errors.New("gzip: invalid header")
	errGzipReserved = errors.New("gzip: invalid header: reserved flags are set")
	errGzipCheck    = errors.New("gzip: checksum or size differs from what was decoded")
)

// members decodes what follows the first header.
func (d *inflater) members() error {
	for {
		d.crc, d.size = 0, 0
		d.w.low, d.w.summed = d.w.end, d.w.end
		if err := d.blocks(); err != nil {
			return err
		}
		d.sum()
		if !d.fill(8) {
			return d.cut()
		}
		t := d.in[d.ip : d.ip+8]
		d.ip += 8
		if binary.LittleEndian.Uint32(t) != d.crc || binary.LittleEndian.Uint32(t[4:]) != d.size {
			return errGzipCheck
		}
		if !d.fill(1) && d.srcErr == io.EOF {
			return io.EOF
		}
		if err := d.header(); err != nil {
			return err
		}
	}
}

// sum adds what was decoded since it was here last.
func (d *inflater) sum() {
	b := d.w.buf[d.w.summed:d.w.end]
	d.crc = crc32.Update(d.crc, crc32.IEEETable, b)
	d.size += uint32(len(b))
	d.w.summed = d.w.end
}

// header reads a member's header. Nothing of it is of interest here: records
// are read by ReadRecord.
func (d *inflater) header() error {
	if !d.fill(10) {
		return d.cut()
	}
	h := d.in[d.ip : d.ip+10]
	if Sniff(h) != Gzip {
		return errGzipHeader
	}
	flags := h[3]
	if flags&gzipReserved != 0 {
		return errGzipReserved
	}
	crc := uint32(0)
	d.skip(10, &crc)
	if flags&gzipExtra != 0 {
		if !d.fill(2) {
			return d.cut()
		}
		n := 2 + int(binary.LittleEndian.Uint16(d.in[d.ip:]))
		for n > 0 {
			if !d.fill(1) {
				return d.cut()
			}
			n -= d.skip(n, &crc)
		}
	}
	for _, f := range []byte{gzipName, gzipComment} {
		if flags&f == 0 {
			continue
		}
		if err := d.skipString(&crc); err != nil {
			return err
		}
	}
	if flags&gzipHeaderCRC != 0 {
		if !d.fill(2) {
			return d.cut()
		}
		if binary.LittleEndian.Uint16(d.in[d.ip:]) != uint16(crc) {
			return errGzipHeader
		}
		d.ip += 2
	}
	return nil
}

// skip goes over up to n bytes of those that are there.
func (d *inflater) skip(n int, crc *uint32) int {
	b := d.in[d.ip:min(d.end, d.ip+uint(n))]
	*crc = crc32.Update(*crc, crc32.IEEETable, b)
	d.ip += uint(len(b))
	return len(b)
}

// skipString goes over a string that ends with a zero.
func (d *inflater) skipString(crc *uint32) error {
	for n := 0; n < maxGzipString; {
		if !d.fill(1) {
			return d.cut()
		}
		there := d.in[d.ip:min(d.end, d.ip+uint(maxGzipString-n))]
		i := bytes.IndexByte(there, 0)
		if i >= 0 {
			d.skip(i+1, crc)
			return nil
		}
		n += d.skip(len(there), crc)
	}
	return errGzipHeader
}

// fill sees to it that n bytes of input are there and says whether they are.
// It reads as much as src has to give, and only when it must.
func (d *inflater) fill(n uint) bool {
	if d.end-d.ip >= n {
		return true
	}
	// Eight bytes stay in front: align gives back whole bytes from d.b.
	if from := d.ip - min(d.ip, 8); from > 0 {
		copy(d.in[:], d.in[from:d.end])
		d.base += int64(from)
		d.ip -= from
		d.end -= from
	}
	for idle := 0; d.end-d.ip < n && d.srcErr == nil; {
		k, err := d.src.Read(d.in[d.end:inputSize])
		d.end += uint(k)
		d.srcErr = err
		if k > 0 {
			idle = 0
		} else if idle++; idle == 100 && err == nil {
			d.srcErr = io.ErrNoProgress
		}
	}
	return d.end-d.ip >= n
}

// more sees to it that d.b has n bits or all that there are.
func (d *inflater) more(n uint) {
	if d.n >= n {
		return
	}
	d.fill(8)
	d.top()
}

// bits takes n bits, of which there are at most 14.
func (d *inflater) bits(n uint) (uint, error) {
	d.more(n)
	if d.n < n {
		return 0, d.cut()
	}
	v := uint(d.b & (1<<n - 1))
	d.b >>= n
	d.n -= n
	return v, nil
}

// align drops the rest of a byte of which bits were taken, and gives back the bytes
// of which none were.
func (d *inflater) align() {
	d.ip -= d.n >> 3
	d.b, d.n = 0, 0
}

// offset is the byte of the blob that is being decoded.
func (d *inflater) offset() int64 { return d.base + int64(d.ip) - int64(d.n>>3) }

// cut is the error for input that ends too early.
func (d *inflater) cut() error {
	if d.srcErr != io.EOF {
		return fmt.Errorf("gzip: read at byte %d: %w", d.base+int64(d.end), d.srcErr)
	}
	return fmt.Errorf("gzip: cut at byte %d: %w", d.base+int64(d.end), io.ErrUnexpectedEOF)
}

func (d *inflater) corrupt(what string) error {
	return fmt.Errorf("gzip: corrupt at byte %d: %s", d.offset(), what)
}
