package codec

import (
	"bytes"
	stdgzip "compress/gzip"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"runtime"
	"testing"
	"testing/iotest"

	"github.com/klauspost/compress/zstd"
)

func noise(n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{7}).Read(b)
	return b
}

func TestSniff(t *testing.T) {
	for in, want := range map[string]Codec{
		"": Uncompressed, "\x1f": Uncompressed, "\x1f\x8b": Uncompressed, "\x1f\x8b\x08": Gzip, "\x1f\x8b\x08\x00more": Gzip,
		"\x1f\x8b\x07\x00": Uncompressed, "\x28\xb5\x2f\xfd": Zstd, "\x28\xb5\x2f": Uncompressed,
		"\x50\x2a\x4d\x18": Zstd, "\x5f\x2a\x4d\x18\x00": Zstd, "\x60\x2a\x4d\x18": Uncompressed, "bin/": Uncompressed,
	} {
		if got := Sniff([]byte(in)); got != want {
			t.Errorf("%q is %s, want %s", in, got, want)
		}
	}
}

// Everything that may stand in a zstd or gzip file is read as the formats say.
func TestForeignBlobs(t *testing.T) {
	p := newPool(t, 2)
	a, b := corpus(30, 200_000), corpus(31, 1000)
	e, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	ours, _ := encode(t, p, a, Options{FrameSize: 50_000})
	skip := append([]byte{0x53, 0x2a, 0x4d, 0x18, 5, 0, 0, 0}, "hello"...)
	gz := func(b []byte) []byte {
		var out bytes.Buffer
		w := stdgzip.NewWriter(&out)
		w.Write(b)
		w.Close()
		return out.Bytes()
	}
	table := func(frames ...[]byte) []byte {
		var spans []span
		for _, f := range frames {
			spans = append(spans, span{uint32(len(f)), uint32(len(mustDecode(t, e, f)))})
		}
		return appendSeekTable(nil, spans)
	}
	za, zb := e.EncodeAll(a, nil), e.EncodeAll(b, nil)
	for what, c := range map[string]struct{ blob, want []byte }{
		"tar":                      {a, a},
		"empty":                    {nil, nil},
		"three bytes":              {[]byte("abc"), []byte("abc")},
		"frames":                   {join(za, zb, za), join(a, b, a)},
		"skippable first":          {join(skip, za, skip, skip, zb), join(a, b)},
		"only skippable":           {skip, nil},
		"ours twice":               {join(ours, ours), join(a, a)},
		"ours and more":            {join(ours, zb), join(a, b)},
		"more and ours":            {join(zb, ours), join(b, a)},
		"members":                  {join(gz(a), gz(nil), gz(b)), join(a, b)},
		"foreign table":            {join(za, zb, table(za, zb)), join(a, b)},
		"table, skippable between": {join(za, zb, skip, skip, table(za, zb)), join(a, b)},
		"table of a part":          {join(za, zb, za, table(za, zb)), join(a, b, a)},
		"entries of two frames":    {join(za, zb, za, zb, table(join(za, zb), join(za, zb))), join(a, b, a, b)},
		"skippable in an entry":    {join(za, skip, zb, table(za, join(skip, zb))), join(a, b)},
	} {
		got, err := decode(t, p, c.blob)
		if err != nil || !bytes.Equal(got, c.want) {
			t.Errorf("%s: %d bytes of %d, %v", what, len(got), len(c.want), err)
		}
	}
}

func mustDecode(t *testing.T, e *zstd.Encoder, b []byte) []byte {
	d, err := zstd.NewReader(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	out, err := d.DecodeAll(b, nil)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func join(bs ...[]byte) []byte { return bytes.Join(bs, nil) }

// A blob that is cut or damaged is an error, never an early end.
func TestDamage(t *testing.T) {
	p := newPool(t, 2)
	in := corpus(32, 400_000)
	for _, c := range []Compression{{Zstd, 3}, {Gzip, 6}} {
		blob, _ := encode(t, p, in, Options{Compression: c, FrameSize: 100_000})
		end := len(blob)
		if c.Codec == Zstd {
			foot, err := readSeekFoot(bytes.NewReader(blob), int64(len(blob)))
			if foot == nil || err != nil {
				t.Fatal(err)
			}
			end = int(foot.start) - 8 - 150 // within the last data frame
		}
		for _, n := range []int{5, 30, end / 3, end / 2, end - 1} {
			if got, err := decode(t, p, blob[:n]); err == nil {
				t.Errorf("%s: cut to %d of %d bytes decodes to %d of %d", c, n, len(blob), len(got), len(in))
			}
		}
		if _, err := readAll(p.NewReader(io.MultiReader(bytes.NewReader(blob[:end/2]), iotest.ErrReader(errDisk)))); !errors.Is(err, errDisk) {
			t.Errorf("%s: source fails: %v", c, err)
		}
	}
}

// failingAt is a blob whose bytes from n on cannot be read.
type failingAt struct {
	*bytes.Reader
	n int64
}

func (f failingAt) ReadAt(b []byte, off int64) (int, error) {
	if off+int64(len(b)) > f.n && off < f.n+100_000 {
		return 0, errDisk
	}
	return f.Reader.ReadAt(b, off)
}

func TestParallelSourceFails(t *testing.T) {
	p := newPool(t, 2)
	in := noise(1 << 20)
	blob, _ := encode(t, p, in, Options{FrameSize: 100_000})
	r, err := p.NewParallelReader(failingAt{bytes.NewReader(blob), 450_000}, int64(len(blob)))
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(r)
	if !errors.Is(err, errDisk) || !bytes.Equal(got, in[:400_000]) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	if err := errors.Join(r.Close(), r.Close()); err != nil {
		t.Error(err)
	}
	if _, err := r.Read(make([]byte, 1)); !errors.Is(err, errReaderClosed) {
		t.Errorf("Read after Close: %v", err)
	}
	if _, err := p.NewParallelReader(failingAt{bytes.NewReader(blob), int64(len(blob)) - 5}, int64(len(blob))); !errors.Is(err, errDisk) {
		t.Errorf("table cannot be read: %v", err)
	}
}

// Readers are left at any point without a trace.
func TestCloseEarly(t *testing.T) {
	p := newPool(t, 2)
	in := corpus(33, 1_000_000)
	for _, c := range every() {
		blob, _ := encode(t, p, in, Options{Compression: c, FrameSize: 100_000})
		for _, n := range []int64{0, 1, 99_999, 100_000, 500_000, 1_000_000} {
			for _, open := range []func() (io.ReadCloser, error){
				func() (io.ReadCloser, error) { return p.NewReader(bytes.NewReader(blob)) },
				func() (io.ReadCloser, error) { return p.NewParallelReader(bytes.NewReader(blob), int64(len(blob))) },
			} {
				r, err := open()
				if err != nil {
					t.Fatal(err)
				}
				if _, err := io.CopyN(io.Discard, r, n); err != nil {
					t.Fatal(err)
				}
				if err := errors.Join(r.Close(), r.Close()); err != nil {
					t.Error(err)
				}
				if _, err := r.Read(make([]byte, 1)); err == nil {
					t.Errorf("%s: Read after Close succeeds", c)
				}
			}
		}
	}
}

// allocated is how many bytes f allocates in all.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// rle is one frame of n zeros, in blocks of 128 KiB that take four bytes each,
// with the largest window that is decoded. It does not say its size.
func rle(n int64) []byte {
	b := []byte{0x28, 0xb5, 0x2f, 0xfd, 0, (27 - 10) << 3}
	for ; n > 0; n -= 128 << 10 {
		block := uint32(128<<10)<<3 | 1<<1
		if n <= 128<<10 {
			block |= 1
		}
		b = append(b, byte(block), byte(block>>8), byte(block>>16), 0)
	}
	return b
}

// Tables that lie make nothing but an error, or are not believed at all.
func TestHostileTables(t *testing.T) {
	p := newPool(t, 2)
	in := corpus(34, 4000)
	blob, _ := encode(t, p, in, Options{FrameSize: 1 << 10})
	foot, err := readSeekFoot(bytes.NewReader(blob), int64(len(blob)))
	if foot == nil || err != nil {
		t.Fatal(foot, err)
	}
	le := binary.LittleEndian
	change := func(f func(b []byte)) []byte { b := bytes.Clone(blob); f(b); return b }
	entry := int(foot.start) + 8
	end := len(blob)
	big := rle(256 << 20)
	for what, c := range map[string]struct {
		blob   []byte
		opened bool // and read, with an error
	}{
		"more frames than bytes":  {change(func(b []byte) { le.PutUint32(b[end-9:], 0xffffffff) }), false},
		"fewer frames":            {change(func(b []byte) { le.PutUint32(b[end-9:], 1) }), false},
		"reserved descriptor bit": {change(func(b []byte) { b[end-5] = 4 }), false},
		"checksums that are none": {change(func(b []byte) { b[end-5] = 0x80 }), false},
		"huge content":            {change(func(b []byte) { le.PutUint32(b[entry+4:], 0xfffffff0) }), false},
		"huge frame":              {change(func(b []byte) { le.PutUint32(b[entry:], 0xfffffff0) }), false},
		"empty frame":             {change(func(b []byte) { le.PutUint32(b[entry:], 0) }), false},
		"frame too short":         {change(func(b []byte) { b[entry]-- }), false},
		"content too long":        {change(func(b []byte) { le.PutUint32(b[entry+4:], maxFrame) }), true},
		"content too short":       {change(func(b []byte) { le.PutUint32(b[entry+4:], 1000) }), true},
		"no content":              {change(func(b []byte) { le.PutUint32(b[entry+4:], 0) }), true},
		"frame of 256 MiB":        {appendSeekTable(join(big, big), []span{{uint32(len(big)), 10}, {uint32(len(big)), 10}}), true},
		"boundary moved":          {change(func(b []byte) { b[entry]++; b[entry+8]-- }), true},
	} {
		var got []byte
		var err error
		n := allocated(func() { got, err = readAll(p.NewParallelReader(bytes.NewReader(c.blob), int64(len(c.blob)))) })
		if c.opened != (err != nil) || err == nil && !bytes.Equal(got, in) {
			t.Errorf("%s: %d bytes of %d, %v", what, len(got), len(in), err)
		}
		if limit := uint64(48 << 20); n > limit {
			t.Errorf("%s: %d bytes are allocated", what, n)
		}
	}
}

// Ten gigabytes of zeros in a blob of a megabyte or two pass through in bounded memory.
func TestMemoryBombs(t *testing.T) {
	le := binary.LittleEndian
	p := newPool(t, 2)
	frame, _ := encode(t, p, make([]byte, maxFrame), Options{Compression: Compression{Zstd, 1}})
	one := frame[:int(le.Uint32(frame[len(frame)-9-8:]))]
	var many []byte
	var spans []span
	for range 1250 {
		many = append(many, one...)
		spans = append(spans, span{uint32(len(one)), maxFrame})
	}
	single := rle(10_000_000_000)
	var gz bytes.Buffer
	w, _ := stdgzip.NewWriterLevel(&gz, 9)
	w.Write(make([]byte, 300<<20))
	w.Close()

	for what, blob := range map[string][]byte{"frames": many, "seekable": appendSeekTable(many, spans), "one frame": single, "gzip": gz.Bytes()} {
		if len(blob) > 3<<20 {
			t.Fatalf("%s: blob of %d bytes", what, len(blob))
		}
		n := allocated(func() {
			r, err := p.NewParallelReader(bytes.NewReader(blob), int64(len(blob)))
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			if _, err := io.CopyN(io.Discard, r, 300<<20); err != nil {
				t.Errorf("%s: %v", what, err)
			}
		})
		if n > 300<<20 {
			t.Errorf("%s: %d MiB are allocated for 300 MiB of zeros", what, n>>20)
		}
		t.Logf("%s: %d bytes, %d MiB allocated", what, len(blob), n>>20)
	}
	tooWide := bytes.Clone(single)
	tooWide[5] = (28 - 10) << 3
	if _, err := readAll(p.NewReader(bytes.NewReader(tooWide))); !errors.Is(err, zstd.ErrWindowSizeExceeded) {
		t.Errorf("window of 256 MiB: %v", err)
	}
}
