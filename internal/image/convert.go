package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/lighter-oci/lighter/internal/codec"
	"github.com/lighter-oci/lighter/internal/event"
	"github.com/lighter-oci/lighter/internal/layer"
)

// ErrUploadLost is wrapped by an Upload that cannot be repaired, because the
// destination has lost more of it than is kept here. Starting the blob again
// may help.
var ErrUploadLost = errors.New("the destination lost the upload")

// uploadAttempts is how often a blob is started.
const uploadAttempts = 3

// bring makes one blob appear at the destination, as it is or converted.
func (c *copier) bring(ctx context.Context, j *blobJob) error {
	started := time.Now()
	err := c.place(ctx, j)
	for attempt := 1; errors.Is(err, ErrUploadLost) && attempt < uploadAttempts && ctx.Err() == nil; attempt++ {
		err = c.place(ctx, j)
	}
	if err != nil {
		return err
	}
	j.made.Took = time.Since(started)
	if !j.config {
		m := j.made
		c.report(event.Event{Layer: &event.Layer{Action: m.Action, Digest: m.Blob.Digest.String(), DiffID: m.DiffID.String(),
			Codec: m.Is, In: m.In, Out: m.Blob.Size, Took: m.Took}})
	}
	return nil
}

// place is one attempt.
func (c *copier) place(ctx context.Context, j *blobJob) error {
	if j.want != nil {
		return c.convert(ctx, j)
	}
	desc := j.layer.Descriptor
	j.made.Blob, j.made.Is = desc, j.made.Was
	if has, err := c.dst.Has(ctx, desc); err != nil || has {
		j.made.Action = event.LayerExists
		return err
	}
	if c.opts.From != (Reference{}) {
		if mounted, err := c.dst.Mount(ctx, desc, c.opts.From); err != nil || mounted {
			j.made.Action = event.LayerMounted
			return err
		}
	}
	j.made.Action = event.LayerPushed
	rc, err := c.src.Fetch(ctx, desc)
	if err != nil {
		return err
	}
	defer rc.Close()
	_, err = c.upload(ctx, desc, func(w io.Writer) error {
		_, err := io.Copy(w, c.counted(rc, desc))
		return err
	})
	return err
}

// upload sends what fill writes and answers the blob.
func (c *copier) upload(ctx context.Context, desc ocispec.Descriptor, fill func(io.Writer) error) (ocispec.Descriptor, error) {
	up, err := c.dst.Upload(ctx)
	if err != nil {
		return desc, err
	}
	defer up.Abort()
	if err := fill(up); err != nil {
		return desc, err
	}
	if desc.Digest == "" {
		desc.Digest, desc.Size = up.Written()
	}
	return desc, up.Commit(ctx, desc)
}

// how names everything that the bytes of a converted blob depend on.
func (c *copier) how(want codec.Compression) string {
	s := fmt.Sprintf("%s, %s, record %d", want, codec.Encoder(want), codec.RecordVersion)
	if layout := c.layout(&want); layout != codec.Even {
		s += ", " + string(layout)
	}
	return s
}

// convert decodes a blob, holds the tar against its diffID, and makes it anew:
// in one pass, with nothing of it kept but the frames on their way.
func (c *copier) convert(ctx context.Context, j *blobJob) error {
	l, want := &j.layer, *j.want
	j.made.Is = want.String()
	if known, ok := c.opts.Journal.lookup(l.Descriptor.Digest, l.DiffID, c.how(want)); ok {
		if has, err := c.dst.Has(ctx, known); err != nil {
			return err
		} else if has {
			j.made.Blob, j.made.Action = known, event.LayerExists
			if known.Annotations != nil {
				j.made.Is = asChunked(j.made.Is)
			}
			return nil
		}
	}
	rc, err := c.src.Fetch(ctx, l.Descriptor)
	if err != nil {
		return err
	}
	defer rc.Close()
	j.made.Action = event.LayerConverted
	var annotations map[string]string
	j.made.Blob, err = c.upload(ctx, ocispec.Descriptor{MediaType: want.MediaType()}, func(w io.Writer) error {
		annotations, err = c.recode(ctx, w, rc, j)
		return err
	})
	if err != nil {
		return err
	}
	j.made.Blob.Annotations = annotations
	if annotations != nil {
		j.made.Is = asChunked(j.made.Is)
	}
	if err := c.opts.Journal.record(l.Descriptor.Digest, l.DiffID, c.how(want), j.made.Blob); err != nil {
		// It costs the next conversion time, and this one nothing.
		c.report(event.Event{Warning: &event.Warning{Short: err.Error()}})
	}
	return nil
}

// recode is the pass itself. It answers the annotations that belong to the new
// blob.
func (c *copier) recode(ctx context.Context, dst io.Writer, blob io.Reader, j *blobJob) (map[string]string, error) {
	// The decoder may stop before the blob's end, whose digest comes last.
	whole := c.counted(blob, j.layer.Descriptor)
	tar, err := c.opts.Pool.NewReader(whole)
	if err != nil {
		return nil, err
	}
	defer tar.Close()
	encode := c.encode
	if c.layout(j.want) == codec.Chunked {
		encode = c.encodeChunked
	}
	made, err := encode(ctx, dst, io.MultiReader(decoded{tar}, drained{whole}), *j.want)
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if err != nil {
		return nil, err
	}
	j.made.In = made.TarSize
	if made.DiffID != j.layer.DiffID {
		return nil, fmt.Errorf("%w: its tar is %s, its config says %s", ErrCorrupt, made.DiffID, j.layer.DiffID)
	}
	return made.Annotations, nil
}

// decoded is a tar whose errors have a next step.
type decoded struct{ io.Reader }

func (d decoded) Read(p []byte) (int, error) {
	n, err := d.Reader.Read(p)
	var hinted interface{ Hint() string }
	if err != nil && err != io.EOF && !errors.As(err, &hinted) {
		err = &undecodableError{err}
	}
	return n, err
}

// undecodableError is a blob that no decoder takes.
type undecodableError struct{ error }

func (e *undecodableError) Unwrap() error { return e.error }

// Hint is the next step.
func (e *undecodableError) Hint() string { return damaged }

// drained reads what is left of a blob behind its tar, and gives out nothing.
type drained struct{ io.Reader }

func (d drained) Read([]byte) (int, error) {
	if _, err := io.Copy(io.Discard, d.Reader); err != nil {
		return 0, err
	}
	return 0, io.EOF
}

// encode makes a plain blob.
func (c *copier) encode(ctx context.Context, dst io.Writer, tar io.Reader, want codec.Compression) (layer.Chunked, error) {
	var made layer.Chunked
	enc, err := c.opts.Pool.NewWriter(dst, codec.Options{Compression: want, DiffID: true})
	if err != nil {
		return made, err
	}
	defer enc.Abort()
	stop := context.AfterFunc(ctx, enc.Abort)
	defer stop()
	if _, err := io.Copy(enc, tar); err != nil {
		return made, err
	}
	if err := enc.Close(); err != nil {
		return made, err
	}
	made.DiffID, made.TarSize = enc.Result().DiffID, enc.Result().In
	return made, nil
}

// encodeChunked makes a zstd:chunked one.
func (c *copier) encodeChunked(ctx context.Context, dst io.Writer, tar io.Reader, want codec.Compression) (layer.Chunked, error) {
	return layer.WriteChunked(ctx, dst, tar, c.opts.Pool, layer.ChunkedOptions{Compression: want})
}

// progressStep is how many bytes of a blob pass between two reports.
const progressStep = 1 << 20

// counted reports how far a blob has been read.
func (c *copier) counted(r io.Reader, desc ocispec.Descriptor) io.Reader {
	if c.opts.Report == nil || desc.Size < progressStep {
		return r
	}
	return &counter{r: r, report: func(n int64) {
		c.report(event.Event{Progress: &event.Progress{Step: "copy", ID: desc.Digest.String(), Current: n, Total: desc.Size}})
	}}
}

type counter struct {
	r       io.Reader
	n, said int64
	report  func(int64)
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	if c.n-c.said >= progressStep || err == io.EOF && c.said < c.n {
		c.said = c.n
		c.report(c.n)
	}
	return n, err
}
