package codec

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"pgregory.net/rapid"
)

// cutBlob makes a blob of in where frames of these sizes are begun; the last
// goes on to the end.
func cutBlob(t *rapid.T, p *Pool, in []byte, sizes []int, o Options) ([]byte, []Frame) {
	var out bytes.Buffer
	var frames []Frame
	o.Trailer = func(f []Frame) ([][]byte, error) {
		frames = slices.Clone(f)
		return [][]byte{[]byte("first"), nil, []byte("third")}, nil
	}
	w, err := p.NewWriter(&out, o)
	if err != nil {
		t.Fatal(err)
	}
	rest := in
	for i, n := range sizes {
		if err := w.BeginFrame(n, i%2 == 0); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(rest[:n]); err != nil {
			t.Fatal(err)
		}
		rest = rest[n:]
	}
	if err := w.BeginFrame(0, false); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(rest); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes(), frames
}

// Every frame begins where it was asked to and holds what was announced,
// decodes by itself, and none of that depends on the workers.
func TestBeginFrame(t *testing.T) {
	pools := []*Pool{newPool(t, 1), newPool(t, 3)}
	all := append(corpus(70, 400<<10), noise(200<<10)...)
	d, err := zstd.NewReader(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	rapid.Check(t, func(t *rapid.T) {
		frameSize := rapid.SampledFrom([]int{1 << 10, 60_000, 100_000, 0}).Draw(t, "frameSize")
		most := frameSize
		if most == 0 {
			most = 100_000
		}
		in := all[rapid.IntRange(0, 300<<10).Draw(t, "from"):]
		sizes := rapid.SliceOfN(rapid.OneOf(rapid.IntRange(0, 700), rapid.IntRange(0, most)), 0, 60).Draw(t, "sizes")
		sum := 0
		for i, n := range sizes {
			if sum+n > len(in) {
				sizes = sizes[:i]
				break
			}
			sum += n
		}
		in = in[:min(len(in), sum+rapid.IntRange(0, 3000).Draw(t, "rest"))]
		o := Options{FrameSize: frameSize, Layout: Chunked}
		blob, frames := cutBlob(t, pools[0], in, sizes, o)
		if other, _ := cutBlob(t, pools[1], in, sizes, o); !bytes.Equal(blob, other) {
			t.Fatal("other bytes with other workers")
		}

		begins := map[int]int{} // where an announced frame begins: its index in sizes
		at := 0
		for i, n := range sizes {
			if n > 0 {
				begins[at] = i
			}
			at += n
		}
		at, off := 0, 0
		for _, f := range frames {
			got, err := d.DecodeAll(blob[off:off+int(f.Packed)], nil)
			if err != nil || !bytes.Equal(got, in[at:at+int(f.Size)]) {
				t.Fatalf("frame at %d: %d bytes, %v", at, len(got), err)
			}
			if i, ok := begins[at]; ok {
				if int(f.Size) != sizes[i] || (f.Sum != nil) != (i%2 == 0) || f.Sum != nil && *f.Sum != sha256.Sum256(got) {
					t.Fatalf("frame at %d: %d bytes of %d, sum %v", at, f.Size, sizes[i], f.Sum)
				}
				delete(begins, at)
			}
			at += int(f.Size)
			off += int(f.Packed)
		}
		if at != len(in) || len(begins) > 0 {
			t.Fatalf("frames end at %d of %d, %d were not made", at, len(in), len(begins))
		}
		trailer := "\x50\x2a\x4d\x18\x05\x00\x00\x00first\x50\x2a\x4d\x18\x00\x00\x00\x00\x50\x2a\x4d\x18\x05\x00\x00\x00third"
		if !strings.HasPrefix(string(blob[off:]), trailer) {
			t.Fatalf("no trailer but %q", blob[off:min(len(blob), off+50)])
		}
		rec, err := ReadRecord(bytes.NewReader(blob), int64(len(blob)))
		if err != nil || rec == nil || rec.Layout != Chunked {
			t.Fatalf("%+v, %v", rec, err)
		}
		if got, err := readAll(pools[1].NewParallelReader(bytes.NewReader(blob), int64(len(blob)))); err != nil || !bytes.Equal(got, in) {
			t.Fatalf("in parallel: %d bytes of %d, %v", len(got), len(in), err)
		}
	})
}

// A bare blob is its frames and nothing else, whatever its size.
func TestBare(t *testing.T) {
	p := newPool(t, 2)
	in := corpus(71, 300_000)
	for _, n := range []int{0, 100, 300_000} {
		whole, res := encode(t, p, in[:n], Options{FrameSize: 100_000})
		bare, _ := encode(t, p, in[:n], Options{FrameSize: 100_000, Bare: true})
		if !bytes.HasPrefix(whole, bare) || len(whole) == len(bare) || !bytes.HasPrefix(whole[len(bare):], []byte{0x5c, 0x2a, 0x4d, 0x18}) {
			t.Errorf("%d bytes in %d frames: %d bytes bare, %d whole", n, res.Frames, len(bare), len(whole))
		}
	}
}

func TestTrailerFails(t *testing.T) {
	p := newPool(t, 2)
	for _, n := range []int{10, 300_000} {
		var out bytes.Buffer
		w, err := p.NewWriter(&out, Options{Trailer: func([]Frame) ([][]byte, error) { return nil, errDisk }})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(corpus(72, n)); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); !errors.Is(err, errDisk) {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
}

func TestFramesAreOfZstd(t *testing.T) {
	p := newPool(t, 1)
	for _, c := range []Compression{{Codec: Gzip}, {Codec: Uncompressed}} {
		for _, o := range []Options{{Bare: true}, {Layout: Chunked}, {Trailer: func([]Frame) ([][]byte, error) { return nil, nil }}} {
			o.Compression = c
			if _, err := p.NewWriter(io.Discard, o); err == nil {
				t.Errorf("%s takes %+v", c, o)
			}
		}
		w, err := p.NewWriter(io.Discard, Options{Compression: c})
		if err != nil {
			t.Fatal(err)
		}
		if err := w.BeginFrame(1, false); err == nil {
			t.Errorf("%s begins a frame", c)
		}
		w.Abort()
	}
	w, err := p.NewWriter(io.Discard, Options{FrameSize: 1 << 10})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.BeginFrame(1<<10+1, false); err == nil {
		t.Error("a frame larger than frames can be")
	}
	w.Abort()
	if err := w.BeginFrame(1, false); !errors.Is(err, errAborted) {
		t.Errorf("after Abort: %v", err)
	}
}

// A layout of a later version is a blob like any foreign one.
func TestUnknownLayout(t *testing.T) {
	p := newPool(t, 1)
	blob, _ := encode(t, p, corpus(73, 1000), Options{Layout: "spiral"})
	if rec, err := ReadRecord(bytes.NewReader(blob), int64(len(blob))); rec != nil || err != nil {
		t.Errorf("%+v, %v", rec, err)
	}
}
