package codec

import "encoding/binary"

// zstdFormat is a zstd blob: one independent frame after the other, then a
// skippable frame with the record, then the seek table.
type zstdFormat struct {
	level  int
	record []byte
}

// recordMagic is the skippable frame that holds the record. The seek table
// has 5E; 50 is what pzstd and zstd:chunked use.
const recordMagic = 0x184D2A5C

func (z zstdFormat) head() []byte { return nil }

func (z zstdFormat) encode(w *worker, dst []byte, f *frame) ([]byte, error) {
	return w.zstdFrame(dst, f.in, z.level)
}

// tail ends the record with its own length, so that it is found from behind:
// the seek table lists data frames only.
func (z zstdFormat) tail(s *summary) []byte {
	b := make([]byte, 0, 8+len(z.record)+1+8+8*len(s.spans)+seekFootSize)
	b = binary.LittleEndian.AppendUint32(b, recordMagic)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(z.record)+1))
	b = append(b, z.record...)
	b = append(b, byte(len(z.record)))
	return appendSeekTable(b, s.spans)
}

// rawFormat is the tar as it is.
type rawFormat struct{}

func (rawFormat) head() []byte                                         { return nil }
func (rawFormat) encode(_ *worker, _ []byte, f *frame) ([]byte, error) { return f.in, nil }
func (rawFormat) tail(*summary) []byte                                 { return nil }
