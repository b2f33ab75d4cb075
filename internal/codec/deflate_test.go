package codec

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"math/rand/v2"
)

// Deflate streams by hand, for what no encoder writes.

// bitWriter writes bits as deflate does, the lowest first.
type bitWriter struct {
	b []byte
	n uint // bits in the last byte
}

func (w *bitWriter) bits(v, n uint) *bitWriter {
	for ; n > 0; v, n = v>>1, n-1 {
		if w.n%8 == 0 {
			w.b = append(w.b, 0)
		}
		w.b[len(w.b)-1] |= byte(v&1) << (w.n % 8)
		w.n++
	}
	return w
}

func (w *bitWriter) align() *bitWriter { w.n = 0; return w }

func (w *bitWriter) bytes(b ...byte) *bitWriter {
	w.align()
	w.b = append(w.b, b...)
	return w
}

// stored writes a block that is not compressed.
func (w *bitWriter) stored(final uint, b []byte) *bitWriter {
	n := uint16(len(b))
	return w.bits(final, 3).bytes(byte(n), byte(n>>8), ^byte(n), ^byte(n>>8)).bytes(b...)
}

// code is a canonical code: what stands for each symbol.
type code struct {
	lengths []uint
	codes   []uint
}

func canonical(lengths []uint) code {
	c := code{lengths, make([]uint, len(lengths))}
	next := uint(0)
	for n := uint(1); n <= maxCode; n++ {
		next <<= 1
		for s, l := range lengths {
			if l == n {
				c.codes[s] = next
				next++
			}
		}
	}
	return c
}

// symbol writes a symbol's code, its first bit first.
func (w *bitWriter) symbol(c code, s uint) *bitWriter {
	for i := c.lengths[s]; i > 0; i-- {
		w.bits(c.codes[s]>>(i-1), 1)
	}
	return w
}

// lengthOrder is how the lengths of the code length code are ordered.
var lengthOrder = [...]uint{16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15}

// plain is a code length code in which 16 to 18 have codes, too, of 5 bits.
func plain() []uint {
	l := make([]uint, lengthCodes)
	for i := range l {
		l[i] = 4
		if i >= 13 {
			l[i] = 5
		}
	}
	return l
}

// dynamic writes a block's head and its codes, one length after the other.
func (w *bitWriter) dynamic(final uint, lit, dist []uint) (l, d code) {
	w.codes(final, uint(len(lit)-257), uint(len(dist)-1), plain())
	first := canonical(plain())
	for _, n := range append(append([]uint(nil), lit...), dist...) {
		w.symbol(first, n)
	}
	return canonical(lit), canonical(dist)
}

// codes writes a block's head up to the code length code.
func (w *bitWriter) codes(final, hlit, hdist uint, first []uint) *bitWriter {
	w.bits(final|2<<1, 3).bits(hlit, 5).bits(hdist, 5).bits(lengthCodes-4, 4)
	for _, s := range lengthOrder {
		w.bits(first[s], 3)
	}
	return w
}

// match writes a match whose length and distance have no bits but their own.
func (w *bitWriter) match(lit, dist code, length, distance uint) *bitWriter {
	write := func(c code, of []entry, s, base, value uint) {
		w.symbol(c, s).bits(value-base, uint(of[s]&31))
	}
	base := func(of []entry, s int) uint { return uint(of[s] >> 16) }
	a := alphabets()
	s := 257
	for s < 285 && base(a.lit[:], s+1) <= length {
		s++
	}
	if s == 285 && length != 258 {
		s--
	}
	write(lit, a.lit[:], uint(s), base(a.lit[:], s), length)
	for s = 0; s < 29 && base(a.dist[:], s+1) <= distance; {
		s++
	}
	write(dist, a.dist[:], uint(s), base(a.dist[:], s), distance)
	return w
}

// member is a gzip member with this deflate stream, whose trailer says that it
// is what decoded is.
func member(stream, decoded []byte) []byte {
	b := append([]byte{0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff}, stream...)
	b = binary.LittleEndian.AppendUint32(b, crc32.ChecksumIEEE(decoded))
	return binary.LittleEndian.AppendUint32(b, uint32(len(decoded)))
}

// anyCode is a random complete code of n symbols, of which some have no code and
// `must` has one.
func anyCode(r *rand.Rand, n int, must int) []uint {
	lengths := make([]uint, n)
	leaves := []uint{1, 1}
	for want := 2 + r.IntN(n-1); len(leaves) < want; {
		i := r.IntN(len(leaves))
		if r.IntN(3) == 0 {
			i = len(leaves) - 1 // the deepest, to get to long codes
		}
		if leaves[i] == maxCode {
			if len(leaves) > n/2 {
				break
			}
			continue
		}
		leaves[i]++
		leaves = append(leaves, leaves[i])
	}
	perm := r.Perm(n)
	for i, l := range leaves {
		lengths[perm[i]] = l
	}
	if lengths[must] == 0 {
		lengths[must], lengths[perm[0]] = lengths[perm[0]], 0
	}
	return lengths
}

// anyStream is a random deflate stream of a few blocks of all kinds, with
// codes as odd as they may be, and what it decodes to.
func anyStream(r *rand.Rand, size int) (stream, decoded []byte) {
	w := &bitWriter{}
	var out []byte
	for blocks := 1 + r.IntN(4); blocks > 0; blocks-- {
		final := uint(0)
		if blocks == 1 {
			final = 1
		}
		end := len(out) + r.IntN(size)
		if r.IntN(4) == 0 {
			b := make([]byte, min(end-len(out), 0xffff))
			for i := range b {
				b[i] = byte(r.Uint32())
			}
			w.stored(final, b)
			out = append(out, b...)
			continue
		}
		lit, dist := fixedCodes()
		if r.IntN(4) == 0 {
			w.bits(final|1<<1, 3)
		} else {
			lit, dist = w.dynamic(final, anyCode(r, 257+r.IntN(30), 256), anyCode(r, 2+r.IntN(29), 0))
		}
		out = w.anySymbols(r, out, end, lit, dist)
		w.symbol(lit, 256)
	}
	return w.b, out
}

// anySymbols writes literals and matches that the codes have until out is at end.
func (w *bitWriter) anySymbols(r *rand.Rand, out []byte, end int, lit, dist code) []byte {
	a := alphabets()
	for tries := 0; len(out) < end && tries < 4*end; tries++ {
		s := uint(r.IntN(min(len(lit.lengths), maxLit)))
		if r.IntN(2) == 0 {
			s %= 256
		}
		d := uint(r.IntN(min(len(dist.lengths), maxDist)))
		if s == 256 || lit.lengths[s] == 0 {
			continue
		}
		if s < 256 {
			w.symbol(lit, s)
			out = append(out, byte(s))
			continue
		}
		dx := uint(r.IntN(1 << (a.dist[d] & 31)))
		from := len(out) - int(a.dist[d]>>16) - int(dx)
		if from < 0 || dist.lengths[d] == 0 {
			continue
		}
		lx := uint(r.IntN(1 << (a.lit[s] & 31)))
		w.symbol(lit, s).bits(lx, uint(a.lit[s]&31)).symbol(dist, d).bits(dx, uint(a.dist[d]&31))
		for i := range int(a.lit[s]>>16) + int(lx) {
			out = append(out, out[from+i])
		}
	}
	return out
}

// fixedCodes are those of section 3.2.6.
func fixedCodes() (lit, dist code) {
	l := bytes.Join([][]byte{bytes.Repeat([]byte{8}, 144), bytes.Repeat([]byte{9}, 112), bytes.Repeat([]byte{7}, 24), bytes.Repeat([]byte{8}, 8)}, nil)
	lengths := make([]uint, len(l))
	for i := range l {
		lengths[i] = uint(l[i])
	}
	return canonical(lengths), canonical(same(5, 32))
}

// same is n lengths of v.
func same(v uint, n int) []uint {
	b := make([]uint, n)
	for i := range b {
		b[i] = v
	}
	return b
}
