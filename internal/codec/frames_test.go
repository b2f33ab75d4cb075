package codec

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"
	"testing/iotest"
)

// What the table says is what the frames are.
func TestReadFrames(t *testing.T) {
	p := newPool(t, 2)
	for _, c := range []struct{ size, frame, frames int }{
		{0, 1 << 10, 0}, {1, 1 << 10, 1}, {1 << 10, 1 << 10, 1}, {1<<10 + 1, 1 << 10, 2}, {100_000, 1 << 10, 98}, {100_000, 0, 1},
	} {
		blob, _ := encode(t, p, corpus(50, c.size), Options{FrameSize: c.frame})
		f, err := ReadFrames(bytes.NewReader(blob), int64(len(blob)))
		if err != nil || f == nil {
			t.Fatalf("%+v: %v, %v", c, f, err)
		}
		if want := (Frames{c.frames, int64(c.size)}); c.size > 0 && *f != want {
			t.Errorf("%+v: %+v, want %+v", c, *f, want)
		}
	}
}

// Frames larger than any of our own, which are never decoded in parallel, are
// counted all the same.
func TestReadFramesOfOthers(t *testing.T) {
	frame := rle(64 << 20)
	blob := append(bytes.Clone(frame), frame...)
	for i := range 2 { // without checksums and with
		s := span{uint32(len(frame)), 64 << 20}
		table := appendSeekTable(nil, []span{s, s})
		if i == 1 {
			table = withChecksums(s, s)
		}
		b := append(bytes.Clone(blob), table...)
		f, err := ReadFrames(bytes.NewReader(b), int64(len(b)))
		if err != nil || f == nil || *f != (Frames{2, 128 << 20}) {
			t.Errorf("%+v, %v", f, err)
		}
	}
}

func withChecksums(spans ...span) []byte {
	le := binary.LittleEndian
	b := le.AppendUint32(nil, seekTableMagic)
	b = le.AppendUint32(b, uint32(12*len(spans)+seekFootSize))
	for _, s := range spans {
		b = le.AppendUint32(le.AppendUint32(le.AppendUint32(b, s.out), s.in), 0)
	}
	b = append(le.AppendUint32(b, uint32(len(spans))), 0x80)
	return le.AppendUint32(b, seekFootMagic)
}

// A table that does not account for the blob says nothing about it.
func TestReadFramesRefuses(t *testing.T) {
	p := newPool(t, 1)
	blob, _ := encode(t, p, corpus(51, 4000), Options{FrameSize: 1 << 10})
	gz, _ := encode(t, p, corpus(51, 4000), Options{Compression: Compression{Gzip, 6}})
	frame := rle(1 << 20)
	for what, b := range map[string][]byte{
		"nothing":         nil,
		"gzip":            gz,
		"no table":        frame,
		"cut short":       blob[:len(blob)-1],
		"twice":           append(bytes.Clone(blob), blob...),
		"a frame missing": append(append(bytes.Clone(frame), frame...), appendSeekTable(nil, []span{{uint32(len(frame)), 1 << 20}})...),
		"a frame of none": append(bytes.Clone(frame), appendSeekTable(nil, []span{{uint32(len(frame)), 1 << 20}, {0, 5}})...),
		"more than there": append(bytes.Clone(frame), appendSeekTable(nil, []span{{uint32(len(frame)) + 1, 1 << 20}})...),
	} {
		if f, err := ReadFrames(bytes.NewReader(b), int64(len(b))); f != nil || err != nil {
			t.Errorf("%s: %+v, %v", what, f, err)
		}
	}
	broken := errors.New("broken")
	if _, err := ReadFrames(&readerAt{iotest.ErrReader(broken)}, 1000); !errors.Is(err, broken) {
		t.Errorf("%v, want the reader's error", err)
	}
}

// readerAt reads r, wherever it is asked to.
type readerAt struct {
	r interface{ Read([]byte) (int, error) }
}

func (r *readerAt) ReadAt(p []byte, _ int64) (int, error) { return r.r.Read(p) }

// FuzzReadFrames: whoever believes the table and decodes in parallel sees as
// many bytes as it says.
func FuzzReadFrames(f *testing.F) {
	seeds(f)
	p := newPool(f, 1)
	f.Fuzz(func(t *testing.T, b []byte) {
		frames, err := ReadFrames(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			t.Fatal(err)
		}
		if frames == nil || frames.Count < 2 || frames.Size > fuzzLimit {
			return
		}
		out, err := readAll(p.NewParallelReader(bytes.NewReader(b), int64(len(b))))
		if err == nil && int64(len(out)) != frames.Size {
			t.Fatalf("%d bytes, the table says %+v", len(out), *frames)
		}
	})
}
