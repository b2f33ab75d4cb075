package codec

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/opencontainers/go-digest"
	"pgregory.net/rapid"
)

// Sizes at which something changes: nothing, within and around the small
// buffer, around a frame, many frames.
func sizes(frame int) []int {
	return []int{0, 1, 3000, smallBuffer - 1, smallBuffer, smallBuffer + 1, frame - 1, frame, frame + 1, 5*frame + 77}
}

func TestRoundTrip(t *testing.T) {
	p := newPool(t, 2)
	const frame = 200 << 10
	in := corpus(1, 6*frame)
	for _, c := range every() {
		for _, n := range sizes(frame) {
			t.Run(name(c, n), func(t *testing.T) {
				blob, res := encode(t, p, in[:n], Options{Compression: c, FrameSize: frame, DiffID: true})
				got, err := decode(t, p, blob)
				if err != nil || !bytes.Equal(got, in[:n]) {
					t.Fatalf("%d bytes came back as %d, %v", n, len(got), err)
				}
				if res.DiffID != digest.FromBytes(in[:n]) || res.In != int64(n) || res.Out != int64(len(blob)) {
					t.Errorf("result %+v for %d bytes of tar in a blob of %d", res, n, len(blob))
				}
			})
		}
	}
}

// chunks writes in to w in pieces that rapid draws, with Write or ReadFrom.
func chunks(t *rapid.T, w *Writer, in []byte) {
	for len(in) > 0 {
		n := rapid.OneOf(rapid.IntRange(1, 40), rapid.IntRange(1, 90<<10), rapid.Just(len(in))).Draw(t, "chunk")
		n = min(n, len(in))
		var err error
		if rapid.Bool().Draw(t, "readFrom") {
			_, err = w.ReadFrom(iotest.HalfReader(bytes.NewReader(in[:n])))
		} else {
			_, err = w.Write(in[:n])
		}
		if err != nil {
			t.Fatal(err)
		}
		in = in[n:]
	}
}

// The bytes must not depend on workers, on timing or on how the tar arrived.
func TestBytesDependOnInputOnly(t *testing.T) {
	pools := []*Pool{newPool(t, 1), newPool(t, 2), newPool(t, 8)}
	in := corpus(2, 700<<10)
	rapid.Check(t, func(t *rapid.T) {
		o := Options{
			Compression: rapid.SampledFrom(every()).Draw(t, "compression"),
			FrameSize:   rapid.SampledFrom([]int{1 << 10, 50_000, 64 << 10, 100 << 10, 0}).Draw(t, "frame"),
			DiffID:      rapid.Bool().Draw(t, "diffID"),
		}
		n := rapid.SampledFrom([]int{0, 10, 1 << 10, 50_000, 64 << 10, 100_000, 600 << 10}).Draw(t, "size")
		var want []byte
		for i, p := range pools {
			var out bytes.Buffer
			w, err := p.NewWriter(&out, o)
			if err != nil {
				t.Fatal(err)
			}
			chunks(t, w, in[:n])
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			if i == 0 {
				want = out.Bytes()
			} else if !bytes.Equal(out.Bytes(), want) {
				t.Fatalf("%d workers: other bytes than one worker", p.workers)
			}
		}
	})
}

// An encoder's context is used again and again, for whatever comes next. What
// it did before must not show.
func TestBulkUsedContext(t *testing.T) {
	used := newPool(t, 1)
	others := [][]byte{corpus(3, 300<<10), corpus(4, 20<<10)}
	for _, c := range allLevels() {
		in, o := corpus(5, 300<<10), Options{Compression: c, FrameSize: 128 << 10}
		if c.Level > 12 {
			in, others[0] = in[:100<<10], others[1] // seconds
		}
		want, _ := encode(t, newPool(t, 1), in, o)
		for _, other := range append(others, in) {
			encode(t, used, other, o)
			if got, _ := encode(t, used, in, o); !bytes.Equal(got, want) {
				t.Errorf("%s: a used context makes other bytes than a fresh one", c)
			}
		}
	}
}

// Golden digests hold for one version of an encoder. When a new version of a
// library changes them, that version is in the record of every blob it makes;
// when they change without one, RecordVersion must be raised.
func TestBulkGolden(t *testing.T) {
	const file = "testdata/golden.txt"
	golden := map[string]string{}
	b, err := os.ReadFile(file)
	if err != nil && !*update {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		k, v, _ := strings.Cut(strings.TrimSpace(line), "\t")
		golden[k] = v
	}
	p := newPool(t, 2)
	in := corpus(6, 1<<20)
	far := slices.Concat(in[:32<<10], make([]byte, 4<<20), in[:32<<10])
	epoch := int64(1_700_000_000)
	for _, c := range allLevels() {
		n := len(in)
		if c.Level > 15 {
			n /= 4
		}
		blob, _ := encode(t, p, in[:n], Options{Compression: c, FrameSize: 192 << 10, Epoch: &epoch})
		if c.Codec == Zstd { // what only a window of a whole frame finds again
			whole, _ := encode(t, p, far, Options{Compression: c})
			blob = append(blob, whole...)
		}
		key := fmt.Sprintf("%s %s record %d", c, Encoder(c), RecordVersion)
		got := digest.FromBytes(blob).String()
		if *update {
			golden[key] = got
		} else if golden[key] != got {
			t.Errorf("%s: %s, golden %q", key, got, golden[key])
		}
	}
	if *update {
		writeGolden(t, file, golden)
	}
}

func writeGolden(t *testing.T, file string, golden map[string]string) {
	var b bytes.Buffer
	w := bufio.NewWriter(&b)
	for _, k := range slices.Sorted(maps.Keys(golden)) {
		fmt.Fprintf(w, "%s\t%s\n", k, golden[k])
	}
	w.Flush()
	if err := os.MkdirAll("testdata", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, b.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestNewWriterRefuses(t *testing.T) {
	p := newPool(t, 1)
	epoch := int64(-1 << 63)
	for want, o := range map[string]Options{
		`compression "zstd:23": no such level; use zstd:1 to zstd:22`: {Compression: Compression{Zstd, 23}},
		"frame size of 1000 bytes is not between 1 KiB and 8 MiB":     {FrameSize: 1000},
		"frame size of 9000000 bytes is not between 1 KiB and 8 MiB":  {FrameSize: 9_000_000},
		"": {Epoch: &epoch},
	} {
		w, err := p.NewWriter(io.Discard, o)
		if err == nil {
			w.Abort()
		}
		if got := fmt.Sprint(err); got != want && !(want == "" && err == nil) {
			t.Errorf("%+v: %s, want %s", o, got, want)
		}
	}
	p.Close()
	if _, err := p.NewWriter(io.Discard, Options{}); !errors.Is(err, errPoolClosed) {
		t.Errorf("closed pool: %v", err)
	}
}

// A layer of 3 kB costs neither a large buffer nor a goroutine.
func TestTinyLayer(t *testing.T) {
	p := newPool(t, 2)
	in := corpus(15, 3000)
	for _, c := range every() {
		one := func() {
			w, err := p.NewWriter(io.Discard, Options{Compression: c, DiffID: true})
			if err != nil {
				t.Fatal(err)
			}
			w.Write(in)
			if n := runtime.NumGoroutine(); w.submitted {
				t.Fatalf("%d goroutines", n)
			}
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
		}
		one()
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for range 100 {
			one()
		}
		runtime.ReadMemStats(&after)
		if per := (after.TotalAlloc - before.TotalAlloc) / 100; per > 20_000 {
			t.Errorf("%s: %d bytes are allocated for a layer of %d", c, per, len(in))
		}
	}
	if len(p.large) > 0 {
		t.Error("a large buffer was made")
	}
}

func BenchmarkTinyLayer(b *testing.B) {
	in := corpus(15, 3000)
	for _, s := range []string{"zstd:1", "zstd:3", "zstd:19", "gzip:6", "uncompressed"} {
		c, err := Parse(s)
		if err != nil {
			continue
		}
		b.Run(s, func(b *testing.B) {
			p := newPool(b, 0)
			b.ReportAllocs()
			for b.Loop() {
				h := sha256.New()
				w, err := p.NewWriter(h, Options{Compression: c, DiffID: true})
				if err != nil {
					b.Fatal(err)
				}
				w.Write(in)
				if err := w.Close(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
