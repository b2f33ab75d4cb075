package codec

import (
	"math/bits"
	"sync"
)

// Decoding tables for deflate's prefix codes (RFC 1951, section 3.2).
//
// A table is looked up with the next litBits or distBits bits of the stream,
// the first of them lowest. Codes that are longer go on in a subtable behind
// the main one. An entry says all that its code stands for:
//
//	bits 0–4    bits to take from the stream: the code, or its rest in a subtable, and extra bits
//	bits 8–11   of these, the bits before the extra ones; links: of a lookup in the subtable
//	bits 12–14  what is odd about it, see below
//	bits 16–30  literals: the byte; lengths and distances: the base; links: where the subtable starts
//	bit 31      it is a literal, which is then the sign of an int32
//
// Bit 5 is never set: shifting by entry&63, which is what processors make of
// any shift, is shifting by bits 0–4.
//
// Entries of two literals were tried: in layers a literal takes about 8 bits, so
// that few pairs fit, and finding them took 6 % of the time of decoding a
// root file system of Debian.
type entry = uint32

const (
	entryLiteral entry = 1 << 31
	entryLink    entry = 1 << 14 // the code is longer than the lookup
	entryEnd     entry = 1 << 13 // of the block
	entryBad     entry = 1 << 12 // no such code, or one that stands for nothing
	entryOdd           = entryLink | entryEnd | entryBad

	litBits  = 11
	distBits = 8

	// A subtable of 2^k entries serves k+1 codes or more, and k is at most
	// 15-litBits and 15-distBits: 286 codes need less than 286*16/5 entries
	// in subtables, 30 need less than 30*128/8.
	litSize  = 1<<litBits + 286*16/5
	distSize = 1<<distBits + 30*128/8

	maxLit  = 286 // symbols for literals and lengths, RFC 1951, section 3.2.7
	maxDist = 30  // symbols for distances
	maxCode = 15  // bits of a code

	lengthCodes = 19 // symbols of the code that the other codes' lengths are in
	lengthBits  = 7  // bits of such a code, and of its table's lookup
)

type (
	litTable    [litSize]entry
	distTable   [distSize]entry
	lengthTable [1 << lengthBits]entry
)

// symbols are an alphabet's entries, but for the bits that its codes take.
type symbols struct {
	lit    [288]entry
	dist   [32]entry
	length [lengthCodes]entry
}

// alphabets are the symbols of RFC 1951, section 3.2.5. Of the last two of
// each alphabet only the fixed codes have codes.
var alphabets = sync.OnceValue(func() *symbols {
	s := &symbols{}
	for i := range 256 {
		s.lit[i] = entryLiteral | entry(i)<<16
	}
	s.lit[256] = entryEnd
	base := entry(3)
	for i := 257; i < 285; i++ {
		extra := entry(max(0, (i-261)/4))
		s.lit[i] = base<<16 | extra
		base += 1 << extra
	}
	s.lit[285] = 258 << 16
	base = 1
	for i := range maxDist {
		extra := entry(max(0, i/2-1))
		s.dist[i] = base<<16 | extra
		base += 1 << extra
	}
	for i := range s.length {
		s.length[i] = entry(i) << 16
	}
	for _, odd := range []*entry{&s.lit[286], &s.lit[287], &s.dist[30], &s.dist[31]} {
		*odd = entryBad
	}
	return s
})

// fixed are the tables of a block with fixed codes (section 3.2.6).
var fixed = sync.OnceValue(func() *struct {
	lit  litTable
	dist distTable
} {
	t := new(struct {
		lit  litTable
		dist distTable
	})
	var lengths [288]uint8
	for i := range lengths {
		switch {
		case i < 144, i >= 280:
			lengths[i] = 8
		case i < 256:
			lengths[i] = 9
		default:
			lengths[i] = 7
		}
	}
	build(t.lit[:], litBits, lengths[:], alphabets().lit[:])
	for i := range 32 {
		lengths[i] = 5
	}
	build(t.dist[:], distBits, lengths[:32], alphabets().dist[:])
	return t
})

// build makes a table of 2^root entries, and its subtables, for the canonical
// code with these lengths. It is false where they are not those of a complete
// code. Two exceptions are what zlib and compress/flate make them: a code
// without symbols, and one symbol of one bit, are codes in which the rest
// stands for nothing.
func build(t []entry, root uint, lengths []uint8, of []entry) bool {
	var count, first [maxCode + 2]int // first: where a length's symbols begin in sorted
	for _, n := range lengths {
		count[n]++
	}
	count[0] = 0
	space := 1
	longest := uint(0)
	for n := uint(1); n <= maxCode; n++ {
		space = space<<1 - count[n]
		if space < 0 {
			return false
		}
		first[n+1] = first[n] + count[n]
		if count[n] > 0 {
			longest = n
		}
	}
	if space > 0 {
		if longest > 1 {
			return false
		}
		for i := range t[:1<<root] {
			t[i] = entryBad | entry(longest)
		}
	}
	var sorted [288]uint16
	next := first
	for s, n := range lengths {
		if n > 0 {
			sorted[next[n]] = uint16(s)
			next[n]++
		}
	}
	code := short(t, root, sorted[:first[root+1]], count[:], of)
	if longest > root {
		long(t, root, code, sorted[first[root+1]:first[maxCode+1]], count[:], of)
	}
	return true
}

// short enters the codes of up to root bits and returns the code after them.
// The table doubles with every bit: what was entered before holds for both
// values of the new one.
func short(t []entry, root uint, sorted []uint16, count []int, of []entry) (code uint) {
	for n := uint(1); n <= root; n++ {
		half := 1 << (n - 1)
		copy(t[half:2*half], t[:half])
		code <<= 1
		for _, s := range sorted[:count[n]] {
			t[reverse(code, n)] = of[s] + entry(n)*(1<<8+1)
			code++
		}
		sorted = sorted[count[n]:]
	}
	return code
}

// long enters the codes of more than root bits.
func long(t []entry, root, code uint, sorted []uint16, count []int, of []entry) {
	var sub []entry // of the codes that begin with prefix
	prefix, free := ^uint(0), uint(1)<<root
	n := root
	left := 0 // of n bits, to be entered
	for _, s := range sorted {
		for left == 0 {
			n++
			left = count[n]
			code <<= 1
		}
		c := reverse(code, n)
		rest := n - root
		if p := c & (1<<root - 1); p != prefix {
			// As many bits as the codes from here on fill.
			prefix = p
			k := rest
			for room := 1<<k - left; room > 0; {
				k++
				room = room<<1 - count[root+k]
			}
			t[p] = entryLink | entry(free)<<16 | entry(k)<<8
			sub = t[free : free+1<<k]
			free += 1 << k
		}
		for i := c >> root; i < uint(len(sub)); i += 1 << rest {
			sub[i] = of[s] + entry(rest)*(1<<8+1)
		}
		code++
		left--
	}
}

func reverse(code, n uint) uint { return uint(bits.Reverse16(uint16(code))) >> (16 - n) }
