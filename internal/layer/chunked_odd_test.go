package layer_test

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/lighter-oci/lighter/internal/codec"
	"github.com/lighter-oci/lighter/internal/layer"
)

func decoded(t testing.TB, blob []byte) []byte {
	t.Helper()
	d, err := zstd.NewReader(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	out, err := d.DecodeAll(blob, nil)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// oddities are tars that have no table of contents, by a word of the reason.
func oddities(t testing.TB) map[string][]byte {
	whole := func(add func(b *tarball)) []byte {
		b := newTarball(t)
		b.dirs("d/e/")
		b.add(tar.Header{Name: "d/file"}, text(1, 70_000))
		add(b)
		b.add(tar.Header{Name: "d/last"}, text(2, 5000))
		return b.end()
	}
	plain := whole(func(*tarball) {})
	file := func(name string) []byte {
		b, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	blank := func(b *tarball, name string) { b.add(tar.Header{Name: name}, nil) }
	return map[string][]byte{
		"no file has content #1": nil,
		"no file has content #2": make([]byte, 1024),
		"no file has content #3": func() []byte { b := newTarball(t); b.dirs("a/b/"); return b.end() }(),
		"unexpected EOF #3":      []byte("no tar at all"),
		"unexpected EOF #1":      noise(1, 300),
		"invalid tar #2":         noise(1, 700_000),
		"unexpected EOF #2":      plain[:512+512+100],
		"within a file #1":       plain[:50_000],
		"within padding":         plain[:3*512+70_000+100],
		"behind its end #1":      append(bytes.Clone(plain), "more"...),
		"behind its end #2":      append(bytes.Clone(plain), plain...),
		"behind its end #3":      append(bytes.Clone(plain), make([]byte, 100)...),
		"of type S":              file("sparse-gnu.tar"),
		"a sparse file":          file("sparse-pax.tar"),
		"of type g": whole(func(b *tarball) {
			b.w.WriteHeader(&tar.Header{Typeflag: tar.TypeXGlobalHeader, PAXRecords: map[string]string{"comment": "x"}})
		}),
		"of type 7":             whole(func(b *tarball) { b.add(tar.Header{Name: "d/cont", Typeflag: tar.TypeCont}, text(3, 700)) }),
		"one name #1":           whole(func(b *tarball) { blank(b, "d/file") }),
		"one name #2":           whole(func(b *tarball) { blank(b, "./d//x/../file") }),
		"one name #3":           whole(func(b *tarball) { b.add(tar.Header{Name: "./d", Typeflag: tar.TypeDir}, nil) }),
		"has none before it #1": whole(func(b *tarball) { blank(b, "d/f/file") }),
		"has none before it #2": whole(func(b *tarball) { blank(b, "d/file/x") }),
		"has none before it #3": whole(func(b *tarball) {
			b.add(tar.Header{Name: "d/sym", Typeflag: tar.TypeSymlink, Linkname: "e"}, nil)
			blank(b, "d/sym/x")
		}),
		"no file before it #1": whole(func(b *tarball) { b.add(tar.Header{Name: "d/l", Typeflag: tar.TypeLink, Linkname: "d/last"}, nil) }),
		"no file before it #2": whole(func(b *tarball) { b.add(tar.Header{Name: "d/l", Typeflag: tar.TypeLink, Linkname: "d/e"}, nil) }),
		"outside of /dev":      whole(func(b *tarball) { b.add(tar.Header{Name: "d/fifo", Typeflag: tar.TypeFifo}, nil) }),
		"without a name":       whole(func(b *tarball) { blank(b, ".") }),
		"not UTF-8 #1":         whole(func(b *tarball) { b.add(tar.Header{Name: "d/\xff", Format: tar.FormatGNU}, nil) }),
		"not UTF-8 #2": whole(func(b *tarball) {
			b.add(tar.Header{Name: "d/s", Typeflag: tar.TypeSymlink, Linkname: "\xff", Format: tar.FormatGNU}, nil)
		}),
		"not UTF-8 #3": whole(func(b *tarball) {
			b.add(tar.Header{Name: "d/x", PAXRecords: map[string]string{"SCHILY.xattr.user.\xff": "v"}}, nil)
		}),
		"JSON": whole(func(b *tarball) {
			b.add(tar.Header{Name: "d/late", ModTime: time.Unix(1<<42, 0), Format: tar.FormatGNU}, nil)
		}),
		"AUFS":         whole(func(b *tarball) { blank(b, "d/.wh..wh.aufs") }),
		"no empty #1":  whole(func(b *tarball) { b.add(tar.Header{Name: "d/.wh.x"}, text(1, 9)) }),
		"no empty #2":  whole(func(b *tarball) { blank(b, "d/.wh.") }),
		"itself #1":    whole(func(b *tarball) { blank(b, "d/.wh.e") }),
		"itself #2":    whole(func(b *tarball) { blank(b, "d/.wh.last") }),
		"more than 8 ": headers(t),
	}
}

// headers is a tar whose one entry has 12 extended headers of 1 MiB.
func headers(t testing.TB) []byte {
	var all []byte
	for i := range 12 {
		b := newTarball(t)
		b.add(tar.Header{Name: "x", Format: tar.FormatPAX, PAXRecords: map[string]string{"comment": strings.Repeat("x", 1<<20-4000+i)}}, nil)
		header := b.Bytes()
		all = append(all, header[:len(header)-512]...)
	}
	return all
}

// Whatever a layer is, it comes back, and clients are told of a table only
// where they can live with it.
func TestChunkedOddities(t *testing.T) {
	p := newPool(t, 2)
	for what, in := range oddities(t) {
		blob, res := chunked(t, p, in, layer.ChunkedOptions{Compression: codec.Compression{Level: 1}})
		reason, _, _ := strings.Cut(what, " #")
		if !strings.Contains(res.Plain, reason) || res.Annotations != nil {
			t.Errorf("%s: %q, %v", what, res.Plain, res.Annotations)
		}
		if !bytes.Equal(decoded(t, blob), in) {
			t.Errorf("%s: other bytes", what)
		}
		if bytes.Contains(blob, []byte("GNUlInUx")) {
			t.Errorf("%s: a footer", what)
		}
	}
}

// Tars that other people's tools made: Go's own test files, where there are any.
func TestChunkedForeign(t *testing.T) {
	out, err := filepath.Glob(filepath.Join(goroot(t), "src/archive/tar/testdata/*.tar"))
	if err != nil || len(out) < 20 {
		t.Fatalf("%d tars in GOROOT, %v", len(out), err)
	}
	p := newPool(t, 2)
	tables := 0
	for _, name := range out {
		in, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		blob, res := chunked(t, p, in, layer.ChunkedOptions{})
		if !bytes.Equal(decoded(t, blob), in) {
			t.Errorf("%s: other bytes", name)
		}
		if res.Plain == "" {
			tables++
			parse(t, blob, res.Annotations).check(t, in)
		}
	}
	if tables < 5 {
		t.Errorf("%d of %d have a table", tables, len(out))
	}
}

// FuzzChunked holds whatever a tar may be against what decoders and clients
// make of the blob.
func FuzzChunked(f *testing.F) {
	for _, in := range oddities(f) {
		if len(in) < 20_000 {
			f.Add(in)
		}
	}
	b := newTarball(f)
	b.dirs("etc/")
	b.add(tar.Header{Name: "etc/a", Format: tar.FormatPAX, ModTime: time.Unix(1, 5)}, text(1, 600))
	b.add(tar.Header{Name: "etc/b", PAXRecords: map[string]string{"SCHILY.xattr.user.a": "b"}}, noise(1, 512))
	b.add(tar.Header{Name: "etc/c", Typeflag: tar.TypeLink, Linkname: "etc/a"}, nil)
	b.add(tar.Header{Name: "etc/" + strings.Repeat("long", 30), Format: tar.FormatGNU}, text(1, 1))
	b.add(tar.Header{Name: "etc/.wh.x"}, nil)
	f.Add(b.end())
	p := newPool(f, 2)
	f.Fuzz(func(t *testing.T, in []byte) {
		blob, res := chunked(t, p, in, layer.ChunkedOptions{Compression: codec.Compression{Level: 1}})
		if !bytes.Equal(decoded(t, blob), in) {
			t.Fatal("other bytes")
		}
		if (res.Plain == "") != (res.Annotations != nil) {
			t.Fatalf("%q and %v", res.Plain, res.Annotations)
		}
		if res.Annotations != nil {
			parse(t, blob, res.Annotations).check(t, in)
		}
	})
}

// 200,000 files must not take memory as if they were data. The test does not
// run with the race detector, which takes five times as much.
func TestMemoryChunked(t *testing.T) {
	const files = 200_000
	src, dst := io.Pipe()
	go func() {
		w := tar.NewWriter(dst)
		content := text(1, 1500)
		for i := range files {
			if i%1000 == 0 {
				w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: fmt.Sprintf("usr-lib-node-modules-%d/", i/1000)})
			}
			w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Size: int64(len(content)), Mode: 0o644, ModTime: time.Unix(1_700_000_000, 0),
				Name: fmt.Sprintf("usr-lib-node-modules-%d/a-file-with-some-name-%d.js", i/1000, i)})
			w.Write(content[i%1024:])
			w.Write(content[:i%1024])
		}
		w.Close()
		dst.Close()
	}()
	res, err := layer.WriteChunked(context.Background(), io.Discard, src, newPool(t, 2), layer.ChunkedOptions{})
	if err != nil || res.Plain != "" {
		t.Fatal(err, res.Plain)
	}
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	var peak int
	for line := range strings.Lines(string(status)) {
		fmt.Sscanf(line, "VmHWM: %d kB", &peak)
	}
	t.Logf("%d MB of tar, %d MB of blob, %d frames: peak %d MB", res.TarSize>>20, res.Size>>20, res.Frames, peak>>10)
	if peak>>10 > 350 {
		t.Error("more than 350 MB")
	}
}

func goroot(t *testing.T) string {
	t.Helper()
	out, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}
