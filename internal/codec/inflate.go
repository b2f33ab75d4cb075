package codec

import (
	"encoding/binary"
	"io"
)

// inflater decodes gzip (RFC 1952) and the deflate streams in it (RFC 1951).
//
// Inflating is the one part of reading a layer that cannot be spread over
// cores. compress/gzip and klauspost's take the stream byte by byte; this one
// takes 8 bytes at a time from a buffer of its own, gets a literal or a length
// with its extra bits from one lookup, copies matches in words, and hands its
// output out in the memory that it was decoded into.
type inflater struct {
	src    io.Reader
	srcErr error // from src, io.EOF too; nothing is read after it
	base   int64 // where in[0] is in the blob
	ip     uint  // of what is in in, the next byte to be taken,
	end    uint  // and the end
	b      uint64
	n      uint // bits in b, the next one lowest

	w    *window
	emit func(*window) *window // takes a window and gives another; nil when nobody reads on

	crc  uint32 // of the member, up to w.summed
	size uint32

	lit     litTable
	dist    distTable
	lengths lengthTable
	in      [inputSize + 8]byte
}

const (
	inputSize = 64 << 10

	// history is how far back a match may reach.
	history = 32 << 10

	// A window is handed out when a turn of the fast loop might not fit any
	// more: 3 literals, 258 bytes of match, and 16 that are written in vain. Its
	// size is a power of two and slack lies behind it so that the compiler can see
	// that indices are in bounds. Copying the history into the next one costs
	// 0.5 % of the time.
	windowSize = 256 << 10
	windowFull = windowSize - 3 - 258 - 16
	slack      = 16
)

// window is a piece of output. What buf holds before start is the history, and
// none from before low belongs to the member being decoded.
type window struct {
	start, end  uint
	low, summed uint
	buf         [windowSize + slack]byte
}

func (w *window) output() []byte { return w.buf[w.start:w.end] }

// begin gives d its first window.
func (d *inflater) begin(w *window) {
	w.start, w.end, w.low, w.summed = history, history, history, history
	d.w = w
}

// flush hands the window out and goes on in another.
func (d *inflater) flush() error {
	d.sum()
	old := d.w
	end := old.end
	low := max(old.low, end-history)
	w := d.emit(old)
	if w == nil {
		return errReaderClosed
	}
	// old may be at its reader's now, or be w; nobody else writes to it.
	w.low = history - (end - low)
	copy(w.buf[w.low:history], old.buf[low:end])
	w.start, w.end, w.summed = history, history, history
	d.w = w
	return nil
}

// blocks decodes a deflate stream and leaves d at the byte behind it.
func (d *inflater) blocks() error {
	for {
		head, err := d.bits(3)
		if err != nil {
			return err
		}
		switch head >> 1 {
		case 0:
			err = d.stored()
		case 1:
			d.lit, d.dist = fixed().lit, fixed().dist
			err = d.block()
		case 2:
			if err = d.codes(); err == nil {
				err = d.block()
			}
		default:
			err = d.corrupt("block of a type that does not exist")
		}
		if err != nil {
			return err
		}
		if head&1 != 0 {
			d.align()
			return nil
		}
	}
}

// block decodes symbols up to the end of the block.
func (d *inflater) block() error {
	for {
		if d.w.end >= windowFull {
			if err := d.flush(); err != nil {
				return err
			}
		}
		loop := d.careful
		if d.fill(fastInput) {
			loop = d.fast
		}
		switch loop() {
		case loopEnd:
			return nil
		case loopCut:
			return d.cut()
		case loopBadCode:
			return d.corrupt("code that stands for nothing")
		case loopBadDist:
			return d.corrupt("match from before the start")
		}
	}
}

// stored copies a block that is not compressed.
func (d *inflater) stored() error {
	d.align()
	if !d.fill(4) {
		return d.cut()
	}
	n := uint(binary.LittleEndian.Uint16(d.in[d.ip:]))
	if n != uint(^binary.LittleEndian.Uint16(d.in[d.ip+2:])) {
		return d.corrupt("stored block whose length is damaged")
	}
	d.ip += 4
	for n > 0 {
		if d.w.end >= windowFull {
			if err := d.flush(); err != nil {
				return err
			}
		}
		if !d.fill(1) {
			return d.cut()
		}
		k := uint(copy(d.w.buf[d.w.end:windowFull], d.in[d.ip:min(d.end, d.ip+n)]))
		d.w.end += k
		d.ip += k
		n -= k
	}
	return nil
}

// codes reads the codes of a block that brings its own (section 3.2.7).
func (d *inflater) codes() error {
	head, err := d.bits(14)
	if err != nil {
		return err
	}
	nlit, ndist := head&31+257, head>>5&31+1
	if nlit > maxLit || ndist > maxDist {
		return d.corrupt("too many codes")
	}
	var first [lengthCodes]uint8
	order := [lengthCodes]uint8{16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15}
	for _, i := range order[:head>>10+4] {
		n, err := d.bits(3)
		if err != nil {
			return err
		}
		first[i] = uint8(n)
	}
	of := alphabets()
	if !build(d.lengths[:], lengthBits, first[:], of.length[:]) {
		return d.corrupt("code lengths that make no code")
	}
	var lengths [maxLit + maxDist]uint8
	if err := d.codeLengths(lengths[:nlit+ndist]); err != nil {
		return err
	}
	if !build(d.lit[:], litBits, lengths[:nlit], of.lit[:]) ||
		!build(d.dist[:], distBits, lengths[nlit:nlit+ndist], of.dist[:]) {
		return d.corrupt("code lengths that make no code")
	}
	return nil
}

// codeLengths reads the lengths of both codes, which run into each other.
func (d *inflater) codeLengths(lengths []uint8) error {
	for i := 0; i < len(lengths); {
		d.more(lengthBits)
		e, sym, ok := d.take(d.lengths[:], lengthBits)
		switch {
		case !ok:
			return d.cut()
		case e&entryBad != 0:
			return d.corrupt("code that stands for nothing")
		case sym < 16:
			lengths[i] = uint8(sym)
			i++
			continue
		}
		var extra, times uint
		var what uint8
		switch sym {
		case 16:
			if i == 0 {
				return d.corrupt("repetition of nothing")
			}
			what, times, extra = lengths[i-1], 3, 2
		case 17:
			times, extra = 3, 3
		case 18:
			times, extra = 11, 7
		}
		more, err := d.bits(extra)
		if err != nil {
			return err
		}
		times += more
		if times > uint(len(lengths)-i) {
			return d.corrupt("more code lengths than codes")
		}
		for range times {
			lengths[i] = what
			i++
		}
	}
	return nil
}
