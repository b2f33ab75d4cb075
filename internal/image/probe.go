package image

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/lighter-oci/lighter/internal/codec"
)

// What is read of a layer at once, in bytes. The head holds the magic bytes
// and a gzip blob's record (206 bytes). The tail holds a zstd blob's record
// and, behind it, the seek table: 8 bytes for each 8 MiB of tar, so that 16 KiB
// are enough for 15 GiB. A bigger tail would cost more than another request.
const (
	headBytes = 1 << 10
	tailBytes = 16 << 10
)

// probeLayers reads the first and last bytes of every layer of every image,
// each blob once.
func (r *reader) probeLayers(ctx context.Context) error {
	type blob struct {
		digest digest.Digest
		size   int64
	}
	users := map[blob][]*Layer{}
	var order []blob
	for _, m := range r.img.Manifests {
		if !m.IsImage() {
			continue
		}
		for i := range m.Layers {
			l := &m.Layers[i]
			if l.Foreign {
				continue
			}
			key := blob{l.Descriptor.Digest, l.Descriptor.Size}
			if users[key] == nil {
				order = append(order, key)
			}
			users[key] = append(users[key], l)
		}
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(r.opts.Concurrency)
	for _, key := range order {
		g.Go(func() error {
			layers := users[key]
			if err := probe(ctx, r.src, layers[0]); err != nil {
				return fmt.Errorf("layer %s: %w", key.digest, err)
			}
			for _, l := range layers[1:] {
				l.Codec, l.Record, l.RecordErr, l.Frames = layers[0].Codec, layers[0].Record, layers[0].RecordErr, layers[0].Frames
			}
			return nil
		})
	}
	return g.Wait()
}

// probe finds the layer's codec, record and frames.
func probe(ctx context.Context, src Source, l *Layer) error {
	if l.Descriptor.Size == 0 { // there is nothing to read that could be found out
		if err := CheckContent(l.Descriptor, nil); err != nil {
			return err
		}
	}
	w := &window{ctx: ctx, src: src, desc: l.Descriptor}
	magic := make([]byte, min(4, l.Descriptor.Size))
	if _, err := w.ReadAt(magic, 0); err != nil {
		return err
	}
	l.Codec = codec.Sniff(magic)
	rec, err := codec.ReadRecord(w, l.Descriptor.Size)
	if errors.Is(err, ErrNoRange) {
		l.RecordErr = err
		return nil
	}
	l.Record = rec
	if err == nil && l.Codec == codec.Zstd {
		l.Frames, err = codec.ReadFrames(w, l.Descriptor.Size)
	}
	return err
}

// window reads a remote blob at random, keeping its head and its tail: reading
// a record is three or four small reads, and should be two requests.
type window struct {
	ctx  context.Context
	src  Source
	desc ocispec.Descriptor

	head, tail []byte // nil until fetched
}

// ReadAt implements io.ReaderAt for one goroutine. It never answers fewer bytes
// than asked without an error.
func (w *window) ReadAt(p []byte, off int64) (int, error) {
	size, end := w.desc.Size, off+int64(len(p))
	if off < 0 || end > size {
		return 0, fmt.Errorf("read %d bytes at %d of %d: %w", len(p), off, size, io.ErrUnexpectedEOF)
	}
	headEnd := min(headBytes, size)
	if size <= headBytes+tailBytes {
		headEnd = size
	}
	tailStart := max(headEnd, size-tailBytes)
	var err error
	switch {
	case len(p) == 0:
		return 0, nil
	case end <= headEnd:
		if w.head == nil {
			w.head, err = w.fetch(0, headEnd)
		}
		return copy(p, w.head[min(off, int64(len(w.head))):]), err
	case off >= tailStart:
		if w.tail == nil {
			w.tail, err = w.fetch(tailStart, size)
		}
		return copy(p, w.tail[min(off-tailStart, int64(len(w.tail))):]), err
	}
	b, err := w.fetch(off, end)
	return copy(p, b), err
}

// fetch answers exactly the bytes from start to end, or nil and an error.
func (w *window) fetch(start, end int64) ([]byte, error) {
	rc, err := w.src.FetchRange(w.ctx, w.desc, start, end-start)
	if err != nil {
		return nil, err
	}
	b := make([]byte, end-start)
	n, err := io.ReadFull(rc, b)
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		err = fmt.Errorf("%w: it ends at byte %d of %d", ErrCorrupt, start+int64(n), w.desc.Size)
	}
	if closeErr := rc.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return nil, err
	}
	return b, nil
}
