package layer_test

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os/exec"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"

	"github.com/lighter-oci/lighter/internal/codec"
	"github.com/lighter-oci/lighter/internal/layer"
)

// tarball builds tars entry by entry.
type tarball struct {
	bytes.Buffer
	t    testing.TB
	w    *tar.Writer
	made map[string]bool
}

func newTarball(t testing.TB) *tarball {
	b := &tarball{t: t, made: map[string]bool{}}
	b.w = tar.NewWriter(b)
	return b
}

func (b *tarball) add(hdr tar.Header, content []byte) {
	b.t.Helper()
	if hdr.Typeflag == 0 {
		hdr.Typeflag = tar.TypeReg
	}
	hdr.Size = int64(len(content))
	if hdr.ModTime.IsZero() {
		hdr.ModTime = time.Unix(1_700_000_000, 0)
	}
	if hdr.Mode == 0 {
		hdr.Mode = 0o755
	}
	if err := b.w.WriteHeader(&hdr); err != nil {
		b.t.Fatal(err)
	}
	if _, err := b.w.Write(content); err != nil {
		b.t.Fatal(err)
	}
}

// dirs adds a directory and those above it that have no entry yet.
func (b *tarball) dirs(name string) {
	b.t.Helper()
	for i, r := range name {
		if r == '/' && !b.made[name[:i]] {
			b.made[name[:i]] = true
			b.add(tar.Header{Name: name[:i+1], Typeflag: tar.TypeDir}, nil)
		}
	}
}

func (b *tarball) end() []byte {
	b.t.Helper()
	if err := b.w.Close(); err != nil {
		b.t.Fatal(err)
	}
	return b.Bytes()
}

// text and noise are n bytes that compress well, and not at all.
func text(seed uint64, n int) []byte {
	r := rand.New(rand.NewPCG(seed, 1))
	var b []byte
	for len(b) < min(n, 30_000) {
		b = fmt.Appendf(b, "%x the %d quick ", r.IntN(1000), r.IntN(10))
	}
	for len(b) < n {
		b = append(b, b[r.IntN(5000):]...)
	}
	return b[:n]
}

func noise(seed uint64, n int) []byte {
	b := make([]byte, n)
	r := rand.New(rand.NewPCG(seed, 2))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

const mib = 1 << 20

// everything is a tar with every kind of entry that a table of contents has.
func everything(t testing.TB) []byte {
	b := newTarball(t)
	b.add(tar.Header{Name: "./", Typeflag: tar.TypeDir}, nil)
	b.add(tar.Header{Name: "etc/", Typeflag: tar.TypeDir, Mode: 0o1777, Uid: 7, Gid: 1 << 22}, nil)
	b.add(tar.Header{Name: "etc/passwd", Mode: 0o4755, ModTime: time.Unix(1_600_000_000, 123456789), Format: tar.FormatPAX}, text(1, 700))
	b.add(tar.Header{Name: "etc/empty"}, nil)
	b.add(tar.Header{Name: "etc/link", Typeflag: tar.TypeSymlink, Linkname: "../<no>/where & \u2028é"}, nil)
	b.add(tar.Header{Name: "etc/hard", Typeflag: tar.TypeLink, Linkname: "./etc/passwd"}, nil)
	b.add(tar.Header{Name: "dev/", Typeflag: tar.TypeDir}, nil)
	b.add(tar.Header{Name: "dev/null", Typeflag: tar.TypeChar, Devmajor: 1, Devminor: 3}, nil)
	b.add(tar.Header{Name: "dev/sda", Typeflag: tar.TypeBlock, Devmajor: 8}, nil)
	b.add(tar.Header{Name: "dev/fifo", Typeflag: tar.TypeFifo}, nil)
	for _, dir := range []string{"usr/bin/", "usr/" + strings.Repeat("long/", 60), "usr/" + strings.Repeat("länger/", 60), "var/old/", "data/", "many/"} {
		b.dirs(dir)
	}
	b.add(tar.Header{Name: "usr/bin/ping", Format: tar.FormatPAX, PAXRecords: map[string]string{
		"SCHILY.xattr.security.capability": "\x01\x00\x00\x02\x00\x20" + strings.Repeat("\x00", 14), "SCHILY.xattr.user.ü": "", "comment": "x"}}, noise(2, 512))
	b.add(tar.Header{Name: "usr/" + strings.Repeat("long/", 60) + "name", Format: tar.FormatGNU,
		AccessTime: time.Unix(5, 0), ChangeTime: time.Unix(6, 0)}, text(3, 3000))
	b.add(tar.Header{Name: "usr/" + strings.Repeat("länger/", 60) + "name", Format: tar.FormatPAX,
		AccessTime: time.Unix(5, 5), ChangeTime: time.Unix(0, 0)}, text(4, 513))
	b.add(tar.Header{Name: "var/old/.wh..wh..opq"}, nil)
	b.add(tar.Header{Name: "var/.wh.gone"}, nil)
	for i, n := range []int{1, 511, 512, 513, 70_000, 4 * mib, 4*mib + 1, 9 * mib} {
		b.add(tar.Header{Name: fmt.Sprintf("data/text%d", i), ModTime: time.Unix(0, 0)}, text(uint64(i), n))
		b.add(tar.Header{Name: fmt.Sprintf("data/zero%d", i)}, make([]byte, min(n, 100_000)))
		b.add(tar.Header{Name: fmt.Sprintf("data/noise%d", i)}, noise(uint64(i), min(n, mib)))
	}
	for i := range 300 {
		b.add(tar.Header{Name: fmt.Sprintf("many/%d", i)}, noise(uint64(i), i*7))
	}
	return append(b.end(), make([]byte, 9*512)...)
}

func newPool(t testing.TB, workers int) *codec.Pool {
	p := codec.NewPool(workers)
	t.Cleanup(func() {
		done := make(chan struct{})
		go func() { p.Close(); close(done) }()
		select {
		case <-done:
		case <-time.After(time.Minute):
			t.Error("a writer was left open")
		}
	})
	return p
}

func chunked(t testing.TB, p *codec.Pool, in []byte, o layer.ChunkedOptions) ([]byte, layer.Chunked) {
	t.Helper()
	var blob bytes.Buffer
	res, err := layer.WriteChunked(context.Background(), &blob, bytes.NewReader(in), p, o)
	if err != nil {
		t.Fatal(err)
	}
	if res.DiffID != digest.FromBytes(in) || res.TarSize != int64(len(in)) || res.Size != int64(blob.Len()) {
		t.Fatalf("%+v for a tar of %d and a blob of %d bytes", res, len(in), blob.Len())
	}
	return blob.Bytes(), res
}

// Any zstd decoder sees the tar, clients that know the table see each file.
func TestChunked(t *testing.T) {
	in := everything(t)
	p := newPool(t, 2)
	for _, level := range []int{3, 7} {
		blob, res := chunked(t, p, in, layer.ChunkedOptions{Compression: codec.Compression{Codec: codec.Zstd, Level: level}})
		if res.Plain != "" {
			t.Fatal(res.Plain)
		}
		parse(t, blob, res.Annotations).check(t, in)

		d, err := zstd.NewReader(bytes.NewReader(blob))
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(d)
		d.Close()
		if err != nil || !bytes.Equal(got, in) {
			t.Errorf("klauspost: %d bytes of %d, %v", len(got), len(in), err)
		}
		cmd := exec.Command("zstd", "-dc")
		cmd.Stdin = bytes.NewReader(blob)
		if got, err := cmd.Output(); err != nil || !bytes.Equal(got, in) {
			t.Errorf("zstd: %d bytes of %d, %v", len(got), len(in), err)
		}
		r, err := p.NewParallelReader(bytes.NewReader(blob), int64(len(blob)))
		if err != nil {
			t.Fatal(err)
		}
		if got, err = io.ReadAll(r); err != nil || !bytes.Equal(got, in) {
			t.Errorf("lighter: %d bytes of %d, %v", len(got), len(in), err)
		}
		r.Close()
		rec, err := codec.ReadRecord(bytes.NewReader(blob), int64(len(blob)))
		if err != nil || rec == nil || rec.Level != level || rec.Layout != codec.Chunked {
			t.Errorf("record %+v, %v", rec, err)
		}
		seekTable(t, blob, res.Frames, len(in))
	}
}

// seekTable holds the seek table against the blob: all data frames, in order.
func seekTable(t *testing.T, blob []byte, want, size int) {
	t.Helper()
	le := binary.LittleEndian
	n := int(le.Uint32(blob[len(blob)-9:]))
	if n != want || le.Uint32(blob[len(blob)-4:]) != 0x8F92EAB1 {
		t.Fatalf("a seek table of %d frames, not %d", n, want)
	}
	table, at, in := blob[len(blob)-9-8*n:], 0, 0
	for i := range n {
		if le.Uint32(blob[at:]) != 0xFD2FB528 {
			t.Fatalf("frame %d is none", i)
		}
		at += int(le.Uint32(table[8*i:]))
		in += int(le.Uint32(table[8*i+4:]))
	}
	if in != size || le.Uint32(blob[at:])&^0xf != 0x184D2A50 {
		t.Fatalf("frames of %d bytes, not %d", in, size)
	}
}

// The bytes depend on the tar and the level, not on cores or on how it arrives.
func TestChunkedIsDeterministic(t *testing.T) {
	in := everything(t)
	want, _ := chunked(t, newPool(t, 1), in, layer.ChunkedOptions{})
	for _, workers := range []int{2, 8} {
		p := newPool(t, workers)
		for name, r := range map[string]io.Reader{"whole": bytes.NewReader(in), "halves": iotest.HalfReader(bytes.NewReader(in)),
			"early end": iotest.DataErrReader(bytes.NewReader(in)), "bytes": io.MultiReader(iotest.OneByteReader(bytes.NewReader(in[:9000])), bytes.NewReader(in[9000:]))} {
			var blob bytes.Buffer
			if _, err := layer.WriteChunked(context.Background(), &blob, r, p, layer.ChunkedOptions{}); err != nil || !bytes.Equal(blob.Bytes(), want) {
				t.Errorf("%d workers, %s: other bytes, %v", workers, name, err)
			}
		}
	}
}

var errDisk = errors.New("no space left on device")

type failing struct{ n int }

func (f *failing) Write(b []byte) (int, error) {
	if f.n -= len(b); f.n < 0 {
		return 0, errDisk
	}
	return len(b), nil
}

func TestChunkedFailures(t *testing.T) {
	in := everything(t)
	p := newPool(t, 2)
	for _, n := range []int{0, 100, 600, 100_000, len(in) - 5000, len(in) - 1, len(in)} {
		src := io.MultiReader(bytes.NewReader(in[:n]), iotest.ErrReader(errDisk))
		if _, err := layer.WriteChunked(t.Context(), io.Discard, src, p, layer.ChunkedOptions{}); !errors.Is(err, errDisk) {
			t.Errorf("source fails after %d bytes: %v", n, err)
		}
	}
	blob, _ := chunked(t, p, in, layer.ChunkedOptions{})
	for _, n := range []int{0, 1000, len(blob) / 2, len(blob) - 1} {
		if _, err := layer.WriteChunked(t.Context(), &failing{n}, bytes.NewReader(in), p, layer.ChunkedOptions{}); !errors.Is(err, errDisk) {
			t.Errorf("destination fails after %d bytes: %v", n, err)
		}
	}
	if _, err := layer.WriteChunked(t.Context(), io.Discard, bytes.NewReader(in), p, layer.ChunkedOptions{Compression: codec.Compression{Codec: codec.Gzip}}); err == nil {
		t.Error("gzip is taken")
	}
	ctx, cancel := context.WithCancel(t.Context())
	src, feed := io.Pipe()
	go func() {
		feed.Write(in[:len(in)/2])
		cancel()
		<-ctx.Done()
		feed.Close()
	}()
	if _, err := layer.WriteChunked(ctx, io.Discard, src, p, layer.ChunkedOptions{}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}
