package codec

import (
	"crypto/sha256"
	"encoding/binary"
)

// zstdFormat is a zstd blob: one independent frame after the other, then a
// skippable frame with the record, then the seek table.
type zstdFormat struct {
	level  int
	record []byte // nil for a bare blob
}

// recordMagic is the skippable frame that holds the record. The seek table
// has 5E; 50 is what pzstd and zstd:chunked use.
const recordMagic = 0x184D2A5C

func (z zstdFormat) head() []byte { return nil }

// encode makes one frame of each piece. What an encoder is given as room is
// what is left of dst; where that is less than the worst case of a piece, it
// takes memory of its own, as does append when noise has used dst up.
func (z zstdFormat) encode(w *worker, dst []byte, f *frame) ([]byte, error) {
	dst = dst[:0]
	from := 0
	for _, p := range f.pieces {
		in := f.in[from:p.end]
		from = p.end
		out, err := w.zstdFrame(dst[len(dst):], in, z.level)
		if err != nil {
			return nil, err
		}
		made := Frame{Packed: uint32(len(out)), Size: uint32(len(in))}
		if p.sum {
			sum := sha256.Sum256(in)
			made.Sum = &sum
		}
		f.made = append(f.made, made)
		if room := dst[len(dst):cap(dst)]; len(room) >= len(out) && &room[0] == &out[0] {
			dst = dst[:len(dst)+len(out)]
		} else {
			dst = append(dst, out...)
		}
	}
	return dst, nil
}

// tail ends the record with its own length, so that it is found from behind:
// the seek table lists data frames only.
func (z zstdFormat) tail(s *summary) []byte {
	if z.record == nil {
		return nil
	}
	b := make([]byte, 0, 8+len(z.record)+1+8+8*len(s.made)+seekFootSize)
	b = binary.LittleEndian.AppendUint32(b, recordMagic)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(z.record)+1))
	b = append(b, z.record...)
	b = append(b, byte(len(z.record)))
	spans := make([]span, len(s.made))
	for i, f := range s.made {
		spans[i] = span{f.Packed, f.Size}
	}
	return appendSeekTable(b, spans)
}

// rawFormat is the tar as it is.
type rawFormat struct{}

func (rawFormat) head() []byte                                         { return nil }
func (rawFormat) encode(_ *worker, _ []byte, f *frame) ([]byte, error) { return f.in, nil }
func (rawFormat) tail(*summary) []byte                                 { return nil }
