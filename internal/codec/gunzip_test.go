package codec

import (
	"bytes"
	stdgzip "compress/gzip"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

// A blob cut anywhere is an error, but between two members.
func TestInflateCut(t *testing.T) {
	p := newPool(t, 1)
	blob, in := tiny(t)
	whole := 0
	for n := range len(blob) + 1 {
		got, err := inflate(p, bytes.NewReader(blob[:n]))
		if serr := sameVerdict(t, p, fmt.Sprint(n, " bytes"), blob[:n]); (serr == nil) != (err == nil) {
			t.Errorf("%d bytes: %v, then %v", n, err, serr)
		}
		if err == nil {
			whole++
		} else if !errors.Is(err, io.ErrUnexpectedEOF) || !bytes.HasPrefix(in, got) {
			t.Errorf("%d bytes: %d of output, %v", n, len(got), err)
		}
	}
	if whole != 2 {
		t.Errorf("%d lengths decode, want 2", whole)
	}
}

// Every bit of a blob is changed once, and every byte to a few values.
func TestBulkInflateDamage(t *testing.T) {
	p := newPool(t, 1)
	blob, _ := tiny(t)
	for i := range blob {
		for _, x := range []byte{1, 2, 4, 8, 16, 32, 64, 128, 0xff, blob[i], ^blob[i]} {
			b := bytes.Clone(blob)
			b[i] ^= x
			sameVerdict(t, p, fmt.Sprintf("byte %d ^ %#x", i, x), b)
		}
	}
	if err := sameVerdict(t, p, "checksum", append(blob[:len(blob)-8:len(blob)-8], 1, 2, 3, 4, 0, 0, 0, 0)); !errors.Is(err, errGzipCheck) {
		t.Error(err)
	}
}

// Headers with everything in them, and what may follow a member.
func TestInflateMembers(t *testing.T) {
	p := newPool(t, 1)
	body := member(new(bitWriter).stored(1, []byte("body")).b, []byte("body"))
	head := func(flags byte, rest string) []byte {
		h := append([]byte{0x1f, 0x8b, 8, flags, 1, 2, 3, 4, 5, 6}, rest...)
		return append(h, body[10:]...)
	}
	long := func(n int) string { return strings.Repeat("x", n) }
	for what, b := range map[string][]byte{
		"name": head(8, "name\x00"), "comment": head(16, "comment\x00"), "extra": head(4, "\x03\x00abc"), "text": head(1, ""),
		"all": head(4|8|16, "\x00\x00name\x00comment\x00"), "name of 511": head(8, long(511)+"\x00"), "name of 512": head(8, long(512)+"\x00"),
		"extra of 65535": head(4, "\xff\xff"+long(65535)), "two long extras": join(head(4, "\xff\xff"+long(65535)), head(4, "\xff\xff"+long(65535))),
		"header checksum": headerCRC(head(2|8, "n\x00"), 12), "wrong header checksum": head(2, "\x00\x00"),
		"reserved flag": head(32, ""), "no deflate": append([]byte{0x1f, 0x8b, 7}, body[3:]...),
		"header only": body[:10], "cut in the header checksum": head(2, "")[:11], "two": join(body, body), "two hundred": bytes.Repeat(body, 200),
		"zeros behind": join(body, make([]byte, 512)), "one zero behind": join(body, []byte{0}), "garbage behind": join(body, noise(100)),
		"half a header behind": join(body, body[:7]), "a name that is cut behind": join(body, head(8, "name")[:14]),
		"match into the member before": join(body, member(new(bitWriter).bits(3, 3).bits(0, 7).bits(0, 60).b, nil)),
	} {
		sameVerdict(t, p, what, b)
	}
	fl, fd := fixedCodes()
	back := member(new(bitWriter).bits(3, 3).match(fl, fd, 3, 4).symbol(fl, 256).b, []byte("bod"))
	if err := sameVerdict(t, p, "match into the member before", join(body, back)); err == nil {
		t.Error("a match reaches into the member before")
	}
	// The border between two members is in the history of the next window.
	first := noise(windowFull - history - 10)
	fw := new(bitWriter)
	for b := first; len(b) > 0; b = b[min(len(b), 60_000):] {
		fw.stored(0, b[:min(len(b), 60_000)])
	}
	before := member(fw.stored(1, nil).b, first)
	for _, distance := range []uint{20, 21, 30} {
		w := new(bitWriter).bits(3, 3)
		for range 20 {
			w.symbol(fl, 'a')
		}
		w.match(fl, fd, 3, distance).symbol(fl, 256)
		blob := join(before, member(w.b, bytes.Repeat([]byte("a"), 23)), body)
		if err := sameVerdict(t, p, "member across windows", blob); (err == nil) != (distance == 20) || errors.Is(err, errGzipCheck) {
			t.Errorf("distance of %d in a member of 20 bytes: %v", distance, err)
		}
	}
	if _, err := inflate(p, bytes.NewReader(head(64, ""))); !errors.Is(err, errGzipReserved) {
		t.Errorf("reserved flag: %v", err)
	}
}

// headerCRC inserts the checksum of b's first n bytes behind them.
func headerCRC(b []byte, n int) []byte {
	m := member(nil, b[:n])
	return join(b[:n], m[10:12], b[n:])
}

// However the source deals its bytes out, and however they are asked for, they
// are the same.
func TestInflateSlowly(t *testing.T) {
	p := newPool(t, 1)
	small, smallIn := tiny(t)
	large, _ := encode(t, p, corpus(62, 600_000), Options{Compression: Compression{Gzip, 6}})
	for _, c := range []struct{ blob, in []byte }{{small, smallIn}, {large, corpus(62, 600_000)}} {
		for what, r := range map[string]func(io.Reader) io.Reader{
			"one byte": iotest.OneByteReader, "half": iotest.HalfReader, "data with EOF": iotest.DataErrReader,
			"one byte, EOF with the last": func(r io.Reader) io.Reader { return iotest.DataErrReader(iotest.OneByteReader(r)) },
		} {
			if got, err := inflate(p, r(bytes.NewReader(c.blob))); err != nil || !bytes.Equal(got, c.in) {
				t.Errorf("%s: %d bytes of %d, %v", what, len(got), len(c.in), err)
			}
		}
		r, err := p.NewReader(bytes.NewReader(c.blob))
		if err != nil {
			t.Fatal(err)
		}
		if err := iotest.TestReader(r, c.in); err != nil {
			t.Error(err)
		}
		r.Close()
	}
}

// What came before an error of the source is delivered, and then the error.
func TestInflateSourceFails(t *testing.T) {
	p := newPool(t, 1)
	blob, _ := tiny(t)
	for n := range len(blob) + 1 {
		got, err := inflate(p, io.MultiReader(bytes.NewReader(blob[:n]), iotest.ErrReader(errDisk)))
		want, _ := inflate(p, bytes.NewReader(blob[:n]))
		if !errors.Is(err, errDisk) || !bytes.Equal(got, want) {
			t.Errorf("%d bytes: %d of %d, %v", n, len(got), len(want), err)
		}
	}
	_, err := inflate(p, io.MultiReader(bytes.NewReader(blob[:len(blob)-3]), idleReader{}))
	if !errors.Is(err, io.ErrNoProgress) {
		t.Errorf("source without an end: %v", err)
	}
}

// A reader writes itself, and stops where its destination does.
func TestInflateWriteTo(t *testing.T) {
	p := newPool(t, 1)
	in := corpus(63, 900_000)
	blob, _ := encode(t, p, in, Options{Compression: Compression{Gzip, 6}})
	for _, n := range []int{0, 1, 300_000, 900_000} {
		r, err := p.NewReader(bytes.NewReader(blob))
		if err != nil {
			t.Fatal(err)
		}
		first := make([]byte, 10)
		io.ReadFull(r, first)
		var rest bytes.Buffer
		_, err = io.Copy(io.MultiWriter(&failAt{n: n}, &rest), r)
		if n == 900_000 {
			if err != nil || !bytes.Equal(join(first, rest.Bytes()), in) {
				t.Errorf("%d bytes of %d, %v", rest.Len()+10, len(in), err)
			}
		} else if !errors.Is(err, errDisk) {
			t.Errorf("destination of %d bytes: %v", n, err)
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}
}

// Output that ends anywhere near the end of a window, the careful loop at work.
func TestBulkInflateWindowEdge(t *testing.T) {
	p := newPool(t, 1)
	for size := windowFull - history - 2000; size < windowFull-history+600; size += 23 {
		for _, in := range [][]byte{make([]byte, size), bytes.Repeat(noise(250), size/250+1)[:size], noise(size)} {
			var out bytes.Buffer
			w := stdgzip.NewWriter(&out)
			w.Write(in)
			w.Close()
			if got, err := inflate(p, &out); err != nil || !bytes.Equal(got, in) {
				t.Fatalf("%d bytes of %d, %v", len(got), size, err)
			}
		}
	}
}

// Much output from little input takes the memory of a few windows, once.
func TestMemoryInflateBomb(t *testing.T) {
	p := newPool(t, 1)
	var out bytes.Buffer
	w := stdgzip.NewWriter(&out)
	for range 100 {
		w.Write(make([]byte, 1<<20))
	}
	w.Close()
	n := allocated(func() {
		for range 2 {
			r, err := p.NewReader(bytes.NewReader(out.Bytes()))
			if err != nil {
				t.Fatal(err)
			}
			if k, err := io.Copy(io.Discard, r); k != 100<<20 || err != nil {
				t.Errorf("%d bytes, %v", k, err)
			}
			r.Close()
		}
	})
	if limit := uint64(4 << 20); n > limit {
		t.Errorf("%d bytes are allocated", n)
	}
}
