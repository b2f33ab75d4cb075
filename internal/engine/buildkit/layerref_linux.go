package buildkit

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/diff"
	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/pkg/labels"
	cerrdefs "github.com/containerd/errdefs"
	"github.com/moby/buildkit/cache"
	cacheconfig "github.com/moby/buildkit/cache/config"
	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/solver"
	"github.com/moby/buildkit/util/compression"
	"github.com/moby/buildkit/util/contentutil"
	"github.com/moby/buildkit/util/overlay"
	"github.com/moby/buildkit/util/progress"
	wlabel "github.com/moby/buildkit/worker/label"
	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/lighter-oci/lighter/internal/codec"
	"github.com/lighter-oci/lighter/internal/event"
)

// layerRef is a build result whose layers come out as one export wants them.
type layerRef struct {
	cache.ImmutableRef
	worker *layerWorker
	typ    *blobType
	// oldClients: the layers are for those that read no zstd, so that base layers
	// in zstd do not stay.
	oldClients bool
}

func (r *layerRef) Clone() cache.ImmutableRef {
	return &layerRef{ImmutableRef: r.ImmutableRef.Clone(), worker: r.worker, typ: r.typ, oldClients: r.oldClients}
}

// GetRemotes is asked for the layers twice in an export: once to make them, and
// once, with create false, to push what was made.
func (r *layerRef) GetRemotes(ctx context.Context, create bool, cfg cacheconfig.RefConfig, all bool, s session.Group) ([]*solver.Remote, error) {
	if r.oldClients {
		typ, err := r.readable(ctx, create, cfg, s)
		if err != nil {
			return nil, err
		}
		r = &layerRef{ImmutableRef: r.ImmutableRef, worker: r.worker, typ: typ}
	}
	// Force, so that BuildKit asks NeedsConversion of every layer instead of
	// taking the first blob it finds; blobType knows which ones may stay.
	cfg.Compression = compression.Config{Type: r.typ, Force: true}
	remotes, err := r.ImmutableRef.GetRemotes(ctx, create, cfg, all, s)
	if err != nil {
		return nil, err
	}
	for _, remote := range remotes {
		if err := r.fixTimes(ctx, remote, s); err != nil {
			return nil, err
		}
	}
	if create && len(remotes) > 0 {
		r.report(ctx, remotes[0].Descriptors)
	}
	return remotes, nil
}

// readable is the type with the base layers in it that came in zstd. Once they
// are converted, only their first blob tells that they did.
func (r *layerRef) readable(ctx context.Context, create bool, cfg cacheconfig.RefConfig, s session.Group) (*blobType, error) {
	cfg.Compression = compression.Config{Type: r.typ}
	remotes, err := r.ImmutableRef.GetRemotes(ctx, create, cfg, false, s)
	if err != nil {
		return nil, err
	}
	typ := *r.typ
	typ.recode = map[digest.Digest]bool{}
	for _, desc := range remotes[0].Descriptors {
		if !typ.isBase(desc) {
			continue
		}
		head, err := readBlobHead(ctx, r.worker.ContentStore(), desc)
		switch {
		case cerrdefs.IsNotFound(err):
			typ.recode[diffIDOf(desc)] = compression.IsMediaType(compression.Zstd, desc.MediaType)
		case err != nil:
			return nil, fmt.Errorf("read layer %s: %w", desc.Digest, err)
		default:
			typ.recode[diffIDOf(desc)] = head.codec == codec.Zstd
		}
	}
	return &typ, nil
}

// fixTimes replaces the layers whose times were clamped to another epoch than
// this export's (none is one, too). They are made from the snapshot again: an
// earlier clamp has lost the times that a later epoch would keep.
func (r *layerRef) fixTimes(ctx context.Context, remote *solver.Remote, s session.Group) error {
	store := r.worker.ContentStore()
	var chain cache.RefList
	for i, desc := range remote.Descriptors {
		if r.typ.base[diffIDOf(desc)] {
			continue
		}
		head, err := r.head(ctx, remote, desc)
		if cerrdefs.IsNotFound(err) {
			continue // not here, and nobody asked for other times
		}
		if err != nil {
			return fmt.Errorf("read layer %s: %w", desc.Digest, err)
		}
		if sameEpoch(head, r.typ.epoch) && (!head.clamped() || r.typ.asWanted(head)) {
			continue
		}
		if chain == nil {
			chain = r.LayerChain()
			defer func() { _ = chain.Release(context.WithoutCancel(ctx)) }()
			if len(chain) != len(remote.Descriptors) {
				return errors.New("rewrite-timestamp: the layers do not match the snapshots; build with --no-cache")
			}
		}
		fixed, err := r.redo(ctx, chain[i], desc, s)
		if err != nil {
			return fmt.Errorf("rewrite times of layer %s: %w", desc.Digest, err)
		}
		provider := contentutil.NewMultiProvider(remote.Provider)
		provider.Add(fixed.Digest, store)
		remote.Descriptors[i], remote.Provider = fixed, provider
	}
	return nil
}

// head reads what a blob says of itself. One that was never downloaded is
// fetched where times are to be clamped, because nothing else tells its own.
func (r *layerRef) head(ctx context.Context, remote *solver.Remote, desc ocispecs.Descriptor) (blobHead, error) {
	head, err := readBlobHead(ctx, r.worker.ContentStore(), desc)
	if !cerrdefs.IsNotFound(err) || r.typ.epoch == nil {
		return head, err
	}
	lazy, ok := remote.Provider.(cache.Unlazier)
	if !ok {
		return head, err
	}
	if err := lazy.Unlazy(ctx); err != nil {
		return head, err
	}
	return readBlobHead(ctx, r.worker.ContentStore(), desc)
}

func sameEpoch(head blobHead, want *time.Time) bool {
	if !head.clamped() {
		return want == nil
	}
	return want != nil && *head.record.Epoch == want.Unix()
}

// redo makes the blob of one layer anew and remembers it on the blob that it
// replaces, so that the next export finds it and the collector keeps both. Only
// the newest is remembered: epochs that follow commits would pile up.
func (r *layerRef) redo(ctx context.Context, ref cache.ImmutableRef, desc ocispecs.Descriptor, s session.Group) (ocispecs.Descriptor, error) {
	name := fmt.Sprintf("lighter-times-%s-%s-%s", desc.Digest.Encoded(), r.typ.want, epochName(r.typ.epoch))
	return r.worker.redo.Do(ctx, name, func(ctx context.Context) (ocispecs.Descriptor, error) {
		label := "containerd.io/gc.ref.content.lighter." + r.typ.want.String()
		if known, ok := r.remembered(ctx, desc, label); ok {
			return known, nil
		}
		made, err := r.fromSnapshot(ctx, ref, name, s)
		if err != nil {
			return desc, err
		}
		old := content.Info{Digest: desc.Digest, Labels: map[string]string{label: made.Digest.String()}}
		_, err = r.worker.ContentStore().Update(ctx, old, "labels."+label)
		return made, err
	})
}

func epochName(epoch *time.Time) string {
	if epoch == nil {
		return "none"
	}
	return strconv.FormatInt(epoch.Unix(), 10)
}

// remembered looks for the blob that an earlier redo has made, if that was for
// the same epoch.
func (r *layerRef) remembered(ctx context.Context, desc ocispecs.Descriptor, label string) (ocispecs.Descriptor, bool) {
	store := r.worker.ContentStore()
	info, err := store.Info(ctx, desc.Digest)
	if err != nil || info.Labels[label] == "" {
		return desc, false
	}
	known, err := store.Info(ctx, digest.Digest(info.Labels[label]))
	if err != nil {
		return desc, false
	}
	out := ocispecs.Descriptor{
		MediaType: r.typ.MediaType(), Digest: known.Digest, Size: known.Size,
		Annotations: map[string]string{labels.LabelUncompressed: known.Labels[labels.LabelUncompressed]},
	}
	head, err := readBlobHead(ctx, store, out)
	return out, err == nil && r.typ.asWanted(head)
}

// fromSnapshot makes a layer's blob from what its own snapshot changes.
func (r *layerRef) fromSnapshot(ctx context.Context, ref cache.ImmutableRef, name string, s session.Group) (ocispecs.Descriptor, error) {
	mountable, err := ref.Mount(ctx, true, s)
	if err != nil {
		return ocispecs.Descriptor{}, err
	}
	upper, release, err := mountable.Mount()
	if err != nil {
		return ocispecs.Descriptor{}, err
	}
	if release != nil {
		defer func() { _ = release() }()
	}
	if r.worker.Labels()[wlabel.Snapshotter] != overlaySnapshotter {
		return ocispecs.Descriptor{}, errNoOverlay
	}
	lower, err := ownLower(upper)
	if err != nil {
		return ocispecs.Descriptor{}, err
	}
	compress, _ := r.typ.Compress(ctx, compression.Config{})
	made, err := r.worker.differ.Compare(ctx, lower, upper,
		diff.WithMediaType(r.typ.MediaType()), diff.WithReference(name), diff.WithCompressor(compress))
	if err != nil {
		return made, err
	}
	info, err := r.worker.ContentStore().Info(ctx, made.Digest)
	if err != nil {
		return made, err
	}
	made.Annotations = map[string]string{labels.LabelUncompressed: info.Labels[labels.LabelUncompressed]}
	return made, nil
}

var errNoOverlay = errors.New("rewrite-timestamp on cached layers needs the overlayfs snapshotter: build with --no-cache")

// ownLower takes the mounts of a layer's snapshot apart: what is below its own
// directory. The layer that stands before it in an image will not do: layers of
// COPY --link have nothing below them, wherever they stand.
func ownLower(upper []mount.Mount) ([]mount.Mount, error) {
	if len(upper) != 1 {
		return nil, errNoOverlay
	}
	m := upper[0]
	if m.Type == "bind" {
		return nil, nil // bottommost: nothing below
	}
	if !overlay.IsOverlayMountType(m) {
		return nil, errNoOverlay
	}
	dirs, err := overlay.GetOverlayLayers(m) // bottommost first
	if err != nil {
		return nil, err
	}
	switch below := dirs[:len(dirs)-1]; len(below) {
	case 0:
		return nil, errNoOverlay
	case 1:
		return []mount.Mount{{Type: "bind", Source: below[0], Options: []string{"ro", "rbind"}}}, nil
	default:
		below = slices.Clone(below)
		slices.Reverse(below)
		return []mount.Mount{{Type: "overlay", Source: "overlay", Options: lowerOptions(m, below)}}, nil
	}
}

// lowerOptions are those of m with other directories, topmost first.
func lowerOptions(m mount.Mount, dirs []string) []string {
	out := []string{"lowerdir=" + strings.Join(dirs, ":")}
	for _, o := range m.Options {
		if o == "userxattr" || o == "index=off" {
			out = append(out, o)
		}
	}
	return out
}

// report tells the client what became of each layer.
func (r *layerRef) report(ctx context.Context, descs []ocispecs.Descriptor) {
	pw, ok, ctx := progress.NewFromContext(ctx)
	if !ok {
		return
	}
	defer pw.Close()
	for _, desc := range descs {
		diffID := diffIDOf(desc)
		l := event.Layer{Action: event.LayerReused, Digest: desc.Digest.String(), Out: desc.Size}
		if head, err := readBlobHead(ctx, r.worker.ContentStore(), desc); err == nil {
			l.Codec = string(head.codec)
			if head.record != nil {
				l.Codec = head.record.Compression.String()
			}
		}
		started, completed := time.Now(), time.Now()
		if m, ok := r.typ.made.find(diffID, desc.Size); ok {
			l.Action, l.In = event.LayerCompressed, m.in
			if m.converted {
				l.Action = event.LayerConverted
			}
			started, completed = m.started, m.started.Add(m.took)
		}
		writeLayerStatus(pw, l, started, completed)
	}
}

func writeLayerStatus(pw progress.Writer, l event.Layer, started, completed time.Time) {
	_ = pw.Write(layerStatusID(l), progress.Status{
		Action:    string(l.Action),
		Current:   int(l.Out),
		Total:     int(l.In),
		Started:   &started,
		Completed: &completed,
	})
}
