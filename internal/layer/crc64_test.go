package layer

import (
	"hash/crc64"
	"math/rand/v2"
	"testing"
)

// Any cut of any bytes has the sum that the standard library has.
func TestBulkCRC64(t *testing.T) {
	src := rand.NewChaCha8([32]byte{64})
	rng := rand.New(src)
	p := make([]byte, 4096)
	_, _ = src.Read(p)
	table := crc64.MakeTable(crc64.ISO)
	for range 20_000 {
		cut := p[rng.IntN(len(p)):]
		cut = cut[:rng.IntN(len(cut)+1)]
		half := rng.IntN(len(cut) + 1)
		got := crc64Update(crc64Update(0, cut[:half]), cut[half:])
		if want := crc64.Checksum(cut, table); got != want {
			t.Fatalf("%d+%d bytes: %x, not %x", half, len(cut)-half, got, want)
		}
	}
}

func BenchmarkCRC64(b *testing.B) {
	p := make([]byte, 128<<10)
	for name, update := range map[string]func(uint64, []byte) uint64{
		"ours":    crc64Update,
		"library": func(crc uint64, p []byte) uint64 { return crc64.Update(crc, crc64.MakeTable(crc64.ISO), p) },
	} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(p)))
			for range b.N {
				update(0, p)
			}
		})
	}
}
