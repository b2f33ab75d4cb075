package codec

import (
	"bufio"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"
)

// maxWindow is the largest zstd window that is decoded: 128 MiB, what `zstd -d`
// takes without being told to, and the most that level 22 asks for.
const maxWindow = 128 << 20

// Decoding is done in Go in every build: what is decoded came from outside, and
// memory-safe code at nine tenths of libzstd's speed (klauspost's zstd) or twice
// zlib's (our own inflater) is the better half of that bargain.

// NewReader decodes r, whatever its codec is: what is neither gzip nor zstd is
// passed through. Any number of zstd frames and gzip members is read,
// skippable frames are skipped. Memory is bounded by maxWindow whatever r
// holds. r is read ahead and not closed. Decoding one stream is not counted
// against the pool's workers: it waits for r and for its reader.
func (p *Pool) NewReader(r io.Reader) (io.ReadCloser, error) {
	if err := p.enter(); err != nil {
		return nil, err
	}
	in := bufio.NewReaderSize(r, 64<<10)
	prefix, err := in.Peek(4)
	if err != nil && err != io.EOF {
		p.leave()
		return nil, fmt.Errorf("read blob: %w", err)
	}
	d, err := p.decoder(in, Sniff(prefix))
	if err != nil {
		p.leave()
		return nil, err
	}
	return &reader{pool: p, Reader: d, close: d.Close}, nil
}

// decoder reads r, which is in codec c.
func (p *Pool) decoder(r *bufio.Reader, c Codec) (io.ReadCloser, error) {
	switch c {
	case Zstd:
		d, err := zstd.NewReader(r, zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecoderLowmem(true),
			zstd.WithDecoderConcurrency(min(p.workers, 4)))
		if err != nil {
			return nil, fmt.Errorf("zstd: %w", err)
		}
		return d.IOReadCloser(), nil
	case Gzip:
		d, err := newAhead(p, r)
		if err != nil {
			return nil, err
		}
		return d, nil
	}
	return io.NopCloser(r), nil
}

var errReaderClosed = errors.New("codec: read after close")

// reader counts a decoder out of the pool when it is closed.
type reader struct {
	io.Reader
	pool  *Pool
	close func() error
}

// WriteTo writes all that is left to w, where the decoder can from its own
// memory.
func (r *reader) WriteTo(w io.Writer) (int64, error) { return io.Copy(w, r.Reader) }

func (r *reader) Close() error {
	if r.close == nil {
		return nil
	}
	err := r.close()
	r.close, r.Reader = nil, failingReader{}
	r.pool.leave()
	return err
}

type failingReader struct{}

func (failingReader) Read([]byte) (int, error) { return 0, errReaderClosed }
