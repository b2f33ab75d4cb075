package layer

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"hash"
	"io"

	"github.com/vbatts/tar-split/archive/tar"
	"github.com/vbatts/tar-split/tar/storage"

	"github.com/lighter-oci/lighter/internal/codec"
)

// tape keeps what is read through it, so that no byte is lost to whoever parses
// it, and knows a source that fails from a tar that is odd.
type tape struct {
	r     *bufio.Reader
	bytes []byte
	err   error // of the source
}

// maxHeader bounds a header with all that extends it. The reader of tar takes
// 1 MiB for each extension, but any number of them.
const maxHeader = 8 << 20

var errHeader = errors.New("a header of more than 8 MiB")

func (t *tape) Read(p []byte) (int, error) {
	if len(t.bytes) > maxHeader {
		return 0, errHeader
	}
	n, err := t.r.Read(p)
	t.bytes = append(t.bytes, p[:n]...)
	if err != nil && err != io.EOF {
		t.err = err
	}
	return n, err
}

// content reads a file's content out of a tar, up to the end of a chunk.
type content struct {
	r     io.Reader
	left  int64 // of the file
	now   int64 // of them, in the chunk
	crc   uint64
	sum   hash.Hash // nil where a frame's sum is the file's
	ended bool      // r has
}

func (c *content) chunk(n int64) io.Reader {
	c.now = n
	return c
}

func (c *content) Read(p []byte) (int, error) {
	if c.now == 0 {
		return 0, io.EOF
	}
	n, err := c.r.Read(p[:min(int64(len(p)), c.now)])
	c.now -= int64(n)
	c.left -= int64(n)
	c.crc = crc64Update(c.crc, p[:n])
	if c.sum != nil {
		c.sum.Write(p[:n])
	}
	c.ended = err == io.EOF
	return n, err
}

// tarSplit is the tar without the files' contents, as
// github.com/vbatts/tar-split writes it: a line of JSON for each file, with the
// CRC-64 of its content, and for what stands between two. Clients need it to
// know that the files they put together are the tar that the image promises.
type tarSplit struct {
	w      *codec.Writer
	packed bytes.Buffer
	lines  int
}

func (s *tarSplit) add(e storage.Entry) error {
	e.Position = s.lines
	s.lines++
	return json.NewEncoder(s.w).Encode(e)
}

func (s *tarSplit) segment(b []byte) error {
	if len(b) == 0 {
		return nil
	}
	return s.add(storage.Entry{Type: storage.SegmentType, Payload: b})
}

func (s *tarSplit) file(hdr *tar.Header, crc uint64) error {
	e := storage.Entry{Type: storage.FileType, Name: hdr.Name, Size: hdr.Size}
	if hdr.Size > 0 {
		e.Payload = binary.BigEndian.AppendUint64(nil, crc)
	}
	return s.add(e)
}
