package codec

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"
	"time"

	"go.uber.org/goleak"
)

var update = flag.Bool("update", false, "write golden files instead of comparing")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// newPool makes a pool that, when the test is over, must have got back every
// token and every buffer it lent.
func newPool(t testing.TB, workers int) *Pool {
	t.Helper()
	p := NewPool(workers)
	t.Cleanup(func() {
		ended := make(chan struct{})
		go func() { p.Close(); close(ended) }()
		select {
		case <-ended:
		case <-time.After(time.Minute):
			t.Fatalf("pool does not close: %d writers or readers are open", p.active)
		}
		for name, c := range map[string]chan struct{}{"cpu": p.cpu, "frames": p.frames, "outs": p.outs} {
			if len(c) != cap(c) {
				t.Errorf("%d of %d %s tokens came back", len(c), cap(c), name)
			}
		}
	})
	return p
}

// corpus is n bytes with what layers have in them: text, code-like structure,
// zeros, noise, and repetitions from near and far. Same seed, same bytes.
func corpus(seed uint64, n int) []byte {
	r := rand.New(rand.NewPCG(seed, 0x1e7))
	words := make([][]byte, 600)
	for i := range words {
		words[i] = make([]byte, 2+r.IntN(9))
		for j := range words[i] {
			words[i][j] = byte('a' + r.IntN(26))
		}
	}
	b := make([]byte, 0, n+64<<10)
	for len(b) < n {
		size := 1 + r.IntN(24<<10)
		switch k := r.IntN(10); {
		case k < 5:
			for end := len(b) + size; len(b) < end; {
				b = append(b, words[int(r.ExpFloat64()*60)%len(words)]...)
				b = append(b, " \n(),;"[r.IntN(6)])
			}
		case k < 7:
			for i := range size / 8 {
				b = append(b, byte(r.IntN(3)), byte(i), 0, byte(r.IntN(40)), 0x48, 0x8b, byte(r.IntN(8)), 0)
			}
		case k == 7:
			b = append(b, make([]byte, size)...)
		case k == 8:
			for range size {
				b = append(b, byte(r.Uint32()))
			}
		case len(b) > 0:
			from := r.IntN(len(b))
			b = append(b, b[from:min(from+size, len(b))]...)
		}
	}
	return b[:n:n]
}

// encode makes a blob of in, in one Write.
func encode(t testing.TB, p *Pool, in []byte, o Options) ([]byte, Result) {
	t.Helper()
	var out bytes.Buffer
	w, err := p.NewWriter(&out, o)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := w.Write(in); n != len(in) || err != nil {
		t.Fatalf("Write: %d of %d, %v", n, len(in), err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes(), w.Result()
}

// decode reads blob with NewReader and with NewParallelReader, which must agree.
func decode(t testing.TB, p *Pool, blob []byte) ([]byte, error) {
	t.Helper()
	serial, serr := readAll(p.NewReader(bytes.NewReader(blob)))
	parallel, perr := readAll(p.NewParallelReader(bytes.NewReader(blob), int64(len(blob))))
	if (serr == nil) != (perr == nil) || !bytes.Equal(serial, parallel) {
		t.Fatalf("NewReader: %d bytes, %v; NewParallelReader: %d bytes, %v", len(serial), serr, len(parallel), perr)
	}
	return serial, serr
}

func readAll(r io.ReadCloser, err error) ([]byte, error) {
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(r)
	if cerr := r.Close(); err == nil {
		err = cerr
	}
	return b, err
}

func parse(t testing.TB, s string) Compression {
	t.Helper()
	c, err := Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// every is one compression of each kind that both encoders have.
func every() []Compression {
	return []Compression{{Zstd, 1}, {Zstd, 3}, {Zstd, 7}, {Gzip, 1}, {Gzip, 6}, {Gzip, 9}, {Codec: Uncompressed}}
}

// allLevels are all compressions that this build can make.
func allLevels() []Compression {
	all := []Compression{{Codec: Uncompressed}}
	for l := 1; l <= maxZstdLevel; l++ {
		all = append(all, Compression{Zstd, l}, Compression{Gzip, l})
	}
	can := all[:0]
	for _, c := range all {
		if c.Validate() == nil {
			can = append(can, c)
		}
	}
	return can
}

func name(c Compression, n int) string { return fmt.Sprintf("%s/%d", c, n) }
