package buildkit

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/moby/buildkit/cache"
	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/exporter"
	"github.com/moby/buildkit/exporter/containerimage/exptypes"
	"github.com/moby/buildkit/exporter/util/epoch"
	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/util/compression"
	"github.com/moby/buildkit/util/flightcontrol"
	"github.com/moby/buildkit/worker"
	"github.com/moby/buildkit/worker/base"
	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/lighter-oci/lighter/internal/codec"
	"github.com/lighter-oci/lighter/internal/engine"
)

// layerWorker is BuildKit's worker with exporters that use lighter's encoder.
type layerWorker struct {
	*base.Worker
	pool   *codec.Pool
	differ *Differ
	mounts *mountTravel
	redo   flightcontrol.Group[ocispecs.Descriptor] // layers made anew, by what and how
}

var _ worker.Worker = (*layerWorker)(nil)

// Exporter gives the stock exporter; where that writes image layers, they are
// lighter's.
func (w *layerWorker) Exporter(name string, sm *session.Manager) (exporter.Exporter, error) {
	stock, err := w.Worker.Exporter(name, sm)
	if err != nil {
		return nil, err
	}
	switch name {
	case client.ExporterImage, client.ExporterOCI, client.ExporterDocker:
		return &layerExporter{worker: w, stock: stock, kind: name, sessions: sm}, nil
	}
	return stock, nil
}

type layerExporter struct {
	worker   *layerWorker
	stock    exporter.Exporter
	kind     string // image, oci or docker
	sessions *session.Manager
}

// Resolve reads what concerns layers and leaves the rest of the attributes to
// the stock exporter.
func (e *layerExporter) Resolve(ctx context.Context, id int, attrs map[string]string) (exporter.ExporterInstance, error) {
	if attrs[engine.AttrCompression] == compression.EStargz.String() && attrs[engine.AttrAdd] == "" {
		return e.stock.Resolve(ctx, id, attrs)
	}
	opt, rest, err := parseLayerAttrs(attrs)
	if err == nil {
		err = opt.want.Validate()
	}
	if err != nil {
		return nil, err
	}
	inst, err := e.stock.Resolve(ctx, id, rest)
	if err != nil {
		return nil, err
	}
	if len(opt.variants) > 1 {
		return e.resolveVariants(ctx, inst, opt, rest, attrs)
	}
	return &layerExport{ExporterInstance: inst, worker: e.worker, opt: opt, attrs: attrs}, nil
}

// layerExport is one export with lighter's layers in it.
type layerExport struct {
	exporter.ExporterInstance
	worker *layerWorker
	opt    layerOptions
	attrs  map[string]string
}

// Config is what the inline cache exporter takes its codec from.
func (e *layerExport) Config() *exporter.Config {
	return exporter.NewConfigWithCompression(compression.Config{Type: e.blobType(nil), Force: true})
}

// Attrs are the ones asked for, for the build history.
func (e *layerExport) Attrs() map[string]string { return e.attrs }

func (e *layerExport) blobType(base map[digest.Digest]bool) *blobType {
	return &blobType{pool: e.worker.pool, want: e.opt.want, force: e.opt.force, base: base, made: &ledger{}}
}

// epoch is what the times of layers are clamped to: the attribute's, or the one
// that the Dockerfile sets for itself. Nil leaves them.
func (e *layerExport) epoch(src *exporter.Source, key string) (*time.Time, error) {
	if !e.opt.rewrite {
		return nil, nil
	}
	if e.opt.epoch != nil {
		return e.opt.epoch, nil
	}
	own, err := epoch.ParseSource(src, &exptypes.Platform{ID: key})
	if err != nil {
		return nil, err
	}
	if own == nil {
		return nil, errors.New("rewrite-timestamp needs an epoch: set SOURCE_DATE_EPOCH, as with --build-arg SOURCE_DATE_EPOCH=0")
	}
	return own, nil
}

// Export hands the stock exporter the same refs with another GetRemotes.
func (e *layerExport) Export(ctx context.Context, src *exporter.Source, info exporter.ExportBuildInfo) (map[string]string, exporter.FinalizeFunc, exporter.DescriptorReference, error) {
	wrapped, err := e.wrap(src)
	if err != nil {
		return nil, nil, nil, err
	}
	resp, finalize, ref, err := e.ExporterInstance.Export(ctx, wrapped, info)
	if err == nil {
		resp[respDigest(e.ID())] = resp[exptypes.ExporterImageDigestKey]
		err = addBaseLayers(resp, src)
	}
	return resp, finalize, ref, err
}

// wrap is the result with layers as this export wants them.
func (e *layerExport) wrap(src *exporter.Source) (*exporter.Source, error) {
	wrapped := src.Clone()
	wrap := func(key string, ref cache.ImmutableRef) (cache.ImmutableRef, error) {
		if ref == nil {
			return nil, nil
		}
		base, err := baseDiffIDs(src, key)
		if err != nil {
			return nil, err
		}
		typ := e.blobType(base)
		if typ.epoch, err = e.epoch(src, key); err != nil {
			return nil, err
		}
		old := e.opt.want.Codec == codec.Gzip && len(e.opt.variants) > 1
		return &layerRef{ImmutableRef: ref, worker: e.worker, typ: typ, oldClients: old}, nil
	}
	var err error
	if wrapped.Ref != nil {
		if wrapped.Ref, err = wrap(singleKey(src), wrapped.Ref); err != nil {
			return nil, err
		}
	}
	for key, ref := range wrapped.Refs {
		if wrapped.Refs[key], err = wrap(key, ref); err != nil {
			return nil, err
		}
	}
	return wrapped, nil
}

// addBaseLayers tells the client which layers are the base image's, so that it
// can prove the others.
func addBaseLayers(resp map[string]string, src *exporter.Source) error {
	all := map[digest.Digest]bool{}
	keys := []string{singleKey(src)}
	for key := range src.Refs {
		keys = append(keys, key)
	}
	for _, key := range keys {
		base, err := baseDiffIDs(src, key)
		if err != nil {
			return err
		}
		maps.Copy(all, base)
	}
	// Never null: that would mean an engine which does not know.
	raw, err := json.Marshal(slices.AppendSeq([]digest.Digest{}, maps.Keys(all)))
	if err != nil {
		return err
	}
	resp[respBaseLayers] = string(raw)
	return nil
}

// singleKey is the platform ID of a result that has one ref only.
func singleKey(src *exporter.Source) string {
	ps, err := exptypes.ParsePlatforms(src.Metadata)
	if err != nil || len(ps.Platforms) != 1 {
		return ""
	}
	return ps.Platforms[0].ID
}

// baseDiffIDs are the layers of the base image, as the Dockerfile frontend
// reports them. An image FROM scratch has none; the map is never nil.
func baseDiffIDs(src *exporter.Source, key string) (map[digest.Digest]bool, error) {
	base := map[digest.Digest]bool{}
	raw := exptypes.ParseKey(src.Metadata, exptypes.ExporterImageBaseConfigKey, &exptypes.Platform{ID: key})
	if len(raw) == 0 {
		return base, nil
	}
	var img ocispecs.Image
	if err := json.Unmarshal(raw, &img); err != nil {
		return nil, fmt.Errorf("base image config: %w", err)
	}
	for _, d := range img.RootFS.DiffIDs {
		base[d] = true
	}
	return base, nil
}
