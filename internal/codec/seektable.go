package codec

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// The zstd seekable format (facebook/zstd, contrib/seekable_format): the last
// frame of the file is a skippable one that lists the data frames from the
// start of the file, without checksums:
//
//	5e 2a 4d 18, size │ (compressed size, content size) × n │ n, descriptor 0, b1 ea 92 8f
//
// Numbers are little-endian and of 32 bits, the descriptor of 8.
const (
	skippableMagic = 0x184D2A50 // to 0x184D2A5F
	seekTableMagic = 0x184D2A5E
	seekFootMagic  = 0x8F92EAB1
	seekFootSize   = 9
	zstdMagic      = 0xFD2FB528

	// maxTable bounds what is read of a foreign table: 1 Mi frames, of which a
	// chunked blob has two for every file, an evenly cut one 8 TiB.
	maxTable = 8 << 20
)

// span is one data frame: its length in the blob and in the tar.
type span struct{ out, in uint32 }

// appendSeekTable appends the whole skippable frame.
func appendSeekTable(b []byte, spans []span) []byte {
	le := binary.LittleEndian
	b = le.AppendUint32(b, seekTableMagic)
	b = le.AppendUint32(b, uint32(8*len(spans)+seekFootSize))
	for _, s := range spans {
		b = le.AppendUint32(b, s.out)
		b = le.AppendUint32(b, s.in)
	}
	b = le.AppendUint32(b, uint32(len(spans)))
	b = append(b, 0)
	return le.AppendUint32(b, seekFootMagic)
}

// seekFoot is what the last nine bytes of a blob say about its seek table.
type seekFoot struct {
	frames int64
	entry  int64 // bytes an entry: 8, or 12 with checksums
	start  int64 // of the table's skippable frame, in the blob
}

// readSeekFoot reads the footer and the header of the table; nil where the
// blob ends in no table. Both agree with each other and with size.
func readSeekFoot(r io.ReaderAt, size int64) (*seekFoot, error) {
	var b [seekFootSize]byte
	if size < seekFootSize+8 {
		return nil, nil
	}
	if err := readFullAt(r, b[:], size-seekFootSize); err != nil {
		return nil, fmt.Errorf("read seek table: %w", err)
	}
	le := binary.LittleEndian
	if le.Uint32(b[5:]) != seekFootMagic || b[4]&0x7f != 0 {
		return nil, nil
	}
	f := &seekFoot{frames: int64(le.Uint32(b[:])), entry: 8}
	if b[4]&0x80 != 0 {
		f.entry = 12
	}
	content := f.frames*f.entry + seekFootSize
	f.start = size - content - 8
	if f.start < 0 {
		return nil, nil
	}
	if err := readFullAt(r, b[:8], f.start); err != nil {
		return nil, fmt.Errorf("read seek table: %w", err)
	}
	if le.Uint32(b[:]) != seekTableMagic || int64(le.Uint32(b[4:])) != content {
		return nil, nil
	}
	return f, nil
}

// readFullAt fills b from off. An end of file inside b is an error.
func readFullAt(r io.ReaderAt, b []byte, off int64) error {
	n, err := r.ReadAt(b, off)
	if n == len(b) {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return err
}
