package codec

import (
	"encoding/binary"
	"fmt"
	"io"
)

// Frames is what a zstd blob's seek table says about it. It is a claim by
// whoever made the blob, like the record: good for showing, not for sizing a
// buffer.
type Frames struct {
	Count int   // of frames with data
	Size  int64 // bytes that all of them decode to
}

// ReadFrames reads the seek table at the end of a blob of size bytes: at most
// a MiB of it, and 8 bytes a frame in practice. It is nil, without an error,
// for a blob that has none, or one that does not account for all of the blob.
// The error is r's.
func ReadFrames(r io.ReaderAt, size int64) (*Frames, error) {
	spans, err := readSpans(r, size)
	if spans == nil || err != nil {
		return nil, err
	}
	f := &Frames{Count: len(spans)}
	for _, s := range spans {
		f.Size += int64(s.in)
	}
	return f, nil
}

// readSpans returns the frames that the seek table lists, whatever their size;
// nil where there is no table, or one that is not about the whole blob.
func readSpans(r io.ReaderAt, size int64) ([]span, error) {
	foot, err := readSeekFoot(r, size)
	if foot == nil || err != nil || foot.frames*foot.entry > maxTable {
		return nil, err
	}
	b := make([]byte, foot.frames*foot.entry)
	if err := readFullAt(r, b, foot.start+8); err != nil {
		return nil, fmt.Errorf("read seek table: %w", err)
	}
	le := binary.LittleEndian
	spans := make([]span, foot.frames)
	end := int64(0)
	for i := range spans {
		e := b[int64(i)*foot.entry:]
		s := span{out: le.Uint32(e), in: le.Uint32(e[4:])}
		if s.out == 0 {
			return nil, nil
		}
		spans[i] = s
		end += int64(s.out)
	}
	if ok, err := onlySkippable(r, end, foot.start); !ok {
		return nil, err
	}
	return spans, nil
}
