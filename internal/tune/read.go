package tune

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/lighter-oci/lighter/internal/codec"
	"github.com/lighter-oci/lighter/internal/event"
	"github.com/lighter-oci/lighter/internal/image"
)

// Layers are where a sample is taken from: one platform of an image, or a
// directory.
type Layers struct {
	Platform string
	Foreign  int // layers that the source does not have
	streams  []stream
}

// stream is the tar of one layer.
type stream struct {
	part Part
	size int64 // of what is read, for progress; 0 where that is not known
	diff digest.Digest
	// open answers the tar. counted wraps what is read from outside.
	open func(ctx context.Context, counted func(io.Reader) io.Reader) (io.ReadCloser, error)
}

// Problem is something about an image or a directory that its user can mend.
type Problem struct {
	Err  error
	Next string
}

func (e *Problem) Error() string { return e.Err.Error() }

// Unwrap is the error without the next step.
func (e *Problem) Unwrap() error { return e.Err }

// Hint is the next step.
func (e *Problem) Hint() string { return e.Next }

func noLayers(foreign int) error {
	err := errors.New("it has no layers")
	if foreign > 0 {
		err = fmt.Errorf("all of its layers (%d) are foreign ones, which lie elsewhere", foreign)
	}
	return &Problem{err, "name an image with layers of its own, or dir:PATH"}
}

// ImageLayers are the layers of one manifest, each blob once. Blobs are
// verified while they are read, and so are their tars.
func ImageLayers(src image.Source, m *image.Manifest, pool *codec.Pool) (*Layers, error) {
	out := &Layers{Platform: m.Platform}
	seen := map[digest.Digest]bool{}
	for _, l := range m.Layers {
		switch {
		case l.Foreign:
			out.Foreign++
			continue
		case seen[l.Descriptor.Digest]:
			continue
		}
		seen[l.Descriptor.Digest] = true
		out.streams = append(out.streams, stream{
			part: Part{Name: l.Descriptor.Digest.String(), Blob: l.Descriptor.Size}, size: l.Descriptor.Size, diff: l.DiffID,
			open: func(ctx context.Context, counted func(io.Reader) io.Reader) (io.ReadCloser, error) {
				return openLayer(ctx, src, l, pool, counted)
			},
		})
	}
	if len(out.streams) == 0 {
		return nil, noLayers(out.Foreign)
	}
	return out, nil
}

// openLayer fetches a blob and decodes it.
func openLayer(ctx context.Context, src image.Source, l image.Layer, pool *codec.Pool, counted func(io.Reader) io.Reader) (io.ReadCloser, error) {
	blob, err := src.Fetch(ctx, l.Descriptor)
	if err != nil {
		return nil, err
	}
	whole := counted(blob)
	dec, err := pool.NewReader(whole)
	if err != nil {
		return nil, errors.Join(err, blob.Close())
	}
	return &layerReader{dec, whole, blob}, nil
}

// layerReader reads a decoded blob, and behind its last byte the rest of the
// blob: the decoder may stop before the end, where the digest is verified.
type layerReader struct {
	dec   io.ReadCloser
	whole io.Reader
	blob  io.Closer
}

func (r *layerReader) Read(p []byte) (int, error) {
	n, err := r.dec.Read(p)
	if err == io.EOF {
		if _, rest := io.Copy(io.Discard, r.whole); rest != nil {
			err = rest
		}
	}
	return n, err
}

func (r *layerReader) Close() error { return errors.Join(r.dec.Close(), r.blob.Close()) }

// ReadSample reads all layers once and keeps at most limit bytes of them in
// memory, and one piece of 8 MiB more while it reads; a limit of 0 keeps all.
// report, which may be nil, is told how far it got.
func ReadSample(ctx context.Context, l *Layers, limit int64, report func(event.Event)) (*Sample, error) {
	s := newSampler(limit)
	p := &progress{report: report}
	for _, st := range l.streams {
		p.total += st.size
	}
	for _, st := range l.streams {
		err := readStream(ctx, s, st, p)
		switch {
		case err == nil:
		case ctx.Err() != nil:
			return nil, context.Cause(ctx)
		case errors.Is(err, fs.ErrPermission) && st.diff == "":
			return nil, &Problem{err, "run it as a user who may read all of it, or name another directory"}
		case errors.Is(err, image.ErrCorrupt):
			return nil, &Problem{err, "copy or build the image again"}
		default:
			return nil, err
		}
	}
	out := s.sample()
	if out.Entries == 0 {
		return nil, &Problem{errors.New("there are no files in it"), "name an image or a directory with files"}
	}
	return out, nil
}

// readStream reads one layer into the sampler. Its errors name it.
func readStream(ctx context.Context, s *sampler, st stream, p *progress) (err error) {
	what := "layer " + st.part.Name
	if st.diff == "" {
		what = st.part.Name
	}
	r, err := st.open(ctx, p.counted)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	defer func() {
		if closing := r.Close(); err == nil && closing != nil {
			err = fmt.Errorf("%s: %w", what, closing)
		}
	}()
	s.begin(st.part)
	digester := digest.SHA256.Digester()
	tee := io.TeeReader(&stoppable{ctx, r}, io.MultiWriter(s, digester.Hash()))
	entries, err := countEntries(tee)
	if err == nil {
		_, err = io.Copy(io.Discard, tee) // what stands behind the tar's end
	}
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	s.end(entries)
	if got := digester.Digest(); st.diff != "" && st.diff.Algorithm() == digest.SHA256 && got != st.diff {
		return fmt.Errorf("%s: %w: its tar is %s, its config says %s", what, image.ErrCorrupt, got, st.diff)
	}
	return nil
}

// countEntries reads a tar to its end.
func countEntries(r io.Reader) (int64, error) {
	tr := tar.NewReader(r)
	for n := int64(0); ; n++ {
		_, err := tr.Next()
		if err == io.EOF {
			return n, nil
		}
		if errors.Is(err, tar.ErrHeader) {
			return n, fmt.Errorf("%w: it is no tar after %d entries", image.ErrCorrupt, n)
		}
		if err != nil {
			return n, err
		}
	}
}

// stoppable is a reader that stops when ctx does.
type stoppable struct {
	ctx context.Context
	r   io.Reader
}

func (s *stoppable) Read(p []byte) (int, error) {
	if s.ctx.Err() != nil {
		return 0, context.Cause(s.ctx)
	}
	return s.r.Read(p)
}

// progress counts what is read of all layers.
type progress struct {
	report             func(event.Event)
	read, total, shown int64
}

func (p *progress) counted(r io.Reader) io.Reader { return &countedReader{r, p} }

type countedReader struct {
	io.Reader
	p *progress
}

func (c *countedReader) Read(b []byte) (int, error) {
	n, err := c.Reader.Read(b)
	p := c.p
	p.read += int64(n)
	if p.report != nil && (p.read-p.shown >= 1<<20 || err == io.EOF) {
		p.shown = p.read
		p.report(event.Event{Time: time.Now(), Progress: &event.Progress{Step: StepRead, ID: StepRead, Current: p.read, Total: p.total}})
	}
	return n, err
}

// Choose picks the manifest of a platform ("linux/arm64"), or, for "", the one
// of preferred, or the only one.
func Choose(img *image.Image, platform, preferred string) (*image.Manifest, error) {
	var images []*image.Manifest
	var names []string
	for _, m := range img.Manifests {
		if m.IsImage() {
			images = append(images, m)
			names = append(names, m.Platform)
		}
	}
	if len(images) == 0 {
		return nil, noLayers(0)
	}
	want := platform
	if want == "" && len(images) > 1 {
		want = preferred
	}
	if want == "" {
		return images[0], nil
	}
	if i := slices.Index(names, want); i >= 0 {
		return images[i], nil
	}
	return nil, &Problem{fmt.Errorf("it has no %s", want), fmt.Sprintf("use --platform with one of %s", strings.Join(names, ", "))}
}
