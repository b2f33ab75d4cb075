package layer

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"strconv"
	"strings"
	"time"

	"github.com/vbatts/tar-split/archive/tar"

	"github.com/lighter-oci/lighter/internal/codec"
)

// Annotations of a layer's descriptor, as in pkg/chunked/internal/minimal of
// containers/storage. Clients take a layer by parts where it has the first.
const (
	annotationTOCSum = "io.github.containers.zstd-chunked.manifest-checksum" // sha256 of the compressed table
	annotationTOC    = "io.github.containers.zstd-chunked.manifest-position" // offset:length:length uncompressed:type
	annotationTarSpl = "io.github.containers.zstd-chunked.tarsplit-position" // offset:length:length uncompressed
	tocType          = 1
	chunkedFootMagic = "GNUlInUx"
	xattrRecord      = "SCHILY.xattr."
)

// maxTOC is the largest table, uncompressed, that containers/storage reads
// (maxTocSize in compression_linux.go), about 500,000 files.
const maxTOC = 150 << 20

// entryType is what a table of contents calls a type of tar entries; "" for
// those it does not have.
func entryType(flag byte) string {
	switch flag {
	case tar.TypeReg:
		return "reg"
	case tar.TypeLink:
		return "hardlink"
	case tar.TypeSymlink:
		return "symlink"
	case tar.TypeDir:
		return "dir"
	case tar.TypeChar:
		return "char"
	case tar.TypeBlock:
		return "block"
	case tar.TypeFifo:
		return "fifo"
	}
	return ""
}

// tocEntry is an entry as the table has it, but for where it is in the blob,
// which shows when all is compressed.
type tocEntry struct {
	Type       string            `json:"type"`
	Name       string            `json:"name"`
	LinkName   string            `json:"linkName,omitempty"`
	Mode       int64             `json:"mode,omitempty"`
	Size       int64             `json:"size,omitempty"`
	UID        int               `json:"uid,omitempty"`
	GID        int               `json:"gid,omitempty"`
	ModTime    *time.Time        `json:"modtime,omitempty"`
	AccessTime *time.Time        `json:"accesstime,omitempty"`
	ChangeTime *time.Time        `json:"changetime,omitempty"`
	DevMajor   int64             `json:"devMajor,omitempty"`
	DevMinor   int64             `json:"devMinor,omitempty"`
	Xattrs     map[string]string `json:"xattrs,omitempty"` // base64
	Digest     string            `json:"digest,omitempty"` // of a file of several chunks
}

// toc is the table of contents.
type toc struct {
	w       *codec.Writer
	packed  bytes.Buffer
	entries []tocLine
	content int64 // bytes of all files
}

// tocLine is an entry that waits: its JSON without the brace at its end, and
// where its content stands in the tar.
type tocLine struct {
	json        []byte
	start, size int64
	name        string // where it has chunks
}

// add puts an entry down. Its content begins at start; sum is its digest where
// it has more than one chunk.
func (t *toc) add(hdr *tar.Header, start int64, sum hash.Hash) error {
	e := tocEntry{
		Type: entryType(hdr.Typeflag), Name: hdr.Name, LinkName: hdr.Linkname, Mode: hdr.Mode, Size: hdr.Size, UID: hdr.Uid, GID: hdr.Gid,
		ModTime: utc(hdr.ModTime), AccessTime: utc(hdr.AccessTime), ChangeTime: utc(hdr.ChangeTime),
		DevMajor: hdr.Devmajor, DevMinor: hdr.Devminor,
	}
	for key, value := range hdr.PAXRecords {
		if attr, ok := strings.CutPrefix(key, xattrRecord); ok {
			if e.Xattrs == nil {
				e.Xattrs = map[string]string{}
			}
			e.Xattrs[attr] = base64.StdEncoding.EncodeToString([]byte(value))
		}
	}
	line := tocLine{start: start, size: hdr.Size}
	if sum != nil {
		e.Digest = "sha256:" + hex.EncodeToString(sum.Sum(nil))
		line.name = hdr.Name
	}
	b, err := json.Marshal(e)
	if err != nil { // a year of five digits
		return fmt.Errorf("an entry that JSON has no words for: %s: %w", hdr.Name, err)
	}
	line.json = b[:len(b)-1]
	t.entries = append(t.entries, line)
	t.content += hdr.Size
	return nil
}

// utc is nil for a time that is not there. Zones would make the table depend
// on the machine.
func utc(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

var errFrames = errors.New("frames are not where files are")

// write makes the table of the frames that the tar became, and answers where
// they end in the blob.
func (t *toc) write(frames []codec.Frame, split [sha256.Size]byte) (end int64, err error) {
	b := []byte(`{"version":1,"entries":[`)
	at := cursor{frames: frames}
	for i, e := range t.entries {
		if i > 0 {
			b = append(b, ',')
		}
		if b, err = at.entry(b, e); err != nil {
			return 0, err
		}
		if _, err := t.w.Write(b); err != nil {
			return 0, err
		}
		b = b[:0]
	}
	b = append(b, `],"tarSplitDigest":"`...)
	b = append(appendSum(b, split), `"}`...)
	if _, err := t.w.Write(b); err != nil {
		return 0, err
	}
	for at.next() {
	}
	return at.out, t.w.Close()
}

// cursor goes through frames in order.
type cursor struct {
	frames  []codec.Frame
	in, out int64 // where the first of them begins, in the tar and in the blob
}

func (c *cursor) next() bool {
	if len(c.frames) == 0 {
		return false
	}
	c.in += int64(c.frames[0].Size)
	c.out += int64(c.frames[0].Packed)
	c.frames = c.frames[1:]
	return true
}

// entry appends a line of the table, or several: a file's first chunk is told
// with the file, the others follow.
func (c *cursor) entry(b []byte, e tocLine) ([]byte, error) {
	b = append(b, e.json...)
	if e.size == 0 {
		return append(b, '}'), nil
	}
	for c.in < e.start && c.next() {
	}
	if c.in != e.start {
		return nil, errFrames
	}
	n, end := 0, c.out
	for left := e.size; left > 0; n++ {
		if n == len(c.frames) || c.frames[n].Sum == nil || int64(c.frames[n].Size) > left {
			return nil, errFrames
		}
		left -= int64(c.frames[n].Size)
		end += int64(c.frames[n].Packed)
	}
	if n == 1 {
		b = append(appendSum(append(b, `,"digest":"`...), *c.frames[0].Sum), '"')
		b = appendInt(b, "offset", c.out)
		b = appendInt(b, "endOffset", end)
		return append(b, '}'), nil
	}
	b = appendInt(b, "endOffset", end)
	return c.chunks(b, e, n)
}

// chunks appends what the n frames of a file are.
func (c *cursor) chunks(b []byte, e tocLine, n int) ([]byte, error) {
	name, err := json.Marshal(e.name)
	if err != nil {
		return nil, err
	}
	for i := range n {
		f := c.frames[0]
		if i > 0 {
			b = append(append(b, `},{"type":"chunk","name":`...), name...)
			b = appendInt(b, "chunkOffset", c.in-e.start)
		}
		b = appendInt(b, "offset", c.out)
		b = appendInt(b, "chunkSize", int64(f.Size))
		b = append(appendSum(append(b, `,"chunkDigest":"`...), *f.Sum), '"')
		c.next()
	}
	// The end of a file's last chunk is at the file in what Buildah writes, for
	// readers that know no chunks. Those that do take the last chunk's, and
	// where that has none the next file's offset, headers included.
	return append(appendInt(b, "endOffset", c.out), '}'), nil
}

func appendInt(b []byte, key string, n int64) []byte {
	b = append(append(append(b, ',', '"'), key...), '"', ':')
	return strconv.AppendInt(b, n, 10)
}

func appendSum(b []byte, sum [sha256.Size]byte) []byte {
	return hex.AppendEncode(append(b, "sha256:"...), sum[:])
}

// position is where a compressed part stands in the blob.
type position struct{ offset, packed, plain int64 }

// trailing is what follows the frames.
type trailing struct{ toc, split position }

func (t trailing) annotations(sum [sha256.Size]byte) map[string]string {
	return map[string]string{
		annotationTOCSum: string(appendSum(nil, sum)),
		annotationTOC:    fmt.Sprintf("%d:%d:%d:%d", t.toc.offset, t.toc.packed, t.toc.plain, tocType),
		annotationTarSpl: fmt.Sprintf("%d:%d:%d", t.split.offset, t.split.packed, t.split.plain),
	}
}

// footer says the same as the annotations, for tools that have only the blob.
func (t trailing) footer() []byte {
	var b []byte
	for _, n := range []int64{t.toc.offset, t.toc.packed, t.toc.plain, tocType, t.split.offset, t.split.packed, t.split.plain} {
		b = binary.LittleEndian.AppendUint64(b, uint64(n))
	}
	return append(b, chunkedFootMagic...)
}
