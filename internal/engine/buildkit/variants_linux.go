package buildkit

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	archiveexporter "github.com/containerd/containerd/v2/core/images/archive"
	remoteserrors "github.com/containerd/containerd/v2/core/remotes/errors"
	"github.com/distribution/reference"
	"github.com/moby/buildkit/cache"
	cacheconfig "github.com/moby/buildkit/cache/config"
	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/exporter"
	"github.com/moby/buildkit/exporter/containerimage"
	"github.com/moby/buildkit/exporter/containerimage/exptypes"
	"github.com/moby/buildkit/exporter/util/epoch"
	"github.com/moby/buildkit/session"
	sessioncontent "github.com/moby/buildkit/session/content"
	"github.com/moby/buildkit/session/filesync"
	"github.com/moby/buildkit/util/contentutil"
	"github.com/moby/buildkit/util/errutil"
	"github.com/moby/buildkit/util/grpcerrors"
	"github.com/moby/buildkit/util/leaseutil"
	"github.com/moby/buildkit/util/progress"
	"github.com/moby/buildkit/util/push"
	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
	"google.golang.org/grpc/codes"

	"github.com/lighter-oci/lighter/internal/image"
)

// variantExport is one export of an image in several variants. BuildKit's image
// exporter commits each of them as it would alone; what goes out is the one
// index that package image makes of theirs.
type variantExport struct {
	exporter.ExporterInstance // the stock one of the kind asked for: its ID, name and type
	worker                    *layerWorker
	sessions                  *session.Manager
	variants                  []*layerExport // the one that was not added is the first
	out                       outward
	attrs                     map[string]string
}

func (e *layerExporter) resolveVariants(ctx context.Context, stock exporter.ExporterInstance, opt layerOptions, rest, attrs map[string]string) (exporter.ExporterInstance, error) {
	if err := checkVariants(e.kind, attrs); err != nil {
		return nil, err
	}
	out, rest, err := parseOutward(rest)
	if err != nil {
		return nil, err
	}
	out.push = out.push && e.kind == client.ExporterImage // the others take it for metadata
	rest[attrOCIMediaTypes] = "true"
	commits, err := e.worker.Worker.Exporter(client.ExporterImage, e.sessions)
	if err != nil {
		return nil, err
	}
	export := &variantExport{ExporterInstance: stock, worker: e.worker, sessions: e.sessions, out: out, attrs: attrs}
	for _, want := range opt.variants {
		inst, err := commits.Resolve(ctx, stock.ID(), rest)
		if err != nil {
			return nil, err
		}
		opt.want = want
		export.variants = append(export.variants, &layerExport{ExporterInstance: inst, worker: e.worker, opt: opt, attrs: attrs})
	}
	return export, nil
}

// Config is what the inline cache exporter takes its codec from. What it writes
// counts layers and names none, so that it holds for every variant.
func (e *variantExport) Config() *exporter.Config { return e.variants[0].Config() }

// Attrs are the ones asked for, for the build history.
func (e *variantExport) Attrs() map[string]string { return e.attrs }

// Export commits the variants, and sends or offers to push what they are
// together.
func (e *variantExport) Export(ctx context.Context, src *exporter.Source, info exporter.ExportBuildInfo) (_ map[string]string, _ exporter.FinalizeFunc, _ exporter.DescriptorReference, err error) {
	ctx, done, err := leaseutil.WithLease(ctx, e.worker.LeaseManager(), leaseutil.MakeTemporary)
	if err != nil {
		return nil, nil, nil, err
	}
	defer func() {
		if err != nil {
			_ = done(context.WithoutCancel(ctx))
		}
	}()
	if src, err = manyPlatforms(src); err != nil {
		return nil, nil, nil, err
	}
	root, resp, err := e.commit(ctx, src, info)
	if err != nil {
		return nil, nil, nil, err
	}
	g := goods{root: root, src: src, session: info.SessionID}
	if names := resp[exptypes.ExporterImageNameKey]; names != "" {
		g.names = strings.Split(names, ",")
	}
	if e.Type() == client.ExporterOCI {
		err = e.write(ctx, g, resp)
	} else {
		err = answer(resp, g)
	}
	if err != nil {
		return nil, nil, nil, err
	}
	resp[respDigest(e.ID())] = root.Digest.String()
	ref := containerimage.NewDescriptorReference(root, done)
	if !e.out.push || len(g.names) == 0 {
		return resp, nil, ref, nil
	}
	return resp, func(ctx context.Context) error { return e.push(ctx, g) }, ref, nil
}

// commit makes one variant after the other, because the blobs of the first are
// what those of the others are made from, and the index of them.
func (e *variantExport) commit(ctx context.Context, src *exporter.Source, info exporter.ExportBuildInfo) (root ocispecs.Descriptor, resp map[string]string, err error) {
	roots := make([]ocispecs.Descriptor, len(e.variants))
	for i, v := range e.variants {
		said, _, made, err := v.Export(ctx, src, info)
		if err != nil {
			return root, nil, err
		}
		roots[i] = made.Descriptor()
		if i == 0 {
			resp = said
		}
	}
	root, err = e.join(ctx, roots)
	return root, resp, err
}

// goods are what an export sends somewhere.
type goods struct {
	root    ocispecs.Descriptor
	names   []string
	src     *exporter.Source
	session string
}

// answer tells the client what there is now.
func answer(resp map[string]string, g goods) error {
	desc, err := json.Marshal(g.root)
	if err != nil {
		return err
	}
	resp[exptypes.ExporterImageDigestKey] = g.root.Digest.String()
	resp[exptypes.ExporterImageDescriptorKey] = base64.StdEncoding.EncodeToString(desc)
	return nil
}

// manyPlatforms is the result as one of several platforms, if only of one: of
// those BuildKit makes an index.
func manyPlatforms(src *exporter.Source) (*exporter.Source, error) {
	if len(src.Refs) > 0 {
		return src, nil
	}
	ps, err := exptypes.ParsePlatforms(src.Metadata)
	if err != nil {
		return nil, err
	}
	if len(ps.Platforms) != 1 {
		return nil, fmt.Errorf("one result for %d platforms", len(ps.Platforms))
	}
	raw, err := json.Marshal(ps)
	if err != nil {
		return nil, err
	}
	out := src.Clone()
	out.Refs = map[string]cache.ImmutableRef{ps.Platforms[0].ID: src.Ref}
	out.Ref = nil
	out.AddMeta(exptypes.ExporterPlatformsKey, raw)
	return out, nil
}

// join writes the index of the variants whose own are roots.
func (e *variantExport) join(ctx context.Context, roots []ocispecs.Descriptor) (ocispecs.Descriptor, error) {
	store := e.worker.ContentStore()
	keep := map[string]string{} // what the collector may not take from under the index
	variants := make([]image.Variant, len(roots))
	for i, root := range roots {
		raw, err := content.ReadBlob(ctx, store, root)
		if err != nil {
			return root, err
		}
		variants[i] = image.Variant{Compression: e.variants[i].opt.want, Index: raw}
		keep[fmt.Sprintf("containerd.io/gc.ref.content.%d", i)] = root.Digest.String()
	}
	raw, out, err := image.Join(variants)
	if err != nil {
		return out, err
	}
	out.Annotations = maps.Clone(roots[0].Annotations)
	done := progress.OneOff(ctx, "exporting index of variants "+out.Digest.String())
	return out, done(content.WriteBlob(ctx, store, out.Digest.String(), bytes.NewReader(raw), out, content.WithLabels(keep)))
}

// blobs is where the layers of all variants are, and what is known of those
// that were never downloaded.
func (e *variantExport) blobs(ctx context.Context, g goods, fetch bool) (*contentutil.MultiProvider, map[digest.Digest]map[string]string, error) {
	provider := contentutil.NewMultiProvider(e.worker.ContentStore())
	annotations := map[digest.Digest]map[string]string{}
	for _, v := range e.variants {
		src, err := v.wrap(g.src)
		if err != nil {
			return nil, nil, err
		}
		for _, ref := range src.Refs {
			if ref == nil {
				continue
			}
			remotes, err := ref.GetRemotes(ctx, false, cacheconfig.RefConfig{}, false, session.NewGroup(g.session))
			if err != nil {
				return nil, nil, err
			}
			if lazy, ok := remotes[0].Provider.(cache.Unlazier); ok && fetch {
				if err := lazy.Unlazy(ctx); err != nil {
					return nil, nil, err
				}
			}
			for _, desc := range remotes[0].Descriptors {
				provider.Add(desc.Digest, remotes[0].Provider)
				annotations[desc.Digest] = desc.Annotations
			}
		}
	}
	return provider, annotations, nil
}

// push sends the index, and all that is in it, to every name.
func (e *variantExport) push(ctx context.Context, g goods) error {
	provider, annotations, err := e.blobs(ctx, g, false)
	if err != nil {
		return err
	}
	for _, name := range g.names {
		err := push.Push(ctx, e.sessions, g.session, provider, e.worker.ContentStore(), g.root.Digest, name, e.out.insecure, e.worker.RegistryHosts, e.out.byDigest, annotations)
		var status remoteserrors.ErrUnexpectedStatus
		if errors.As(err, &status) {
			err = errutil.WithDetails(err)
		}
		if err != nil {
			return fmt.Errorf("failed to push %s: %w", name, err)
		}
	}
	return nil
}

// write sends an OCI layout to the client: its files, or a tar of them.
func (e *variantExport) write(ctx context.Context, g goods, resp map[string]string) error {
	if g.root.Annotations == nil {
		g.root.Annotations = map[string]string{}
	}
	if g.root.Annotations[ocispecs.AnnotationCreated] == "" {
		at, err := e.created(g.src)
		if err != nil {
			return err
		}
		g.root.Annotations[ocispecs.AnnotationCreated] = at.UTC().Format(time.RFC3339)
	}
	for i, name := range g.names {
		named, err := reference.ParseNormalizedNamed(name)
		if err != nil {
			return err
		}
		g.names[i] = reference.TagNameOnly(named).String()
	}
	if len(g.names) > 0 {
		resp[exptypes.ExporterImageNameKey] = strings.Join(g.names, ",")
	}
	if err := answer(resp, g); err != nil {
		return err
	}
	provider, _, err := e.blobs(ctx, g, true)
	if err != nil {
		return err
	}
	waiting, cancel := context.WithTimeoutCause(ctx, 5*time.Second, errors.New("the client does not answer"))
	defer cancel()
	caller, err := e.sessions.Get(waiting, g.session, false)
	if err != nil {
		return err
	}
	if e.out.dir {
		return contentutil.CopyChain(ctx, sessioncontent.NewCallerStore(caller, "export"), provider, g.root)
	}
	w, err := filesync.CopyFileWriter(ctx, resp, e.ID(), caller)
	if err != nil {
		return err
	}
	done := progress.OneOff(ctx, "sending tarball")
	err = archiveexporter.Export(ctx, provider, w, archiveexporter.WithManifest(g.root, g.names...), archiveexporter.WithAllPlatforms(), archiveexporter.WithSkipDockerManifest())
	if closed := w.Close(); err == nil {
		err = closed
	}
	if grpcerrors.Code(err) == codes.AlreadyExists {
		err = nil // the client has it, and wants none
	}
	return done(err)
}

// created is what a layout's index says of the time: the epoch's, if there is
// one.
func (e *variantExport) created(src *exporter.Source) (time.Time, error) {
	if at := e.variants[0].opt.epoch; at != nil {
		return *at, nil
	}
	at, err := epoch.ParseSource(src, nil)
	if err != nil || at == nil {
		return time.Now(), err
	}
	return *at, nil
}
