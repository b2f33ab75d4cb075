package tune

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"testing"
)

// noise is n bytes that look like nothing before them.
func noise(n int, seed uint64) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)}).Read(b)
	return b
}

// sampled feeds layers to a sampler in writes of a size.
func sampled(limit int64, write int, layers ...[]byte) *Sample {
	s := newSampler(limit)
	for i, l := range layers {
		s.begin(Part{Name: fmt.Sprint(i)})
		for len(l) > 0 {
			n := min(write, len(l))
			s.Write(l[:n])
			l = l[n:]
		}
		s.end(1)
	}
	return s.sample()
}

func sum(s *Sample) string {
	h := sha256.New()
	for _, p := range s.Parts {
		fmt.Fprintf(h, "%s %d:", p.Name, p.Tar)
		for _, b := range p.Pieces {
			h.Write(b)
		}
	}
	return fmt.Sprintf("%x", h.Sum(nil))
}

func TestSampleIsDeterministic(t *testing.T) {
	layers := [][]byte{noise(3<<20+17, 1), noise(5000, 2), noise(2<<20, 3), nil}
	want := sampled(1<<20, 1<<20, layers...)
	for _, write := range []int{7919, 64 << 10, 512, 4 << 20} {
		if got := sampled(1<<20, write, layers...); sum(got) != sum(want) || got.Bytes != want.Bytes {
			t.Errorf("in writes of %d bytes another sample: %d bytes, not %d", write, got.Bytes, want.Bytes)
		}
	}
	other := sampled(1<<20, 1<<20, layers[2], layers[0])
	if sum(other) == sum(want) {
		t.Error("another image has the same sample")
	}
}

// TestSampleIsProportional: each layer has its share, give or take two pieces,
// wherever it lies and whatever the limit; and each quarter of a layer, too.
func TestSampleIsProportional(t *testing.T) {
	const piece = 64 << 10 // of a limit of 256 KiB times n
	for _, limit := range []int64{256 << 10, 1 << 20, 3 << 20} {
		sizes := []int{1 << 20, 9 << 20, 40 << 10, 2<<20 + 5, 20 << 20}
		var layers [][]byte
		var total int64
		for i, n := range sizes {
			layers = append(layers, noise(n, uint64(i)))
			total += int64(n)
		}
		s := newSampler(limit)
		s.piece = piece
		for i, l := range layers {
			s.begin(Part{Name: fmt.Sprint(i)})
			s.Write(l)
			s.end(1)
		}
		got := s.sample()
		if got.Bytes > limit || got.Bytes < limit-2*piece || got.Tar != total {
			t.Errorf("limit %d: %d bytes of %d kept of %d", limit, got.Bytes, got.Tar, total)
		}
		for i, p := range got.Parts {
			share := float64(limit) * float64(sizes[i]) / float64(total)
			if d := float64(p.Sampled()) - share; d > 2*piece || d < -2*piece {
				t.Errorf("limit %d: layer %d has %d bytes, its share is %.0f", limit, i, p.Sampled(), share)
			}
		}
		big, quarters := got.Parts[4], [4]int{}
		for _, b := range big.Pieces {
			quarters[4*bytes.Index(layers[4], b[:32])/len(layers[4])]++
		}
		for q, n := range quarters {
			if d := n*4 - len(big.Pieces); d > 8 || d < -8 {
				t.Errorf("limit %d: quarter %d of the big layer has %d of %d pieces", limit, q, n, len(big.Pieces))
			}
		}
	}
}

func TestSampleOfLittleIsAll(t *testing.T) {
	layers := [][]byte{noise(100, 1), noise(70<<10, 2)}
	for _, limit := range []int64{0, 1 << 20} {
		got := sampled(limit, 4096, layers...)
		for i, p := range got.Parts {
			if !bytes.Equal(bytes.Join(p.Pieces, nil), layers[i]) {
				t.Errorf("limit %d: layer %d is not whole", limit, i)
			}
		}
	}
}

// TestSampleHoldsNoMoreThanAsked: what is kept never passes the limit by more
// than the piece that has just come, and small layers hold no large buffers.
func TestSampleHoldsNoMoreThanAsked(t *testing.T) {
	s := newSampler(1 << 20)
	for i := range 400 {
		s.begin(Part{})
		s.Write(noise(200<<10*(i%2)+1000, uint64(i)))
		s.end(1)
		var held int64
		for _, k := range s.kept {
			held += int64(cap(k.data))
		}
		for _, b := range s.free {
			held += int64(cap(b))
		}
		if held > 1<<20+3*s.piece {
			t.Fatalf("after %d layers %d bytes are held", i+1, held)
		}
	}
}

// TestSampleIsTheLowestRanks: short pieces, which leave room where a long one
// was given up, must not let in what ranks behind it.
func TestSampleIsTheLowestRanks(t *testing.T) {
	s := newSampler(1 << 20)
	var ranks []uint64
	for i := range 200 {
		s.begin(Part{})
		size := 100 + 7000*(i%37)
		if i > 150 {
			size = 1 // fits into any room that was left
		}
		s.Write(noise(size, uint64(i)))
		s.end(1)
		for range (int64(size) + s.piece - 1) / s.piece {
			ranks = append(ranks, uint64(len(ranks))*perPhi)
		}
	}
	in := map[uint64]bool{}
	var highest uint64
	for _, k := range s.kept {
		in[k.rank] = true
		highest = max(highest, k.rank)
	}
	for i, r := range ranks {
		if r < highest && !in[r] {
			t.Errorf("piece %d of rank %x was given up, and one of rank %x kept", i, r, highest)
		}
	}
}
