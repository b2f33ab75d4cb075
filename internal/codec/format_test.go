package codec

import (
	"bytes"
	stdgzip "compress/gzip"
	"encoding/binary"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/klauspost/pgzip"
)

const foreignFrame = 256 << 10

func foreignInputs() map[string][]byte {
	in := corpus(20, 5*foreignFrame+99)
	return map[string][]byte{"empty": nil, "tiny": in[:3000], "one frame": in[:foreignFrame], "frames": in,
		"zeros": make([]byte, 3*foreignFrame), "noise": noise(3*foreignFrame + 1)}
}

// What lighter writes is read by whatever reads zstd and gzip anywhere.
func TestForeignDecoders(t *testing.T) {
	command := func(args ...string) func([]byte) ([]byte, error) {
		return func(blob []byte) ([]byte, error) {
			cmd := exec.Command(args[0], args[1:]...)
			cmd.Stdin = bytes.NewReader(blob)
			cmd.Stderr = os.Stderr
			return cmd.Output()
		}
	}
	decoders := map[Codec]map[string]func([]byte) ([]byte, error){
		Zstd: {
			"zstd -d": command("zstd", "-d", "-c"),
			"klauspost stream": func(b []byte) ([]byte, error) {
				d, err := zstd.NewReader(bytes.NewReader(b))
				if err != nil {
					return nil, err
				}
				defer d.Close()
				return io.ReadAll(d)
			},
			"klauspost at once": func(b []byte) ([]byte, error) {
				d, err := zstd.NewReader(nil)
				if err != nil {
					return nil, err
				}
				defer d.Close()
				return d.DecodeAll(b, nil)
			},
		},
		Gzip: {
			"gzip -d":         command("gzip", "-d", "-c"),
			"pigz -d":         command("pigz", "-d", "-c"),
			"busybox gunzip":  command("busybox", "gunzip", "-c"),
			"one member only": func(b []byte) ([]byte, error) { return stdGunzip(b, false) },
			"compress/gzip":   func(b []byte) ([]byte, error) { return stdGunzip(b, true) },
			"pgzip": func(b []byte) ([]byte, error) {
				d, err := pgzip.NewReader(bytes.NewReader(b))
				if err != nil {
					return nil, err
				}
				defer d.Close()
				return io.ReadAll(d)
			},
		},
	}
	if libzstdDecode != nil {
		decoders[Zstd]["libzstd"] = libzstdDecode
	}
	p := newPool(t, 2)
	for _, c := range every() {
		for what, in := range foreignInputs() {
			blob, _ := encode(t, p, in, Options{Compression: c, FrameSize: foreignFrame})
			for who, decode := range decoders[c.Codec] {
				got, err := decode(blob)
				if err != nil || !bytes.Equal(got, in) {
					t.Errorf("%s, %s, %s: %d bytes of %d, %v", c, what, who, len(got), len(in), err)
				}
			}
		}
	}
}

func stdGunzip(b []byte, multi bool) ([]byte, error) {
	d, err := stdgzip.NewReader(bytes.NewReader(b))
	if err != nil {
		return nil, err
	}
	d.Multistream(multi)
	return io.ReadAll(d)
}

// The seek table, parsed here from the specification alone: the last frame of
// the file lists frames from the file's start, each of which decodes by itself
// to the piece of the tar that the sizes before it say.
func TestSeekTable(t *testing.T) {
	p := newPool(t, 2)
	le := binary.LittleEndian
	d, err := zstd.NewReader(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	for what, in := range foreignInputs() {
		b, res := encode(t, p, in, Options{FrameSize: foreignFrame})
		foot := b[len(b)-9:]
		n := int(le.Uint32(foot))
		if le.Uint32(foot[5:]) != 0x8F92EAB1 || foot[4] != 0 || n != res.Frames {
			t.Fatalf("%s: footer % x for %d frames", what, foot, res.Frames)
		}
		table := b[len(b)-9-8*n-8:]
		if le.Uint32(table) != 0x184D2A5E || int(le.Uint32(table[4:])) != len(table)-8 {
			t.Fatalf("%s: table begins with % x", what, table[:8])
		}
		var from, at int
		for i := range n {
			e := table[8+8*i:]
			packed, size := int(le.Uint32(e)), int(le.Uint32(e[4:]))
			var h zstd.Header
			if err := h.Decode(b[from:]); err != nil || h.Skippable || !h.HasFCS || int(h.FrameContentSize) != size || h.HasCheckSum {
				t.Fatalf("%s: frame %d of %d bytes: header %+v, %v", what, i, size, h, err)
			}
			got, err := d.DecodeAll(b[from:from+packed], nil)
			if err != nil || !bytes.Equal(got, in[at:at+size]) {
				t.Fatalf("%s: frame %d: %d bytes of %d, %v", what, i, len(got), size, err)
			}
			from, at = from+packed, at+size
		}
		if at != len(in) {
			t.Errorf("%s: the frames hold %d bytes of %d", what, at, len(in))
		}
		rec := b[from : len(b)-len(table)]
		if le.Uint32(rec) != 0x184D2A5C || int(le.Uint32(rec[4:])) != len(rec)-8 || len(rec) > 200 {
			t.Errorf("%s: %d bytes lie between frames and table: %q", what, len(rec), rec)
		}
	}
}

// No level asks a decoder for a window larger than a frame.
func TestBulkWindow(t *testing.T) {
	p := newPool(t, 1)
	in := make([]byte, maxFrame) // zeros: the window is chosen by size and level
	for _, c := range allLevels() {
		if c.Codec != Zstd || c.Level > 3 && c.Level < 19 && c.Level != 9 {
			continue
		}
		blob, _ := encode(t, p, in, Options{Compression: c})
		var h zstd.Header
		if err := h.Decode(blob); err != nil {
			t.Fatal(err)
		}
		if h.WindowSize > maxFrame {
			t.Errorf("%s: window of %d bytes", c, h.WindowSize)
		}
	}
}

// A frame's end finds what stands at its beginning, at any level: the noise in
// the middle leaves no other way to be smaller.
func TestBulkReach(t *testing.T) {
	p := newPool(t, 2)
	in := noise(maxFrame)
	copy(in[maxFrame-1<<20:], in[:1<<20])
	for _, c := range allLevels() {
		if c.Codec != Zstd || c.Level > 3 && c.Level < 19 && c.Level != 9 || c.Level > 19 {
			continue
		}
		blob, res := encode(t, p, in, Options{Compression: c})
		if res.Frames != 1 || len(blob) > maxFrame-1<<19 {
			t.Errorf("%s: %d frames, %d bytes of %d", c, res.Frames, len(blob), len(in))
		}
	}
}

func TestRecord(t *testing.T) {
	p := newPool(t, 1)
	long := int64(math.MinInt64)
	year := int64(1_700_000_000)
	for _, epoch := range []*int64{nil, new(int64), &year, &long} {
		for _, c := range allLevels() {
			if c.Level > 12 {
				continue
			}
			blob, _ := encode(t, p, corpus(21, 100_000), Options{Compression: c, FrameSize: 30_000, Epoch: epoch})
			r, err := ReadRecord(bytes.NewReader(blob), int64(len(blob)))
			if c.Codec == Uncompressed {
				if r != nil || err != nil {
					t.Errorf("%s: %+v, %v", c, r, err)
				}
				continue
			}
			if err != nil || r == nil {
				t.Fatalf("%s: no record, %v", c, err)
			}
			if r.Compression != c || r.FrameSize != 30_000 || r.Encoder != Encoder(c) ||
				(r.Epoch == nil) != (epoch == nil) || epoch != nil && *r.Epoch != *epoch {
				t.Errorf("%s: record %+v", c, *r)
			}
		}
	}
}

// Blobs of others carry no record; a damaged one is none.
func TestNoRecord(t *testing.T) {
	p := newPool(t, 1)
	in := corpus(22, 3000)
	ours, _ := encode(t, p, in, Options{})
	zipped, _ := encode(t, p, in, Options{Compression: Compression{Codec: Gzip}})
	e, _ := zstd.NewWriter(nil)
	defer e.Close()
	var gz bytes.Buffer
	g := stdgzip.NewWriter(&gz)
	g.Extra = []byte("LT\xff\xff{}")
	g.Write(in)
	g.Close()
	i := bytes.Index(ours, []byte(`{"lighter":2`))
	other := bytes.Clone(ours)
	other[i+len(`{"lighter":`)] = '9'
	noTable, noRecord := bytes.Clone(ours), bytes.Clone(ours)
	noTable[bytes.LastIndex(ours, []byte{0x5e, 0x2a, 0x4d, 0x18})]++
	noRecord[i-8]++
	for what, b := range map[string][]byte{
		"empty": nil, "one byte": {0x1f}, "tar": in, "plain zstd": e.EncodeAll(in, nil), "foreign extra field": gz.Bytes(),
		"another version": other, "another frame": noRecord, "no table": noTable, "cut": ours[:len(ours)-1], "cut gzip": zipped[:40], "only the table": ours[len(ours)-25:],
		"only table and record": append(bytes.Clone(ours[:4]), ours[len(ours)-60:]...),
	} {
		if r, err := ReadRecord(bytes.NewReader(b), int64(len(b))); r != nil || err != nil {
			t.Errorf("%s: %+v, %v", what, r, err)
		}
	}
	if _, err := ReadRecord(bytes.NewReader(ours[:50]), int64(len(ours))); err == nil {
		t.Error("a reader shorter than it should be is no error")
	}
}

// The encoder's name must be the linked library's own version.
func TestEncoderNamesTheLibrary(t *testing.T) {
	for c, path := range map[Compression]string{{Zstd, 3}: "github.com/DataDog/zstd", {Gzip, 6}: "github.com/klauspost/compress"} {
		if c.Codec == Zstd && libzstdDecode == nil {
			path = "github.com/klauspost/compress"
		}
		out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}} {{.Version}}", path).Output()
		if err != nil {
			t.Fatal(err)
		}
		dir, version, _ := strings.Cut(strings.TrimSpace(string(out)), " ")
		want := "klauspost " + strings.TrimPrefix(version, "v")
		if strings.Contains(path, "DataDog") {
			h, err := os.ReadFile(filepath.Join(dir, "zstd.h"))
			if err != nil {
				t.Fatal(err)
			}
			want = "libzstd " + define(h, "MAJOR") + "." + define(h, "MINOR") + "." + define(h, "RELEASE")
		}
		if version != "v"+klauspostVersion && version != "v"+datadogVersion {
			t.Errorf("go.mod has %s %s", path, version)
		}
		if got := Encoder(c); got != want {
			t.Errorf("%s: encoder %q, the library is %q", c, got, want)
		}
	}
	if Encoder(Compression{Codec: Uncompressed}) != "" {
		t.Error("uncompressed has an encoder")
	}
}

func define(header []byte, part string) string {
	_, rest, _ := strings.Cut(string(header), "#define ZSTD_VERSION_"+part)
	return strings.Fields(rest)[0]
}
