package codec

import (
	"bytes"
	"compress/flate"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/klauspost/compress/zstd"
)

// fuzzLimit bounds what one input may decode to.
const fuzzLimit = 4 << 20

// seeds are blobs of every kind, whole and bent.
func seeds(f *testing.F) {
	p := newPool(f, 1)
	for _, c := range []Compression{{Zstd, 1}, {Gzip, 1}, {Codec: Uncompressed}} {
		for _, n := range []int{0, 10, 5000} {
			b, _ := encode(f, p, corpus(40, n), Options{Compression: c, FrameSize: 1 << 10})
			f.Add(b)
			f.Add(b[:len(b)/2])
			f.Add(append(b, b...))
		}
	}
	e, err := zstd.NewWriter(nil)
	if err != nil {
		f.Fatal(err)
	}
	defer e.Close()
	f.Add(e.EncodeAll(corpus(41, 3000), nil))
	f.Add([]byte{0x28, 0xb5, 0x2f, 0xfd, 0, (27 - 10) << 3, 3, 0, 16, 0})
	f.Add(appendSeekTable(nil, nil))
}

// FuzzReaders holds the two readers against each other and against libzstd:
// what the seek table leads to must be what every other decoder sees.
func FuzzReaders(f *testing.F) {
	seeds(f)
	p := newPool(f, 2)
	limited := func(r io.ReadCloser, err error) ([]byte, error) {
		if err != nil {
			return nil, err
		}
		defer r.Close()
		return io.ReadAll(io.LimitReader(r, fuzzLimit))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		serial, serr := limited(p.NewReader(bytes.NewReader(b)))
		parallel, perr := limited(p.NewParallelReader(bytes.NewReader(b), int64(len(b))))
		if perr == nil && (serr != nil || !bytes.Equal(serial, parallel)) {
			t.Fatalf("parallel: %d bytes; serial: %d bytes, %v", len(parallel), len(serial), serr)
		}
		switch Sniff(b) {
		case Uncompressed:
			if serr != nil || !bytes.Equal(serial, b) {
				t.Fatalf("uncompressed: %d bytes of %d, %v", len(serial), len(b), serr)
			}
		case Zstd:
			if libzstdDecode == nil || serr != nil {
				return
			}
			if lib, err := libzstdDecode(b); err == nil && !bytes.Equal(lib, serial) {
				t.Fatalf("libzstd: %d bytes, lighter: %d", len(lib), len(serial))
			}
		}
	})
}

func FuzzReadRecord(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := ReadRecord(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			t.Fatal(err)
		}
		if r != nil && r.Codec != Sniff(b) {
			t.Fatalf("a %s record in a %s blob", r.Codec, Sniff(b))
		}
	})
}

func FuzzSniff(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		c := Sniff(b)
		if len(b) > 4 && c != Sniff(b[:4]) {
			t.Fatal("four bytes are not enough")
		}
		if c == Uncompressed {
			return
		}
		if _, err := zstd.NewReader(nil); err != nil {
			t.Fatal(err)
		}
		var h zstd.Header
		if err := h.Decode(b); (c == Zstd) != (err != zstd.ErrMagicMismatch) && len(b) > 4 {
			t.Fatalf("%s, but its header is: %v", c, err)
		}
	})
}

// FuzzInflate holds the inflater against the standard library's, with the
// input as a blob, and as a deflate stream in a blob that is right otherwise.
func FuzzInflate(f *testing.F) {
	blob, _ := tiny(f)
	f.Add(blob)
	f.Add(blob[10:])
	f.Add(new(bitWriter).stored(1, []byte("abc")).b)
	for seed := range uint64(20) {
		stream, decoded := anyStream(rand.New(rand.NewPCG(seed, 2)), 300)
		f.Add(stream)
		f.Add(member(stream, decoded))
	}
	seeds(f)
	p := newPool(f, 1)
	f.Fuzz(func(t *testing.T, b []byte) {
		sameVerdict(t, p, "blob", b)
		r := bytes.NewReader(b)
		decoded, err := io.ReadAll(io.LimitReader(flate.NewReader(r), fuzzLimit))
		if err == nil && len(decoded) < fuzzLimit {
			b = member(b[:len(b)-r.Len()], decoded)
		} else {
			b = member(b, nil)
		}
		if got := sameVerdict(t, p, "stream", b); (got == nil) != (err == nil) {
			t.Errorf("stream: %v; compress/flate: %v", got, err)
		}
	})
}
