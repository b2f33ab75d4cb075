package layer

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"

	"github.com/opencontainers/go-digest"
	"github.com/vbatts/tar-split/archive/tar"

	"github.com/lighter-oci/lighter/internal/codec"
)

// A zstd:chunked layer is a zstd blob that any decoder turns into the tar, and
// of which containers/storage (podman, CRI-O, Buildah) fetches only the files
// that it does not have:
//
//	frames of the tar, each file's content in frames of its own
//	table of contents: JSON, zstd, in a skippable frame
//	the tar without the files' contents: tar-split, zstd, in a skippable frame
//	footer of zstd:chunked in a skippable frame
//	lighter's record, seek table, as in every zstd blob of codec
//
// The format is what pkg/chunked/compressor and pkg/chunked/internal/minimal of
// github.com/containers/storage (go.podman.io/storage since 2025) write.
//
// Both its footer and the footer of the seek table want to be the last bytes
// of the blob, and the seek table's are, because nobody pulls by the other.
// containers/storage goes by the annotations of the layer's descriptor and
// makes no attempt where the checksum's is missing. Up to 1.5x its code still
// took the position from a footer when that annotation alone was missing, which
// no writer makes, and which failed whenever it was tried (issue 1886 there,
// April 2024); then it was removed, and the comment on the footer now is "our
// implementation never reads it". containers/zstd-chunked-rs offers both ways
// to its callers. The stargz snapshotter's estargz/zstdchunked does read the end,
// but a footer of 40 bytes from before 2023, and other annotations.

// chunkSize is the most of a file that one frame holds. Larger files have a
// digest for each chunk. Buildah ends chunks where a rolling sum says, every
// 64 KiB on average, for the sake of files that changed a little. But of what two
// versions of an image share 96–99 % are whole files; podman 5.8 was seen to
// reuse no chunk of a changed file, not of Buildah's layers either; and small
// frames are large: frames for files alone make Debian's base layer at level 3
// 65.0 MB instead of 51.1, Buildah's at its level 3 are 68.0. 4 MiB cost 0.3–0.7 %
// against one stream; with larger ones more of the buffers would stay unused.
const chunkSize = 4 << 20

// ChunkedOptions say what WriteChunked makes. The zero value is zstd:3.
type ChunkedOptions struct {
	Compression codec.Compression // zstd
	Epoch       *int64            // as in codec.Options
}

// Chunked is a layer that WriteChunked made.
type Chunked struct {
	DiffID  digest.Digest
	TarSize int64
	Size    int64 // of the blob
	Frames  int   // data frames

	// Annotations belong on the layer's descriptor: without them no client
	// fetches parts of the blob. There are none where Plain says why.
	Annotations map[string]string

	// Plain is why there is no table of contents: the tar has something in it
	// that clients would fail on if they followed a table, and not if they
	// read the tar, or nothing worth fetching by range. The blob is zstd as
	// any other then. "" where there is a table.
	Plain string
}

// WriteChunked makes a zstd:chunked blob of the tar on dst. Whatever tar it is,
// the blob decodes to the very same bytes. Compression is the pool's; files'
// digests are taken where they are compressed, on any core, but for those
// larger than chunkSize. Besides the pool's buffers it holds about 300 bytes of
// memory for each entry, and the compressed tar-split.
func WriteChunked(ctx context.Context, dst io.Writer, tarball io.Reader, pool *codec.Pool, o ChunkedOptions) (Chunked, error) {
	c := &chunker{in: tape{r: bufio.NewReaderSize(tarball, 128<<10)}, tree: tree{names: map[string]byte{}}}
	if err := c.open(pool, dst, o); err != nil {
		return Chunked{}, fmt.Errorf("chunked layer: %w", err)
	}
	defer c.abort()
	defer context.AfterFunc(ctx, c.abort)()
	err := c.run()
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	if err != nil {
		return Chunked{}, fmt.Errorf("chunked layer: %w", err)
	}
	res := c.w.Result()
	return Chunked{res.DiffID, res.In, res.Out, res.Frames, c.annotations, c.plain}, nil
}

// chunker makes one layer.
type chunker struct {
	in    tape
	w     *codec.Writer
	split tarSplit
	toc   toc
	tree  tree
	pos   int64  // in the tar, up to the last header
	plain string // Chunked.Plain

	annotations map[string]string
}

func (c *chunker) open(pool *codec.Pool, dst io.Writer, o ChunkedOptions) (err error) {
	bare := codec.Options{Compression: o.Compression, FrameSize: chunkSize, Bare: true}
	if c.split.w, err = pool.NewWriter(&c.split.packed, bare); err != nil {
		return err
	}
	if c.toc.w, err = pool.NewWriter(&c.toc.packed, bare); err == nil {
		c.w, err = pool.NewWriter(dst, codec.Options{Compression: o.Compression, FrameSize: chunkSize, DiffID: true,
			Epoch: o.Epoch, Layout: codec.Chunked, Trailer: c.trailer})
	}
	if err != nil {
		c.abort()
	}
	return err
}

// abort does nothing to writers that were closed.
func (c *chunker) abort() {
	for _, w := range []*codec.Writer{c.split.w, c.toc.w, c.w} {
		if w != nil {
			w.Abort()
		}
	}
}

func (c *chunker) run() error {
	for pad := int64(0); ; {
		meta, hdr, err := c.next(pad)
		if err != nil {
			return err
		}
		if _, err := c.w.Write(meta); err != nil {
			return err
		}
		c.pos += int64(len(meta))
		if c.plain != "" {
			return c.finish()
		}
		if err := c.split.segment(meta); err != nil {
			return err
		}
		if hdr == nil {
			return c.finish()
		}
		if err := c.file(hdr); err != nil {
			return err
		}
		if c.plain != "" {
			return c.finish()
		}
		pad = -hdr.Size & 511
	}
}

// next reads the padding of the file before and the next entry's header with
// all that extends it. meta are these bytes as they are in the tar; hdr is nil
// at the archive's end. The reader of tar is the one that clients have, because
// they hold the table of contents against what it says.
func (c *chunker) next(pad int64) (meta []byte, hdr *tar.Header, err error) {
	c.in.bytes = c.in.bytes[:0]
	n, err := io.CopyN(io.Discard, &c.in, pad)
	if err == nil {
		hdr, err = tar.NewReader(&c.in).Next()
	}
	switch {
	case c.in.err != nil:
		return nil, nil, c.in.err
	case n < pad:
		c.give("the tar ends within padding")
	case err == nil:
		c.give(c.tree.admit(hdr))
	case err != io.EOF:
		c.give(err.Error())
	}
	return c.in.bytes, hdr, nil
}

// file writes the content that follows a header, a frame for each chunk, and
// puts the entry down.
func (c *chunker) file(hdr *tar.Header) error {
	content := content{r: c.in.r, left: hdr.Size}
	if hdr.Size > chunkSize {
		content.sum = sha256.New()
	}
	start := c.pos
	for content.left > 0 && !content.ended {
		n := min(content.left, chunkSize)
		if err := c.w.BeginFrame(int(n), true); err != nil {
			return err
		}
		if _, err := c.w.ReadFrom(content.chunk(n)); err != nil {
			return err
		}
	}
	c.pos += hdr.Size - content.left
	if hdr.Size > 0 {
		if err := c.w.BeginFrame(0, false); err != nil {
			return err
		}
	}
	if content.left > 0 {
		c.give("the tar ends within a file")
		return nil
	}
	if err := c.toc.add(hdr, start, content.sum); err != nil {
		c.give(err.Error())
		return nil
	}
	return c.split.file(hdr, content.crc)
}

// finish writes what follows the last entry, usually blocks of zeros, or, for
// a plain layer, all that is left, and closes the blob.
func (c *chunker) finish() error {
	for buf := make([]byte, 32<<10); c.plain == ""; {
		n, err := io.ReadFull(c.in.r, buf)
		if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
			return err
		}
		if _, err := c.w.Write(buf[:n]); err != nil {
			return err
		}
		// Clients take each segment of tar-split for headers and stumble over
		// anything else.
		if n%512 != 0 || bytes.Trim(buf[:n], "\x00") != nil {
			c.give("the tar goes on behind its end")
		} else if n > 0 {
			if err := c.split.segment(buf[:n]); err != nil {
				return err
			}
		}
		if err != nil {
			break
		}
	}
	c.give(c.tree.whole())
	if c.toc.content == 0 {
		c.give("no file has content")
	}
	if c.plain != "" {
		if _, err := c.w.ReadFrom(c.in.r); err != nil {
			return err
		}
	} else if err := c.split.w.Close(); err != nil {
		return err
	}
	return c.w.Close()
}

// trailer is what stands between frames and record. It runs when all frames
// are written, while finish waits for Close.
func (c *chunker) trailer(frames []codec.Frame) ([][]byte, error) {
	if c.plain != "" {
		return nil, nil
	}
	splitSum := sha256.Sum256(c.split.packed.Bytes())
	end, err := c.toc.write(frames, splitSum)
	if err != nil {
		return nil, err
	}
	at := trailing{
		toc:   position{end + 8, int64(c.toc.packed.Len()), c.toc.w.Result().In},
		split: position{end + 8 + int64(c.toc.packed.Len()) + 8, int64(c.split.packed.Len()), c.split.w.Result().In},
	}
	if at.toc.plain > maxTOC {
		c.give(fmt.Sprintf("a table of contents of %d bytes, more than clients take", at.toc.plain))
		return nil, nil
	}
	c.annotations = at.annotations(sha256.Sum256(c.toc.packed.Bytes()))
	return [][]byte{c.toc.packed.Bytes(), c.split.packed.Bytes(), at.footer()}, nil
}

// give gives the table of contents up, for the first reason there is.
func (c *chunker) give(why string) {
	if c.plain == "" {
		c.plain = why
	}
}
