package tune

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"hash"
	"io"
	"runtime"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/lighter-oci/lighter/internal/codec"
)

// once measures a level on some parts. What they become lies in blobs. When ctx
// ends it answers at once and leaves blobs to the frames that still compress:
// one frame at level 19 takes four seconds.
func (m *measuring) once(ctx context.Context, c codec.Compression, parts []Part, blobs [][]byte) (Round, error) {
	type answer struct {
		r   Round
		err error
	}
	done := make(chan answer, 1)
	go func() {
		r, err := m.measure(ctx, c, parts, blobs)
		done <- answer{r, err}
	}()
	select {
	case a := <-done:
		if a.err != nil && ctx.Err() == nil {
			return a.r, fmt.Errorf("%s: %w", c, a.err)
		}
		if a.err == nil {
			return a.r, nil
		}
	case <-ctx.Done():
	}
	return Round{}, context.Cause(ctx)
}

// measure does it.
func (m *measuring) measure(ctx context.Context, c codec.Compression, parts []Part, blobs [][]byte) (Round, error) {
	var r Round
	cpu, started := cpuTime(), time.Now()
	if err := m.compress(ctx, c, parts, blobs); err != nil {
		return r, err
	}
	r.Compress, r.CPU = time.Since(started), cpuTime()-cpu
	started = time.Now()
	for i, p := range parts {
		d, err := m.o.Pool.NewReader(bytes.NewReader(blobs[i]))
		if err == nil {
			err = drain(ctx, d, p.Sampled())
		}
		if err != nil {
			return r, fmt.Errorf("decode: %w", err)
		}
	}
	r.Decode = time.Since(started)
	if c.Codec != codec.Zstd {
		return r, nil
	}
	started = time.Now()
	for i, p := range parts {
		d, err := m.o.Pool.NewParallelReader(bytes.NewReader(blobs[i]), int64(len(blobs[i])))
		if err == nil {
			err = drain(ctx, d, p.Sampled())
		}
		if err != nil {
			return r, fmt.Errorf("decode in parallel: %w", err)
		}
	}
	r.Parallel = time.Since(started)
	return r, nil
}

// compress makes all parts into blobs, as many at a time as there are workers:
// so a build exports its layers.
func (m *measuring) compress(ctx context.Context, c codec.Compression, parts []Part, blobs [][]byte) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(max(2, runtime.GOMAXPROCS(0)))
	for i, p := range parts {
		g.Go(func() error {
			out := &blob{sha256.New(), blobs[i][:0]}
			err := m.compressPart(ctx, c, p, out)
			blobs[i] = out.data
			return err
		})
	}
	return g.Wait()
}

func (m *measuring) compressPart(ctx context.Context, c codec.Compression, p Part, dst io.Writer) error {
	w, err := m.o.Pool.NewWriter(dst, codec.Options{Compression: c, DiffID: true})
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, w.Abort)()
	defer w.Abort()
	for _, piece := range p.Pieces {
		if _, err := w.Write(piece); err != nil {
			return err
		}
	}
	return w.Close()
}

// blob keeps what is written, and hashes it as every destination must.
type blob struct {
	hash hash.Hash
	data []byte
}

func (b *blob) Write(p []byte) (int, error) {
	b.hash.Write(p)
	b.data = append(b.data, p...)
	return len(p), nil
}

// drain reads a decoder to its end, which has to be where the sample's is.
func drain(ctx context.Context, d io.ReadCloser, want int64) error {
	defer d.Close()
	n, err := io.Copy(io.Discard, &stoppable{ctx, d})
	if err == nil && n != want {
		err = fmt.Errorf("%d bytes came out and %d had gone in", n, want)
	}
	return err
}

// hashed is how much of a sample is enough to see how fast sha256 is, bytes: a
// fifth of a second at 300 MB/s, which is a core without SHA instructions.
const hashed = 64 << 20

// hash measures sha256 on one core.
func (m *measuring) hash(ctx context.Context) error {
	sha, n, started := sha256.New(), int64(0), time.Now()
	for _, p := range m.sample.Parts {
		for _, b := range p.Pieces {
			if n >= hashed {
				break
			}
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			sha.Write(b)
			n += int64(len(b))
		}
	}
	m.result.Hash = append(m.result.Hash, time.Since(started))
	m.result.HashBytes = n
	return nil
}
