package image

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/lighter-oci/lighter/internal/codec"
	"github.com/lighter-oci/lighter/internal/event"
)

// CopyOptions say what a Copy changes on the way. The zero value changes
// nothing.
type CopyOptions struct {
	// Variants are what the layers of every image become, each a variant of its
	// own in the index, in this order. None leaves all layers as they are.
	Variants []codec.Compression
	// Chunked makes zstd layers zstd:chunked, of which podman and CRI-O fetch only
	// the files that they lack.
	Chunked bool
	// Force makes layers of the right codec anew whose level nobody knows, and,
	// without Chunked, those that are zstd:chunked.
	Force bool
	// Base are the diffIDs of layers that came with a base image: they stay as
	// they are, unless Force. In gzip beside another variant none stays zstd,
	// which the clients that it is for cannot read.
	Base []digest.Digest
	// Pool compresses; needed with Variants.
	Pool *codec.Pool
	// Journal remembers layers that were converted before; nil remembers none.
	Journal *Journal
	// From is where the source lies, for a destination in the same registry; the
	// zero value is a source elsewhere.
	From Reference
	// Layers is how many layers are on their way at a time; 0 is 4. Compression
	// is bounded by Pool, whatever this is.
	Layers int
	// Report is told what happens, from one goroutine at a time; nil is told
	// nothing.
	Report func(event.Event)
}

// Copied is what a Copy did.
type Copied struct {
	Source *Image             // as it was read
	Root   ocispec.Descriptor // at the destination
	Layers []CopiedLayer      // each blob once, in the order of the source
	// Replaced maps manifests and indexes to what stands for them now, where
	// that is something else. Signatures of the old ones do not follow.
	Replaced map[digest.Digest]digest.Digest
}

// CopiedLayer is what became of one blob in one variant.
type CopiedLayer struct {
	Action   event.LayerAction
	Platform string
	Source   ocispec.Descriptor
	Was      string // "gzip", "zstd:3", "zstd:chunked:3"
	Blob     ocispec.Descriptor
	Is       string // the same of Blob
	DiffID   digest.Digest
	In       int64         // bytes of tar, where it was decoded
	Took     time.Duration // of what travelled or was made
}

// Copy copies the image that ref stands for, all its platforms and
// attestations, and converts its layers as opts say. Tags are set last, when
// everything that they stand for is there. DiffIDs, and with them configs,
// never change. A layer that is converted and is not what its config says is an
// error; one that stays is brought over byte for byte, and not decoded.
//
// What the destination holds is not sent, what another repository of the same
// registry holds is mounted, and each blob is handled once, however many
// platforms share it.
func Copy(ctx context.Context, src Source, ref string, dst Target, names []string, opts CopyOptions) (*Copied, error) {
	img, err := Read(ctx, src, ref, ReadOptions{})
	if err != nil {
		return nil, err
	}
	if opts.Layers <= 0 {
		opts.Layers = 4
	}
	if len(opts.Variants) > 0 && opts.Pool == nil {
		return nil, fmt.Errorf("copy of %s: converting needs a pool", img.Root.Digest)
	}
	c := &copier{src: src, dst: dst, opts: opts, img: img, blobs: map[blobKey]*blobJob{}, manifests: map[digest.Digest]*Manifest{}}
	for _, m := range img.Manifests {
		c.manifests[m.Descriptor.Digest] = m
	}
	if err := c.transfer(ctx); err != nil {
		return nil, err
	}
	return c.publish(ctx, names)
}

// copier is the state of one Copy.
type copier struct {
	src  Source
	dst  Target
	opts CopyOptions
	img  *Image

	manifests map[digest.Digest]*Manifest
	blobs     map[blobKey]*blobJob
	order     []*blobJob
	reporting sync.Mutex
}

// blobKey is one thing to do: a blob, and what it shall be ("" to leave it).
type blobKey struct {
	digest digest.Digest
	how    string
}

// blobJob is that, and what came of it.
type blobJob struct {
	layer  Layer // its Codec is "" for configs and what artifacts are made of
	made   CopiedLayer
	want   *codec.Compression // nil to leave it
	config bool
}

// variants are what is made of an image: one that changes nothing where none
// was asked for.
func (c *copier) variants() []*codec.Compression {
	if len(c.opts.Variants) == 0 {
		return []*codec.Compression{nil}
	}
	var out []*codec.Compression
	for _, v := range c.opts.Variants {
		v = v.Resolve()
		out = append(out, &v)
	}
	return out
}

// wanted is what a layer has to become for a variant; nil where it may stay.
func (c *copier) wanted(l *Layer, variant *codec.Compression) *codec.Compression {
	switch {
	case variant == nil, l.Foreign, c.stays(l, variant):
		return nil
	case l.Codec != variant.Codec:
		return variant
	case l.Codec == codec.Uncompressed:
		return nil
	case l.Record != nil && l.Record.Serves(*variant, c.layout(variant), c.opts.Force):
		return nil
	case l.Record == nil && !c.opts.Force && (l.chunked() || c.layout(variant) == codec.Even):
		return nil
	}
	return variant
}

// stays tells a layer of the base image that nobody asked to make anew.
func (c *copier) stays(l *Layer, variant *codec.Compression) bool {
	if c.opts.Force || !slices.Contains(c.opts.Base, l.DiffID) {
		return false
	}
	return variant.Codec != codec.Gzip || l.Codec != codec.Zstd || len(c.opts.Variants) == 1
}

// same tells manifests that hold the same image, whatever its layers are
// compressed with.
func (m *Manifest) same(as *Manifest) bool {
	return m.IsImage() && as.IsImage() && m.Platform == as.Platform && m.ConfigDescriptor.Digest == as.ConfigDescriptor.Digest
}

// best is, of the manifests that hold the same image as m, the one of which the
// fewest bytes have to be made anew for a variant.
func (c *copier) best(m *Manifest, variant *codec.Compression) *Manifest {
	if variant == nil {
		return m
	}
	var best *Manifest
	var least int64
	for _, candidate := range c.img.Manifests {
		if !candidate.same(m) {
			continue
		}
		var todo int64
		for i := range candidate.Layers {
			if c.wanted(&candidate.Layers[i], variant) != nil {
				todo += candidate.Layers[i].Descriptor.Size
			}
		}
		if best == nil || todo < least {
			best, least = candidate, todo
		}
	}
	return best
}

// layout is how the tar of a variant's layers is cut into frames.
func (c *copier) layout(variant *codec.Compression) codec.Layout {
	if c.opts.Chunked && variant.Codec == codec.Zstd {
		return codec.Chunked
	}
	return codec.Even
}

// chunked tells whether clients can fetch parts of the layer, whoever made it.
func (l *Layer) chunked() bool { return l.Descriptor.Annotations[chunkedPosition] != "" }

// layout is how the layer's tar is cut into frames, where that is known.
func (l *Layer) layout() codec.Layout {
	switch {
	case l.Record != nil:
		return l.Record.Layout
	case l.chunked():
		return codec.Chunked
	}
	return codec.Even
}

// add notes a blob to bring over, once.
func (c *copier) add(m *Manifest, l Layer, want *codec.Compression) {
	key := blobKey{digest: l.Descriptor.Digest}
	if want != nil {
		key.how = want.String()
	}
	if c.blobs[key] != nil || l.Foreign {
		return
	}
	j := &blobJob{layer: l, want: want, config: l.Descriptor.Digest == m.ConfigDescriptor.Digest}
	j.made = CopiedLayer{Platform: m.Platform, Source: l.Descriptor, Was: l.describe(), DiffID: l.DiffID}
	c.blobs[key] = j
	c.order = append(c.order, j)
}

// describe is "gzip", "zstd:3", "zstd:chunked:3", or "" for what is no layer.
func (l *Layer) describe() string {
	name := string(l.Codec)
	if l.Record != nil {
		name = l.Record.Compression.String()
	}
	if l.chunked() {
		name = asChunked(name)
	}
	return name
}

// asChunked is "zstd:chunked:3" for "zstd:3", as flags spell it.
func asChunked(name string) string { return TOCChunked + strings.TrimPrefix(name, string(codec.Zstd)) }

// transfer brings all blobs over, the largest first: what is started last is
// then short.
func (c *copier) transfer(ctx context.Context) error {
	for _, m := range c.img.Manifests {
		for _, variant := range c.variants() {
			if !m.IsImage() {
				variant = nil
			} else if c.best(m, variant) != m {
				continue
			}
			for i := range m.Layers {
				c.add(m, m.Layers[i], c.wanted(&m.Layers[i], variant))
			}
		}
		if m.ConfigDescriptor.Digest != "" {
			c.add(m, Layer{Descriptor: m.ConfigDescriptor}, nil)
		}
	}
	order := slices.Clone(c.order)
	slices.SortStableFunc(order, func(a, b *blobJob) int { return cmp.Compare(b.layer.Descriptor.Size, a.layer.Descriptor.Size) })
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(c.opts.Layers)
	for _, j := range order {
		g.Go(func() error {
			err := c.bring(ctx, j)
			if err == nil {
				return nil
			}
			of := j.layer.Descriptor.Digest.String()
			if subject, _, _ := strings.Cut(err.Error(), ": "); strings.Contains(subject, of) { // as a registry's errors have it
				return fmt.Errorf("%s %w", j.what(), err)
			}
			return fmt.Errorf("%s %s: %w", j.what(), of, err)
		})
	}
	return g.Wait()
}

func (j *blobJob) what() string {
	if j.config {
		return "config"
	}
	return "layer"
}

func (c *copier) report(e event.Event) {
	if c.opts.Report == nil {
		return
	}
	c.reporting.Lock()
	defer c.reporting.Unlock()
	e.Time = time.Now()
	c.opts.Report(e)
}
