package buildkit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/diff"
	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/pkg/labels"
	cerrdefs "github.com/containerd/errdefs"
	"github.com/moby/buildkit/identity"
	"github.com/moby/buildkit/util/bklog"
	"github.com/moby/buildkit/util/overlay"
	"github.com/moby/buildkit/util/winlayers"
	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/lighter-oci/lighter/internal/codec"
	"github.com/lighter-oci/lighter/internal/layer"
)

// Differ makes the blob of a layer out of its snapshot, in one pass: the tar
// goes from the files into the encoder's frames, where it is compressed and
// hashed side by side. The tar is the one that stock BuildKit makes.
type Differ struct {
	// OnLayer is called after each blob; nil is allowed.
	OnLayer func(context.Context, LayerStats)
	// Failed is called before a blob that could not be finished is removed;
	// nil is allowed.
	Failed func(error)
	// Ingest is the directory in which the content store keeps blobs that are
	// being written, so that writing to disk can start early. "" is allowed.
	Ingest string

	store   content.Store
	windows diff.Comparer // goes on to own but for Windows layers
	stock   diff.Comparer // for callers without a compressor
}

var _ diff.Comparer = (*Differ)(nil)

// LayerStats is what making one blob took.
type LayerStats struct {
	Descriptor ocispecs.Descriptor
	DiffID     digest.Digest // of the tar
	In, Out    int64         // bytes of tar, of blob
	Entries    int           // in the tar
	Walked     bool          // by comparing trees, not from an overlay upperdir
	Started    time.Time
	Took       time.Duration // commit included
}

// newDiffer makes a Differ that writes to store; stock answers what is none of
// lighter's business.
func newDiffer(store content.Store, stock diff.Comparer) *Differ {
	d := &Differ{store: store, stock: stock}
	d.windows = winlayers.NewWalkingDiffWithWindows(store, ownComparer{d})
	return d
}

// nativeWriter is a compressor that is lighter's own.
type nativeWriter interface {
	io.WriteCloser
	// codecWriter is the encoder itself, counting the diffID.
	codecWriter() (*codec.Writer, error)
	// epoch is the latest time an entry may carry; nil for any.
	epoch() *time.Time
}

var _ nativeWriter = (*layerWriter)(nil)

// Compare makes the blob of what upper changes in lower, in the content store,
// labelled with its diffID.
func (d *Differ) Compare(ctx context.Context, lower, upper []mount.Mount, opts ...diff.Opt) (ocispecs.Descriptor, error) {
	return d.windows.Compare(ctx, lower, upper, opts...)
}

// ownComparer is Differ without Windows layers.
type ownComparer struct{ d *Differ }

func (o ownComparer) Compare(ctx context.Context, lower, upper []mount.Mount, opts ...diff.Opt) (ocispecs.Descriptor, error) {
	var cfg diff.Config
	for _, opt := range opts {
		if err := opt(&cfg); err != nil {
			return ocispecs.Descriptor{}, err
		}
	}
	if cfg.Compressor == nil {
		return o.d.stock.Compare(ctx, lower, upper, opts...)
	}
	if cfg.MediaType == "" {
		return ocispecs.Descriptor{}, errors.New("a compressor needs a media type")
	}
	if cfg.Reference == "" {
		cfg.Reference = "lighter-diff-" + identity.NewID()
	}
	// Which way is settled before the store is asked for a writer: a second
	// writer would find the reference locked.
	upperdir, err := overlay.GetUpperdir(lower, upper)
	if err == nil {
		desc, err := o.d.fromUpperdir(ctx, cfg, lower, upperdir)
		if !errors.Is(err, layer.ErrUnsupported) {
			return desc, err
		}
		bklog.G(ctx).WithError(err).Warn("comparing whole trees instead")
	}
	return o.d.fromTrees(ctx, cfg, lower, upper)
}

// fromUpperdir reads what overlayfs has collected in its upperdir.
func (d *Differ) fromUpperdir(ctx context.Context, cfg diff.Config, lower []mount.Mount, upperdir string) (desc ocispecs.Descriptor, err error) {
	err = withRoot(ctx, lower, func(root string) error {
		desc, err = d.write(ctx, cfg, layer.ChangeSet{Upper: upperdir, Lower: root})
		return err
	})
	return desc, err
}

// fromTrees compares all that can be seen: for snapshotters other than overlay,
// and for snapshots that are more than one layer apart.
func (d *Differ) fromTrees(ctx context.Context, cfg diff.Config, lower, upper []mount.Mount) (desc ocispecs.Descriptor, err error) {
	err = withRoot(ctx, lower, func(lowerRoot string) error {
		return withRoot(ctx, upper, func(upperRoot string) error {
			desc, err = d.write(ctx, cfg, layer.ChangeSet{Upper: upperRoot, Lower: lowerRoot, Merged: true})
			return err
		})
	})
	return desc, err
}

// withRoot lets f see what mounts make visible; "" where there are none. A
// single directory needs no mounting.
func withRoot(ctx context.Context, mounts []mount.Mount, f func(root string) error) error {
	if len(mounts) == 0 {
		return f("")
	}
	if m := mounts[0]; len(mounts) == 1 && m.Type == "bind" && m.Target == "" {
		return f(m.Source)
	}
	return mount.WithReadonlyTempMount(ctx, mounts, f)
}

// write puts the blob of cs into the store. After an error nothing of it stays.
func (d *Differ) write(ctx context.Context, cfg diff.Config, cs layer.ChangeSet) (_ ocispecs.Descriptor, err error) {
	stats := LayerStats{Started: time.Now(), Walked: cs.Merged}
	cw, err := d.store.Writer(ctx, content.WithRef(cfg.Reference),
		content.WithDescriptor(ocispecs.Descriptor{MediaType: cfg.MediaType}))
	if err != nil {
		return ocispecs.Descriptor{}, fmt.Errorf("open blob of layer %s: %w", cfg.Reference, err)
	}
	defer func() {
		if err != nil {
			if d.Failed != nil {
				d.Failed(err)
			}
			d.discard(ctx, cfg.Reference, cw)
		}
	}()
	if err := cw.Truncate(0); err != nil {
		return ocispecs.Descriptor{}, fmt.Errorf("truncate blob of layer %s: %w", cfg.Reference, err)
	}
	if err := d.encode(ctx, cfg, cs, cw, &stats); err != nil {
		return ocispecs.Descriptor{}, fmt.Errorf("write blob of layer %s: %w", cfg.Reference, err)
	}
	stats.Descriptor, err = d.commit(ctx, cfg, cw, stats.DiffID)
	if err != nil {
		return ocispecs.Descriptor{}, fmt.Errorf("commit blob of layer %s: %w", cfg.Reference, err)
	}
	stats.Out, stats.Took = stats.Descriptor.Size, time.Since(stats.Started)
	if d.OnLayer != nil {
		d.OnLayer(ctx, stats)
	}
	return stats.Descriptor, nil
}

// discard removes what was written, also where ctx is why.
func (d *Differ) discard(ctx context.Context, ref string, cw content.Writer) {
	ctx = context.WithoutCancel(ctx)
	if err := d.store.Abort(ctx, ref); err != nil && !cerrdefs.IsNotFound(err) {
		bklog.G(ctx).WithError(err).Warnf("blob %q stays half-written until the next collection", ref)
	}
	cw.Close() // unlocks the reference
}

// encode compresses the tar of cs into dst and counts stats.
func (d *Differ) encode(ctx context.Context, cfg diff.Config, cs layer.ChangeSet, dst io.Writer, stats *LayerStats) error {
	early := startWriteback(d.Ingest, cfg.Reference)
	defer early.close()
	compressed, err := cfg.Compressor(early.writer(dst), cfg.MediaType)
	if err != nil {
		return err
	}
	var wrote layer.Stats
	if own, ok := compressed.(nativeWriter); ok {
		cs.Epoch = own.epoch()
		wrote, stats.DiffID, err = encodeNative(ctx, cs, own)
	} else {
		cs.Epoch = cfg.SourceDateEpoch
		wrote, stats.DiffID, err = encodeForeign(ctx, cs, compressed)
	}
	stats.In, stats.Entries = wrote.Bytes, wrote.Entries
	return err
}

func encodeNative(ctx context.Context, cs layer.ChangeSet, w nativeWriter) (layer.Stats, digest.Digest, error) {
	enc, err := w.codecWriter()
	if err != nil {
		return layer.Stats{}, "", err
	}
	// A frame at a high level takes seconds; whoever cancels does not wait.
	stop := context.AfterFunc(ctx, enc.Abort)
	defer stop()
	wrote, err := layer.WriteChanges(ctx, enc, cs)
	if err == nil {
		err = enc.Close() // what is still to be written may take a while
	}
	if err == nil {
		err = context.Cause(ctx)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		enc.Abort()
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return wrote, "", err
	}
	return wrote, enc.Result().DiffID, nil
}

// encodeForeign serves BuildKit's own compressors.
func encodeForeign(ctx context.Context, cs layer.ChangeSet, w io.WriteCloser) (layer.Stats, digest.Digest, error) {
	diffID := digest.SHA256.Digester()
	wrote, err := layer.WriteChanges(ctx, io.MultiWriter(w, diffID.Hash()), cs)
	if cerr := w.Close(); err == nil {
		err = cerr
	}
	return wrote, diffID.Digest(), err
}

// commit makes the blob visible. A blob that exists is as good, and gets the
// diffID if it has none.
func (d *Differ) commit(ctx context.Context, cfg diff.Config, cw content.Writer, diffID digest.Digest) (ocispecs.Descriptor, error) {
	set := map[string]string{}
	for k, v := range cfg.Labels {
		set[k] = v
	}
	set[labels.LabelUncompressed] = diffID.String()
	dgst := cw.Digest()
	if err := cw.Commit(ctx, 0, dgst, content.WithLabels(set)); err != nil && !cerrdefs.IsAlreadyExists(err) {
		return ocispecs.Descriptor{}, err
	}
	if err := cw.Close(); err != nil {
		return ocispecs.Descriptor{}, err
	}
	info, err := d.store.Info(ctx, dgst)
	if err != nil {
		return ocispecs.Descriptor{}, err
	}
	if info.Labels[labels.LabelUncompressed] == "" {
		if info.Labels == nil {
			info.Labels = map[string]string{}
		}
		info.Labels[labels.LabelUncompressed] = diffID.String()
		if _, err := d.store.Update(ctx, info, "labels."+labels.LabelUncompressed); err != nil {
			return ocispecs.Descriptor{}, err
		}
	}
	return ocispecs.Descriptor{MediaType: cfg.MediaType, Size: info.Size, Digest: dgst}, nil
}
