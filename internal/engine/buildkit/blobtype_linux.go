package buildkit

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/pkg/labels"
	cerrdefs "github.com/containerd/errdefs"
	"github.com/moby/buildkit/util/compression"
	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/lighter-oci/lighter/internal/codec"
)

// blobType is lighter's encoder in the shape of BuildKit's compression.Type:
// BuildKit's differ, converter and exporters call it without knowing. One is
// made per export, so that what it counted belongs to that export.
type blobType struct {
	pool *codec.Pool
	want codec.Compression

	// force converts every blob that is not as wanted, base layers too.
	force bool
	// base holds the diffIDs of the base image's layers, which stay as they
	// are without force. Where it is nil (a cache export knows no base image)
	// every blob that lighter did not make stays.
	base map[digest.Digest]bool
	// recode holds those of base that are converted all the same.
	recode map[digest.Digest]bool
	// epoch clamps the times in layers that are made now; nil leaves them.
	epoch *time.Time

	made *ledger
}

var _ compression.Type = (*blobType)(nil)

// Compress hands out the encoder. The finalizer is nil: what there is to say
// about the blob is in the blob.
func (t *blobType) Compress(ctx context.Context, _ compression.Config) (compression.Compressor, compression.Finalizer) {
	return func(dest io.Writer, _ string) (io.WriteCloser, error) {
		return &layerWriter{ctx: ctx, typ: t, dest: dest, started: time.Now()}, nil
	}, nil
}

// Decompress is only asked of the types that BuildKit derives from media types;
// it is here to complete the interface.
func (t *blobType) Decompress(ctx context.Context, cs content.Store, desc ocispecs.Descriptor) (io.ReadCloser, error) {
	from, err := compression.FromMediaType(desc.MediaType)
	if err != nil {
		return nil, err
	}
	return from.Decompress(ctx, cs, desc)
}

// NeedsConversion tells whether the blob is something else than what was asked
// for: another codec, or the same codec at another level. BuildKit asks it of
// every variant of a layer that it stores. Blobs whose times were clamped, or
// shall be, are never converted: layerRef makes those from the snapshot.
func (t *blobType) NeedsConversion(ctx context.Context, cs content.Store, desc ocispecs.Descriptor) (bool, error) {
	if !images.IsLayerType(desc.MediaType) {
		return false, nil
	}
	base := t.isBase(desc)
	if base && !t.recode[diffIDOf(desc)] {
		return false, nil
	}
	blob, err := readBlobHead(ctx, cs, desc)
	if cerrdefs.IsNotFound(err) {
		return t.lazyNeedsConversion(desc), nil
	}
	if err != nil {
		return false, fmt.Errorf("read layer %s: %w", desc.Digest, err)
	}
	if (blob.clamped() || t.epoch != nil) && !base {
		return false, nil
	}
	if t.base == nil && !t.force && blob.record == nil && blob.codec != codec.Uncompressed {
		return false, nil
	}
	if blob.codec != t.want.Codec {
		return true, nil
	}
	if t.want.Codec == codec.Uncompressed {
		return false, nil
	}
	return !t.serves(blob), nil
}

// asWanted tells whether a blob is what this export wants, times included.
func (t *blobType) asWanted(blob blobHead) bool {
	if !sameEpoch(blob, t.epoch) || blob.codec != t.want.Codec {
		return false
	}
	return t.want.Codec == codec.Uncompressed || t.serves(blob)
}

// serves compares levels. A layer that came as zstd:chunked, with a cache or a
// base image, is zstd of its level, and made plain only by force.
func (t *blobType) serves(blob blobHead) bool {
	return blob.record.Serves(t.want, codec.Even, t.force)
}

func (t *blobType) isBase(desc ocispecs.Descriptor) bool {
	return !t.force && t.base[diffIDOf(desc)]
}

// diffIDOf is the digest of a layer's tar, as BuildKit notes it.
func diffIDOf(desc ocispecs.Descriptor) digest.Digest {
	return digest.Digest(desc.Annotations[labels.LabelUncompressed])
}

// lazyNeedsConversion decides on a blob that was never downloaded. Reading its
// level would mean fetching it, so only force does that; a codec that its media
// type already contradicts is converted.
func (t *blobType) lazyNeedsConversion(desc ocispecs.Descriptor) bool {
	if t.force {
		return true
	}
	return t.base != nil && !compression.IsMediaType(t, desc.MediaType)
}

// NeedsComputeDiffBySelf is false so that BuildKit calls the worker's differ,
// which is lighter's own.
func (t *blobType) NeedsComputeDiffBySelf(compression.Config) bool { return false }

// OnlySupportOCITypes is true for zstd: Docker's media types have none that
// registries and clients agree on.
func (t *blobType) OnlySupportOCITypes() bool { return t.want.Codec == codec.Zstd }

func (t *blobType) MediaType() string { return t.want.MediaType() }

// String is a key in BuildKit's single-flight groups, so it holds everything
// that makes two conversions of one layer different.
func (t *blobType) String() string {
	mode := "made"
	switch {
	case t.force:
		mode = "force"
	case t.base != nil:
		mode = "base-" + hashDigests(t.base) + "-" + hashDigests(t.recode)
	}
	return fmt.Sprintf("%s+%s+%s", t.want, codec.Encoder(t.want), mode)
}

func hashDigests(set map[digest.Digest]bool) string {
	all := make([]string, 0, len(set))
	for d := range set {
		all = append(all, d.String())
	}
	slices.Sort(all)
	h := sha256.New()
	for _, d := range all {
		_, _ = io.WriteString(h, d)
	}
	return hex.EncodeToString(h.Sum(nil)[:6])
}

// blobHead is what a blob in the content store is, read from its bytes.
type blobHead struct {
	codec  codec.Codec
	record *codec.Record // nil where lighter did not make it
}

// clamped tells whether times in the tar were set to an epoch.
func (h blobHead) clamped() bool { return h.record != nil && h.record.Epoch != nil }

func readBlobHead(ctx context.Context, cs content.Provider, desc ocispecs.Descriptor) (blobHead, error) {
	ra, err := cs.ReaderAt(ctx, desc)
	if err != nil {
		return blobHead{}, err
	}
	defer ra.Close()
	prefix := make([]byte, min(ra.Size(), 16))
	if _, err := ra.ReadAt(prefix, 0); err != nil && err != io.EOF {
		return blobHead{}, err
	}
	rec, err := codec.ReadRecord(ra, ra.Size())
	if err != nil {
		return blobHead{}, err
	}
	return blobHead{codec: codec.Sniff(prefix), record: rec}, nil
}

// layerWriter is one layer being encoded. The encoder is started by the first
// byte, or by the differ, which hashes the tar through it as well.
type layerWriter struct {
	ctx     context.Context // of the export: BuildKit's converter copies without one
	typ     *blobType
	dest    io.Writer
	started time.Time
	enc     *codec.Writer
	diffID  bool
	closed  bool
}

// codecWriter gives the differ the encoder itself, with the diffID counted in.
func (w *layerWriter) codecWriter() (*codec.Writer, error) {
	w.diffID = true
	return w.encoder()
}

// epoch is the time that newer entries are set to, nil to leave them.
func (w *layerWriter) epoch() *time.Time { return w.typ.epoch }

func (w *layerWriter) encoder() (*codec.Writer, error) {
	if w.enc != nil {
		return w.enc, nil
	}
	opt := codec.Options{Compression: w.typ.want, DiffID: w.diffID}
	// Only the differ clamps times, and the record must say what was done.
	if w.diffID && w.typ.epoch != nil {
		unix := w.typ.epoch.Unix()
		opt.Epoch = &unix
	}
	enc, err := w.typ.pool.NewWriter(w.dest, opt)
	if err != nil {
		return nil, err
	}
	w.enc = enc
	return enc, nil
}

func (w *layerWriter) Write(p []byte) (int, error) {
	if w.ctx.Err() != nil {
		return 0, context.Cause(w.ctx)
	}
	enc, err := w.encoder()
	if err != nil {
		return 0, err
	}
	return enc.Write(p)
}

// Close ends the blob. BuildKit's converter calls it after errors, too; a blob
// that ctx has ended is dropped then.
func (w *layerWriter) Close() error {
	if w.closed {
		return nil
	}
	w.closed = true
	enc, err := w.encoder()
	if err != nil {
		return err
	}
	if w.ctx.Err() != nil {
		enc.Abort()
		return context.Cause(w.ctx)
	}
	if err := enc.Close(); err != nil {
		return err
	}
	res := enc.Result()
	w.typ.made.add(making{
		in: res.In, out: res.Out, diffID: res.DiffID,
		converted: !w.diffID, started: w.started, took: time.Since(w.started),
	})
	return nil
}

// making is one run of the encoder.
type making struct {
	in, out   int64
	diffID    digest.Digest // "" for a conversion
	converted bool
	started   time.Time
	took      time.Duration
}

// ledger is what one export's encoder made.
type ledger struct {
	mu   sync.Mutex
	made []making
}

func (l *ledger) add(m making) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.made = append(l.made, m)
}

// find looks a blob up by diffID where that was counted, else by its size:
// the encoder does not see the digest, which the content store counts.
func (l *ledger) find(diffID digest.Digest, size int64) (making, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, m := range l.made {
		if m.out == size && (m.diffID == "" || m.diffID == diffID) {
			return m, true
		}
	}
	return making{}, false
}
