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
func how(want codec.Compression) string { return want.String() + ", " + codec.Encoder(want) }

// convert decodes a blob, holds the tar against its diffID, and makes it anew:
// in one pass, with nothing of it kept but the frames on their way.
func (c *copier) convert(ctx context.Context, j *blobJob) error {
	l, want := &j.layer, *j.want
	j.made.Is = want.String()
	if known, ok := c.opts.Journal.lookup(l.Descriptor.Digest, l.DiffID, how(want)); ok {
		if has, err := c.dst.Has(ctx, known); err != nil {
			return err
		} else if has {
			j.made.Blob, j.made.Action = known, event.LayerExists
			return nil
		}
	}
	rc, err := c.src.Fetch(ctx, l.Descriptor)
	if err != nil {
		return err
	}
	defer rc.Close()
	j.made.Action = event.LayerConverted
	j.made.Blob, err = c.upload(ctx, ocispec.Descriptor{MediaType: want.MediaType()}, func(w io.Writer) error {
		return c.recode(ctx, w, rc, j)
	})
	if err != nil {
		return err
	}
	if err := c.opts.Journal.record(l.Descriptor.Digest, l.DiffID, how(want), j.made.Blob); err != nil {
		// It costs the next conversion time, and this one nothing.
		c.report(event.Event{Warning: &event.Warning{Short: err.Error()}})
	}
	return nil
}

// recode is the pass itself.
func (c *copier) recode(ctx context.Context, dst io.Writer, blob io.Reader, j *blobJob) error {
	// The decoder may stop before the blob's end, whose digest comes last.
	whole := c.counted(blob, j.layer.Descriptor)
	tar, err := c.opts.Pool.NewReader(whole)
	if err != nil {
		return err
	}
	defer tar.Close()
	enc, err := c.opts.Pool.NewWriter(dst, codec.Options{Compression: *j.want, DiffID: true})
	if err != nil {
		return err
	}
	defer enc.Abort()
	stop := context.AfterFunc(ctx, enc.Abort)
	defer stop()
	_, err = io.Copy(enc, tar)
	if err == nil {
		_, err = io.Copy(io.Discard, whole)
	}
	if err == nil {
		err = enc.Close()
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil {
		return err
	}
	result := enc.Result()
	j.made.In = result.In
	if result.DiffID != j.layer.DiffID {
		return fmt.Errorf("%w: its tar is %s, its config says %s", ErrCorrupt, result.DiffID, j.layer.DiffID)
	}
	return nil
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
