package codec

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
)

// Record is what a blob says about itself, so that "this codec at this level"
// can be told from the same codec at another one wherever the blob went:
// labels and annotations get lost in stores and registries. It is a claim by
// whoever made the blob; nothing that must be safe may rest on it.
type Record struct {
	Compression
	FrameSize int    // bytes of tar a frame
	Encoder   string // as Encoder returns it
	Epoch     *int64 // seconds that the tar's times were clamped to, where they were
	Layout    Layout // by what rule the tar was cut into frames
}

// Layout is the rule by which a tar was cut into frames. Blobs of different
// layouts differ in every byte. A version of this package that does not know
// a layout must not take its blobs for evenly cut ones, so it has no record.
type Layout string

// The layouts there are.
const (
	Even    Layout = ""        // all frames are of Record.FrameSize, but for the last
	Chunked Layout = "chunked" // a file of the tar begins a frame, none is larger than Record.FrameSize
)

// Serves tells whether the blob is what was asked for: a codec at a level, cut by
// a layout. A chunked blob is read as an even one is, and serves for one unless
// exactly that was asked for; an even one has no parts that could be fetched, and
// never serves for a chunked one. What has no record serves for nothing.
func (r *Record) Serves(want Compression, layout Layout, exactly bool) bool {
	return r != nil && r.Compression == want.Resolve() && (r.Layout == layout || layout == Even && !exactly)
}

// RecordVersion is raised when the same tar, compression, frame size and
// encoder make other bytes because this package changed. In version 2 a zstd
// frame is its own window.
const RecordVersion = 2

// maxRecord bounds a record in bytes. Its length is one byte in a zstd blob.
const maxRecord = 190

// recordJSON is the record as it is written, in this order.
type recordJSON struct {
	Version   int    `json:"lighter"`
	Codec     Codec  `json:"codec"`
	Level     int    `json:"level"`
	FrameSize int    `json:"frame"`
	Encoder   string `json:"encoder"`
	Epoch     *int64 `json:"epoch,omitempty"`
	Layout    Layout `json:"layout,omitempty"`
}

func (r Record) encode() ([]byte, error) {
	b, err := json.Marshal(recordJSON{RecordVersion, r.Codec, r.Level, r.FrameSize, r.Encoder, r.Epoch, r.Layout})
	if err != nil {
		return nil, err
	}
	if len(b) > maxRecord {
		return nil, fmt.Errorf("record of %d bytes is longer than %d: %s", len(b), maxRecord, b)
	}
	return b, nil
}

// decodeRecord returns nil for anything that is not a record of this version:
// a blob of another version is a blob like any foreign one.
func decodeRecord(b []byte, c Codec) *Record {
	var j recordJSON
	if len(b) > maxRecord || json.Unmarshal(b, &j) != nil || j.Version != RecordVersion || j.Codec != c {
		return nil
	}
	if j.Layout != Even && j.Layout != Chunked {
		return nil
	}
	return &Record{Compression{j.Codec, j.Level}, j.FrameSize, j.Encoder, j.Epoch, j.Layout}
}

// ReadRecord reads the record of a blob of size bytes, from its last few
// hundred bytes (zstd) or its first (gzip). It is nil, without an error, for
// a blob that carries none. The error is r's.
func ReadRecord(r io.ReaderAt, size int64) (*Record, error) {
	head := make([]byte, min(max(size, 0), int64(10+2+4+maxRecord)))
	if err := readFullAt(r, head, 0); err != nil {
		return nil, fmt.Errorf("read compression record: %w", err)
	}
	switch Sniff(head) {
	case Gzip:
		return gzipRecord(head), nil
	case Zstd:
		rec, err := zstdRecord(r, size)
		if err != nil {
			return nil, fmt.Errorf("read compression record: %w", err)
		}
		return rec, nil
	}
	return nil, nil
}

// gzipRecord finds the record where gzipFormat.head puts it: the only subfield
// of the first header's extra field.
func gzipRecord(head []byte) *Record {
	if len(head) < 16 || head[3]&4 == 0 || string(head[12:14]) != gzipExtraID {
		return nil
	}
	le := binary.LittleEndian
	n := int(le.Uint16(head[14:]))
	if int(le.Uint16(head[10:])) < 4+n || len(head) < 16+n {
		return nil
	}
	return decodeRecord(head[16:16+n], Gzip)
}

// zstdRecord finds the record between the data frames and the seek table.
func zstdRecord(r io.ReaderAt, size int64) (*Record, error) {
	foot, err := readSeekFoot(r, size)
	if foot == nil || err != nil {
		return nil, err
	}
	b := make([]byte, min(foot.start, 8+maxRecord+1))
	if len(b) < 9 {
		return nil, nil
	}
	if err := readFullAt(r, b, foot.start-int64(len(b))); err != nil {
		return nil, err
	}
	n := int(b[len(b)-1])
	if len(b) < 8+n+1 {
		return nil, nil
	}
	b = b[len(b)-(8+n+1):]
	if binary.LittleEndian.Uint32(b) != recordMagic || binary.LittleEndian.Uint32(b[4:]) != uint32(n+1) {
		return nil, nil
	}
	return decodeRecord(b[8:8+n], Zstd), nil
}

// Sniff tells a blob's codec from its first bytes, four of which are enough. A
// zstd blob may begin with a skippable frame (RFC 8878, section 3.1.2).
// Whatever is neither gzip nor zstd is Uncompressed, an empty prefix too.
func Sniff(prefix []byte) Codec {
	if bytes.HasPrefix(prefix, []byte{0x1f, 0x8b, 8}) {
		return Gzip
	}
	if len(prefix) < 4 {
		return Uncompressed
	}
	magic := binary.LittleEndian.Uint32(prefix)
	if magic == zstdMagic || magic&^0xf == skippableMagic {
		return Zstd
	}
	return Uncompressed
}
