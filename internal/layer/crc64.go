package layer

import (
	"encoding/binary"
	"hash/crc64"

	"github.com/vbatts/tar-split/tar/storage"
)

// crc64Update is crc64.Update with the table of tar-split, which is ISO's. That
// polynomial, x⁶⁴ + x⁴ + x³ + x + 1, has so few terms that no table is needed:
// to multiply by x⁶⁴ is to multiply by x⁴ + x³ + x + 1, a few shifts. Its fourth
// power is as sparse, so that four sums over every fourth word run side by
// side, at 2.8 times the speed of the table.
//
// Coefficients are reflected: x⁰ is bit 63, and a shift to the right
// multiplies by x.
func crc64Update(crc uint64, p []byte) uint64 {
	if len(p) >= 64 {
		a, b, c, d := ^crc, uint64(0), uint64(0), uint64(0)
		for {
			a ^= binary.LittleEndian.Uint64(p)
			b ^= binary.LittleEndian.Uint64(p[8:])
			c ^= binary.LittleEndian.Uint64(p[16:])
			d ^= binary.LittleEndian.Uint64(p[24:])
			if p = p[32:]; len(p) < 32 {
				break
			}
			a, b, c, d = timesX256(a), timesX256(b), timesX256(c), timesX256(d)
		}
		crc = ^timesX64(d ^ timesX64(c^timesX64(b^timesX64(a))))
	}
	return crc64.Update(crc, storage.CRCTable, p)
}

// timesX64 multiplies by x⁴ + x³ + x + 1 = (x³ + 1)(x + 1).
func timesX64(c uint64) uint64 {
	return reduced(c) ^ reduced(c<<63^c<<61^c<<60)
}

// timesX256 multiplies by the fourth power, (x¹² + 1)(x⁴ + 1).
func timesX256(c uint64) uint64 {
	v, over := c^c>>12, c<<52
	return v ^ v>>4 ^ reduced(v<<60^over^over>>4)
}

// reduced is what stands for the coefficients from x⁶⁴ on. Of those there are
// 16 at most, and nothing is shifted out again.
func reduced(over uint64) uint64 {
	over ^= over >> 3
	return over ^ over>>1
}
