package tune

import (
	"slices"
)

// pieceSize is what a layer is cut into: a zstd blob's frames, so that a piece
// compresses to exactly what it is in the layer's own blob.
const pieceSize = 8 << 20

// Sample is a part of all layers that stands for all of them.
type Sample struct {
	Parts   []Part
	Bytes   int64 // of all pieces
	Tar     int64 // bytes of all layers
	Entries int64 // in all layers
}

// Part is what a sample has of one layer.
type Part struct {
	Name    string // digest of the blob, or the path of a directory
	Blob    int64  // bytes of the blob as it is now; 0 for a directory
	Tar     int64  // bytes of the whole tar
	Entries int64  // in the whole tar
	Pieces  [][]byte
}

// Sampled is the bytes of all pieces.
func (p Part) Sampled() int64 {
	var n int64
	for _, b := range p.Pieces {
		n += int64(len(b))
	}
	return n
}

// sampler picks pieces of what is written to it, in one pass and without
// knowing how much will come: sizes of tars are written nowhere that could be
// trusted.
//
// All pieces of all layers are numbered, and number i has the rank i·2⁶⁴/φ
// modulo 2⁶⁴. Those with the lowest ranks that fit into the limit are kept.
// Ranks below any bound are spread over the numbers as evenly as can be (there
// are at most three different distances between neighbours, by the three-gap
// theorem), so that every stretch of the image, and with it every layer, has
// its share; and the same image always has the same sample.
type sampler struct {
	limit int64 // bytes to keep; 0 is all
	piece int64 // bytes of a piece
	kept  []kept
	bytes int64
	bound uint64 // ranks from here on were given up

	parts []Part
	next  uint64 // number of the piece to come
	n     int64  // bytes of the piece that is coming
	cur   []byte // what is kept of it; nil where it is not
	rank  uint64
	free  [][]byte
}

// kept is a piece in memory.
type kept struct {
	part int
	rank uint64
	data []byte
}

// perPhi is 2⁶⁴/φ, odd.
const perPhi = 0x9E3779B97F4A7C15

func newSampler(limit int64) *sampler {
	s := &sampler{limit: limit, piece: pieceSize, bound: ^uint64(0)}
	if limit > 0 {
		s.piece = max(1, min(s.piece, limit/4)) // or one piece would be all there is
	}
	return s
}

// begin starts a layer.
func (s *sampler) begin(p Part) { s.parts = append(s.parts, p) }

// end ends it.
func (s *sampler) end(entries int64) {
	s.cut()
	s.parts[len(s.parts)-1].Entries = entries
}

// Write adds to the layer.
func (s *sampler) Write(b []byte) (int, error) {
	for rest := b; len(rest) > 0; {
		if s.n == 0 {
			s.rank = s.next * perPhi
			s.next++
			if s.rank < s.bound {
				s.cur = s.buffer()
			}
		}
		k := min(int64(len(rest)), s.piece-s.n)
		if s.cur != nil {
			s.cur = append(s.cur, rest[:k]...)
		}
		rest = rest[k:]
		if s.n += k; s.n == s.piece {
			s.cut()
		}
	}
	return len(b), nil
}

// cut ends a piece.
func (s *sampler) cut() {
	part := len(s.parts) - 1
	s.parts[part].Tar += s.n
	s.n = 0
	if s.cur == nil {
		return
	}
	b := s.cur
	if len(b) < cap(b)/2 { // the short end of a small layer
		b = slices.Clone(b)
		s.free = append(s.free, s.cur)
	}
	s.cur = nil
	s.kept = append(s.kept, kept{part, s.rank, b})
	s.bytes += int64(len(b))
	for s.limit > 0 && s.bytes > s.limit {
		s.giveUp()
	}
}

// giveUp lets go of the piece with the highest rank.
func (s *sampler) giveUp() {
	worst := 0
	for i, k := range s.kept {
		if k.rank > s.kept[worst].rank {
			worst = i
		}
	}
	k := s.kept[worst]
	s.bound = k.rank
	s.bytes -= int64(len(k.data))
	if int64(cap(k.data)) >= s.piece {
		s.free = append(s.free, k.data)
	}
	s.kept = slices.Delete(s.kept, worst, worst+1)
}

func (s *sampler) buffer() []byte {
	if n := len(s.free); n > 0 {
		b := s.free[n-1]
		s.free = s.free[:n-1]
		return b[:0]
	}
	return make([]byte, 0, s.piece)
}

// sample is what was picked, in the order of the layers.
func (s *sampler) sample() *Sample {
	out := &Sample{Parts: s.parts}
	for _, k := range s.kept {
		out.Parts[k.part].Pieces = append(out.Parts[k.part].Pieces, k.data)
		out.Bytes += int64(len(k.data))
	}
	for _, p := range out.Parts {
		out.Tar += p.Tar
		out.Entries += p.Entries
	}
	return out
}
