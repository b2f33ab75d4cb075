package codec

import "encoding/binary"

// Decoding the symbols of one block: a fast loop with room to spare on all
// sides, and a careful one for the end of the input.

// verdict is why a loop ended.
type verdict int

const (
	loopLow     verdict = iota // input or room ran low
	loopEnd                    // the block is over
	loopCut                    // the input ends inside a symbol
	loopBadCode                // a code that stands for nothing
	loopBadDist                // a match from before the member's start
)

// fastInput is how many bytes of input one turn of the fast loop may look at:
// two refills, the second up to 8 bytes further on.
const fastInput = 16

// fast decodes until the block ends, the window is full or less than fastInput
// bytes of input are left. A turn takes up to three literals and then a match.
// That is up to 81 bits, so that the distance, of up to 28, may need a refill of
// its own. The next turn's first entry is looked up before the match is
// copied, which is worth 4 %.
//
// It is one long function because everything it works on stays in registers;
// the masks on indices change nothing and spare the bounds checks. Bits of b
// above n are the stream's own, which refill has taken along, or zero.
func (d *inflater) fast() verdict {
	w := d.w
	out := &w.buf
	o, low := w.end, w.low
	b, n, ip := d.b, d.n, d.ip
	limit := min(d.end-fastInput, inputSize-fastInput)
	v := loopLow
	if ip <= limit {
		b, n, ip = d.refill(b, n, ip)
	}
	e := d.lit[b&(1<<litBits-1)]
	for ip <= limit && o < windowFull {
		if int32(e) < 0 {
			out[o] = byte(e >> 16)
			o++
			b >>= e & 63
			n -= uint(e & 63)
			e = d.lit[b&(1<<litBits-1)]
			if int32(e) < 0 {
				out[o] = byte(e >> 16)
				o++
				b >>= e & 63
				n -= uint(e & 63)
				e = d.lit[b&(1<<litBits-1)]
				if int32(e) < 0 {
					out[o] = byte(e >> 16)
					o++
					b >>= e & 63
					n -= uint(e & 63)
					b, n, ip = d.refill(b, n, ip)
					e = d.lit[b&(1<<litBits-1)]
					continue
				}
			}
		}
		if e&entryOdd != 0 {
			if e&entryLink != 0 {
				b >>= litBits
				n -= litBits
				e = d.lit[uint64(e>>16)+b&(1<<(e>>8&15)-1)]
				if int32(e) < 0 {
					out[o] = byte(e >> 16)
					o++
					b >>= e & 63
					n -= uint(e & 63)
					b, n, ip = d.refill(b, n, ip)
					e = d.lit[b&(1<<litBits-1)]
					continue
				}
			}
			if e&entryEnd != 0 {
				b >>= e & 63
				n -= uint(e & 63)
				v = loopEnd
				break
			}
			if e&entryBad != 0 {
				v = loopBadCode
				break
			}
		}
		length := uint(e>>16) + uint(b&(1<<(e&63)-1)>>(e>>8&15))
		b >>= e & 63
		n -= uint(e & 63)

		if n < 28 {
			b, n, ip = d.refill(b, n, ip)
		}
		e = d.dist[b&(1<<distBits-1)]
		if e&entryOdd != 0 {
			if e&entryLink != 0 {
				b >>= distBits
				n -= distBits
				e = d.dist[uint64(e>>16)+b&(1<<(e>>8&15)-1)]
			}
			if e&entryBad != 0 {
				v = loopBadCode
				break
			}
		}
		dist := uint(e>>16) + uint(b&(1<<(e&63)-1)>>(e>>8&15))
		b >>= e & 63
		n -= uint(e & 63)
		if dist > o-low {
			v = loopBadDist
			break
		}

		b, n, ip = d.refill(b, n, ip)
		e = d.lit[b&(1<<litBits-1)]
		from, to := (o-dist)&(windowSize-1), o&(windowSize-1)
		o += length
		if dist >= 16 {
			*(*[16]byte)(out[to:]) = *(*[16]byte)(out[from:])
			for length > 16 {
				to = (to + 16) & (windowSize - 1)
				from = (from + 16) & (windowSize - 1)
				length -= 16
				*(*[16]byte)(out[to:]) = *(*[16]byte)(out[from:])
			}
			continue
		}
		repeat(out, to, o, dist)
	}
	w.end = o
	d.b, d.n, d.ip = b&(1<<(n&63)-1), n, ip
	return v
}

// refill puts bytes on top of b's n bits, which are 56 or more then, and is
// inlined. What it reads beyond the bits that it counts is read again.
func (d *inflater) refill(b uint64, n, ip uint) (uint64, uint, uint) {
	b |= binary.LittleEndian.Uint64(d.in[ip&(inputSize-1):]) << (n & 63)
	return b, n | 56, ip + (63-n)>>3
}

// repeat fills out from to to end, and up to 16 bytes beyond, with the dist bytes before, dist
// being less than 16.
func repeat(out *[windowSize + slack]byte, to, end, dist uint) {
	from := to - dist
	if dist >= 8 {
		for ; to < end; to, from = to+8, from+8 {
			*(*[8]byte)(out[to:]) = *(*[8]byte)(out[from:])
		}
		return
	}
	// As many whole repetitions as go into a word.
	v := binary.LittleEndian.Uint64(out[from:]) & (1<<(dist*8) - 1)
	step := dist
	for step < 8 {
		v |= v << (step * 8 & 63)
		step *= 2
	}
	step = 8 / dist * dist
	for ; to < end; to += step {
		binary.LittleEndian.PutUint64(out[to:], v)
	}
}

// careful is fast for when the input ends: it looks at no bit that is not
// there.
func (d *inflater) careful() verdict {
	w := d.w
	for w.end < windowFull {
		d.top()
		e, length, ok := d.take(d.lit[:], litBits)
		switch {
		case !ok:
			return loopCut
		case e&entryBad != 0:
			return loopBadCode
		case e&entryEnd != 0:
			return loopEnd
		case e&entryLiteral != 0:
			w.buf[w.end] = byte(e >> 16)
			w.end++
			continue
		}
		e, dist, ok := d.take(d.dist[:], distBits)
		switch {
		case !ok:
			return loopCut
		case e&entryBad != 0:
			return loopBadCode
		case dist > w.end-w.low:
			return loopBadDist
		}
		for range length {
			w.buf[w.end] = w.buf[w.end-dist]
			w.end++
		}
	}
	return loopLow
}

// take takes the next entry of a table from the bits that there are, and its
// value with the extra bits. It is false, and nothing taken, where they do not
// suffice.
func (d *inflater) take(t []entry, root uint) (e entry, value uint, ok bool) {
	b, used := d.b, uint(0)
	e = t[b&(1<<root-1)]
	if e&entryLink != 0 {
		b >>= root
		used = root
		e = t[uint64(e>>16)+b&(1<<(e>>8&15)-1)]
	}
	used += uint(e & 31)
	if used > d.n {
		return 0, 0, false
	}
	d.b >>= used
	d.n -= used
	return e, uint(e>>16) + uint(b&(1<<(e&63)-1)>>(e>>8&15)), true
}

// top fills the bit buffer with at least 57 bits, if the input has them.
func (d *inflater) top() {
	for d.n <= 56 && d.ip < d.end {
		d.b |= uint64(d.in[d.ip]) << d.n
		d.ip++
		d.n += 8
	}
}
