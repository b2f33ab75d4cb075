//go:build unix

package codec

import (
	"archive/tar"
	"bytes"
	stdgzip "compress/gzip"
	"fmt"
	"hash/fnv"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"testing"

	kgzip "github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/klauspost/pgzip"
)

// usr is a tar of about 200 MB: files of the machine's own /usr, chosen by
// their names from all over it.
var usr = sync.OnceValues(func() ([]byte, error) {
	const want = 260 << 20 // of which some is left out below
	type file struct {
		path string
		size int64
	}
	var files []file
	var total int64
	err := filepath.WalkDir("/usr", func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return nil
		}
		if i, err := d.Info(); err == nil {
			files = append(files, file{path, i.Size()})
			total += i.Size()
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	share := min(uint64(10_000), uint64(want*10_000/max(total, 1)))
	var buf bytes.Buffer
	tw := tar.NewWriter(&buf)
	for _, f := range files {
		h := fnv.New64a()
		io.WriteString(h, f.path)
		if h.Sum64()>>20%10_000 >= share {
			continue
		}
		body, err := os.ReadFile(f.path)
		if err != nil {
			continue
		}
		if err := tw.WriteHeader(&tar.Header{Name: f.path[1:], Mode: 0o644, Size: int64(len(body)), Format: tar.FormatUSTAR}); err != nil {
			continue // a name too long for ustar
		}
		if _, err := tw.Write(body); err != nil {
			return nil, err
		}
	}
	return buf.Bytes(), tw.Close()
})

func sample(b *testing.B) []byte {
	in, err := usr()
	if err != nil {
		b.Fatal(err)
	}
	return in
}

// count counts what is written to it.
type count int64

func (c *count) Write(p []byte) (int, error) { *c += count(len(p)); return len(p), nil }

func cpuSeconds() float64 {
	var u syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return float64(u.Utime.Nano()+u.Stime.Nano()) / 1e9
}

// encodeLoop runs f, which encodes in and says how long the blob is, and
// reports MB/s, the ratio and CPU seconds a run.
func encodeLoop(b *testing.B, in []byte, f func() int64) {
	b.SetBytes(int64(len(in)))
	cpu := cpuSeconds()
	var out int64
	for b.Loop() {
		out = f()
	}
	b.ReportMetric(float64(len(in))/float64(out), "ratio")
	b.ReportMetric((cpuSeconds()-cpu)/float64(b.N), "cpu-s/op")
}

func BenchmarkEncode(b *testing.B) {
	in := sample(b)
	for _, s := range []string{"zstd:1", "zstd:3", "zstd:6", "zstd:7", "zstd:9", "zstd:11", "zstd:19",
		"gzip:1", "gzip:4", "gzip:5", "gzip:6", "gzip:7", "gzip:8", "gzip:9", "uncompressed"} {
		c, err := Parse(s)
		if err != nil {
			continue // no libzstd
		}
		for _, diffID := range []bool{false, true} {
			b.Run(fmt.Sprintf("lighter/%s/diffID=%v", s, diffID), func(b *testing.B) {
				p := NewPool(0)
				defer p.Close()
				encodeLoop(b, in, func() int64 {
					var out count
					w, err := p.NewWriter(&out, Options{Compression: c, DiffID: diffID})
					if err != nil {
						b.Fatal(err)
					}
					if _, err := w.ReadFrom(bytes.NewReader(in)); err != nil {
						b.Fatal(err)
					}
					if err := w.Close(); err != nil {
						b.Fatal(err)
					}
					return int64(out)
				})
			})
		}
	}
	copyAll := func(b *testing.B, w io.WriteCloser) {
		if _, err := io.Copy(w, struct{ io.Reader }{bytes.NewReader(in)}); err != nil {
			b.Fatal(err)
		}
		if err := w.Close(); err != nil {
			b.Fatal(err)
		}
	}
	for _, l := range []zstd.EncoderLevel{zstd.SpeedFastest, zstd.SpeedDefault, zstd.SpeedBetterCompression, zstd.SpeedBestCompression} {
		b.Run("klauspost-stream/zstd:"+l.String(), func(b *testing.B) {
			encodeLoop(b, in, func() int64 {
				var out count
				w, err := zstd.NewWriter(&out, zstd.WithEncoderLevel(l))
				if err != nil {
					b.Fatal(err)
				}
				copyAll(b, w)
				return int64(out)
			})
		})
	}
	for _, l := range []int{1, 6, 9} {
		b.Run(fmt.Sprintf("pgzip/gzip:%d", l), func(b *testing.B) {
			encodeLoop(b, in, func() int64 {
				var out count
				w, _ := pgzip.NewWriterLevel(&out, l)
				w.SetConcurrency(1<<20, runtime.GOMAXPROCS(0))
				copyAll(b, w)
				return int64(out)
			})
		})
		b.Run(fmt.Sprintf("compress-gzip/gzip:%d", l), func(b *testing.B) {
			encodeLoop(b, in, func() int64 {
				var out count
				w, _ := stdgzip.NewWriterLevel(&out, l)
				copyAll(b, w)
				return int64(out)
			})
		})
	}
}

func BenchmarkDecode(b *testing.B) {
	in := sample(b)
	for _, c := range []Compression{{Zstd, 3}, {Gzip, 6}, {Codec: Uncompressed}} {
		p := NewPool(0)
		blob, _ := encode(b, p, in, Options{Compression: c})
		for how, open := range map[string]func() (io.ReadCloser, error){
			"stream":   func() (io.ReadCloser, error) { return p.NewReader(bytes.NewReader(blob)) },
			"parallel": func() (io.ReadCloser, error) { return p.NewParallelReader(bytes.NewReader(blob), int64(len(blob))) },
		} {
			b.Run(c.String()+"/"+how, func(b *testing.B) {
				b.SetBytes(int64(len(in)))
				cpu := cpuSeconds()
				for b.Loop() {
					r, err := open()
					if err != nil {
						b.Fatal(err)
					}
					if _, err := io.Copy(io.Discard, r); err != nil {
						b.Fatal(err)
					}
					r.Close()
				}
				b.ReportMetric((cpuSeconds()-cpu)/float64(b.N), "cpu-s/op")
			})
		}
		p.Close()
	}
}

// BenchmarkInflate decodes what compress/gzip makes at level 6. With
// -count=N -shuffle=on, or a loop around the whole, the four take turns.
func BenchmarkInflate(b *testing.B) {
	in := sample(b)
	var blob bytes.Buffer
	w := stdgzip.NewWriter(&blob)
	w.Write(in)
	w.Close()
	p := NewPool(0)
	defer p.Close()
	for _, d := range []struct {
		name   string
		decode func(r io.Reader) (io.Reader, error)
	}{
		{"lighter", func(r io.Reader) (io.Reader, error) { return p.NewReader(r) }},
		{"klauspost", func(r io.Reader) (io.Reader, error) { return kgzip.NewReader(r) }},
		{"compress-gzip", func(r io.Reader) (io.Reader, error) { return stdgzip.NewReader(r) }},
		{"pigz", func(r io.Reader) (io.Reader, error) {
			cmd := exec.Command("pigz", "-d", "-c")
			cmd.Stdin = r
			out, err := cmd.StdoutPipe()
			if err != nil {
				return nil, err
			}
			return out, cmd.Start()
		}},
	} {
		b.Run(d.name, func(b *testing.B) {
			b.SetBytes(int64(len(in)))
			for b.Loop() {
				r, err := d.decode(bytes.NewReader(blob.Bytes()))
				if err != nil {
					b.Fatal(err)
				}
				if n, err := io.Copy(io.Discard, r); n != int64(len(in)) || err != nil {
					b.Fatal(n, err)
				}
				if c, ok := r.(io.Closer); ok {
					c.Close()
				}
			}
		})
	}
}

func BenchmarkDecodeTiny(b *testing.B) {
	in := corpus(15, 3000)
	for _, c := range []Compression{{Zstd, 3}, {Gzip, 6}} {
		b.Run(c.String(), func(b *testing.B) {
			p := newPool(b, 0)
			blob, _ := encode(b, p, in, Options{Compression: c})
			b.ReportAllocs()
			for b.Loop() {
				if _, err := readAll(p.NewParallelReader(bytes.NewReader(blob), int64(len(blob)))); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
