package layer_test

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	splittar "github.com/vbatts/tar-split/archive/tar"
	"github.com/vbatts/tar-split/tar/asm"
	"github.com/vbatts/tar-split/tar/storage"
)

// entry is a line of the table of contents as its readers declare it.
type entry struct {
	Type, Name, LinkName                              string
	Mode, Size, DevMajor, DevMinor, Offset, EndOffset int64
	UID, GID                                          int
	ModTime, AccessTime, ChangeTime                   time.Time
	Xattrs                                            map[string][]byte
	Digest                                            string
	ChunkSize, ChunkOffset                            int64
	ChunkDigest, ChunkType                            string
}

type parsed struct {
	entries []entry
	split   []byte // JSON
	blob    []byte
	dec     *zstd.Decoder
}

// parse reads a blob as clients do: the annotations lead to the table, the
// table names the digest of tar-split.
func parse(t testing.TB, blob []byte, annotations map[string]string) parsed {
	t.Helper()
	dec, err := zstd.NewReader(nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(dec.Close)
	const prefix = "io.github.containers.zstd-chunked."
	var off, n, plain, kind, splitOff, splitN, splitPlain int
	if _, err := fmt.Sscanf(annotations[prefix+"manifest-position"], "%d:%d:%d:%d", &off, &n, &plain, &kind); err != nil {
		t.Fatalf("%v: %v", annotations, err)
	}
	if _, err := fmt.Sscanf(annotations[prefix+"tarsplit-position"], "%d:%d:%d", &splitOff, &splitN, &splitPlain); err != nil {
		t.Fatalf("%v: %v", annotations, err)
	}
	part := func(off, n, plain int, sum string) []byte {
		packed := blob[off : off+n]
		le := binary.LittleEndian
		if h := blob[off-8:]; le.Uint32(h) != 0x184D2A50 || int(le.Uint32(h[4:])) != n {
			t.Fatalf("no skippable frame at %d: % x", off-8, h[:8])
		}
		b, err := dec.DecodeAll(packed, nil)
		if err != nil || len(b) != plain || digest.FromBytes(packed).String() != sum {
			t.Fatalf("part at %d: %d bytes of %d, %v", off, len(b), plain, err)
		}
		return b
	}
	var toc struct {
		Version        int
		Entries        []entry
		TarSplitDigest string
	}
	if err := json.Unmarshal(part(off, n, plain, annotations[prefix+"manifest-checksum"]), &toc); err != nil || toc.Version != 1 || kind != 1 {
		t.Fatalf("version %d, type %d: %v", toc.Version, kind, err)
	}
	var footer []byte
	for _, v := range []int{off, n, plain, kind, splitOff, splitN, splitPlain} {
		footer = binary.LittleEndian.AppendUint64(footer, uint64(v))
	}
	footer = append([]byte("\x50\x2a\x4d\x18\x40\x00\x00\x00"), append(footer, "GNUlInUx"...)...)
	if !bytes.HasPrefix(blob[splitOff+splitN:], footer) {
		t.Error("no footer behind tar-split")
	}
	return parsed{toc.Entries, part(splitOff, splitN, splitPlain, toc.TarSplitDigest), blob, dec}
}

// file fetches an entry's content by its ranges, each of which must be exactly
// its chunk, and holds it against the digests.
func (p parsed) file(t testing.TB, i int) []byte {
	t.Helper()
	e := p.entries[i]
	chunks := []entry{e}
	for _, c := range p.entries[i+1:] {
		if c.Type != "chunk" {
			break
		}
		chunks = append(chunks, c)
	}
	var content []byte
	for j, c := range chunks {
		end := e.EndOffset
		if j+1 < len(chunks) {
			end = chunks[j+1].Offset
		} else if c.EndOffset != end {
			t.Fatalf("%s ends at %d, its last chunk at %d", e.Name, end, c.EndOffset)
		}
		b, err := p.dec.DecodeAll(p.blob[c.Offset:end], nil)
		if err != nil {
			t.Fatalf("%s: %v", e.Name, err)
		}
		if len(chunks) > 1 && (c.Name != e.Name || c.ChunkOffset != int64(len(content)) || c.ChunkSize != int64(len(b)) || digest.FromBytes(b).String() != c.ChunkDigest) {
			t.Fatalf("%s: chunk %+v of %d bytes", e.Name, c, len(b))
		}
		content = append(content, b...)
	}
	if int64(len(content)) != e.Size || digest.FromBytes(content).String() != e.Digest {
		t.Fatalf("%s: %d bytes of %d, digest %s", e.Name, len(content), e.Size, e.Digest)
	}
	return content
}

// check holds a table against the tar, as clients do and more.
func (p parsed) check(t testing.TB, in []byte) {
	t.Helper()
	files := map[string][]byte{}
	byName := map[string]entry{}
	for i, e := range p.entries {
		if e.Type == "reg" && e.Size > 0 {
			files[e.Name] = p.file(t, i)
		} else if e.Digest != "" || e.Offset != 0 {
			if e.Type != "chunk" {
				t.Errorf("content in %+v", e)
			}
		}
		if e.Type != "chunk" {
			byName[e.Name] = e
		}
	}
	seen := 0
	err := asm.IterateHeaders(storage.NewJSONUnpacker(bytes.NewReader(p.split)), func(h *splittar.Header) error {
		seen++
		e := byName[h.Name]
		if e.Name != h.Name || e.LinkName != h.Linkname || e.Mode != h.Mode || e.Size != h.Size || e.UID != h.Uid || e.GID != h.Gid ||
			!e.ModTime.Equal(h.ModTime) || !e.AccessTime.Equal(h.AccessTime) || !e.ChangeTime.Equal(h.ChangeTime) ||
			e.DevMajor != h.Devmajor || e.DevMinor != h.Devminor {
			return fmt.Errorf("%+v is not %+v", e, h)
		}
		xattrs := 0
		for k, v := range h.PAXRecords {
			if name, ok := strings.CutPrefix(k, "SCHILY.xattr."); ok {
				xattrs++
				if got, ok := e.Xattrs[name]; !ok || string(got) != v {
					return fmt.Errorf("xattrs %q for %q", e.Xattrs, h.PAXRecords)
				}
			}
		}
		if xattrs != len(e.Xattrs) {
			return fmt.Errorf("xattrs %q for %q", e.Xattrs, h.PAXRecords)
		}
		return nil
	})
	if err != nil || seen != len(byName) {
		t.Errorf("%d of %d entries in tar-split, %v", seen, len(byName), err)
	}
	var out bytes.Buffer
	if err := asm.WriteOutputTarStream(getter(files), storage.NewJSONUnpacker(bytes.NewReader(p.split)), &out); err != nil || !bytes.Equal(out.Bytes(), in) {
		t.Errorf("put together again: %d bytes of %d, %v", out.Len(), len(in), err)
	}
}

type getter map[string][]byte

func (g getter) Get(name string) (io.ReadCloser, error) {
	b, ok := g[name]
	if !ok {
		return nil, fmt.Errorf("no file %q", name)
	}
	return io.NopCloser(bytes.NewReader(b)), nil
}
