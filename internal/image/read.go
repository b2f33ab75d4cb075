package image

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"
)

// Bounds of one image, far above anything real (indexes of ten platforms with
// an attestation each; Docker stops at 127 layers), so that a hostile one costs
// bounded memory and a bounded number of requests.
const (
	maxDepth     = 4        // of indexes in indexes
	maxManifests = 1000     // of one image
	maxLayers    = 10_000   // of one image
	maxAllJSON   = 64 << 20 // bytes of all manifests, indexes and configs
)

// What an index says about an attestation (BuildKit, docs/attestations).
const (
	referenceType   = "vnd.docker.reference.type"
	referenceDigest = "vnd.docker.reference.digest"
	attestationType = "attestation-manifest"
	unknownPlatform = "unknown"
)

// ReadOptions bounds a Read. The zero value is fine.
type ReadOptions struct {
	// Concurrency is how many manifests or layers are read at once; 0 is 8.
	// Latency is what it hides: a part of a layer is a few KiB.
	Concurrency int
}

// Read resolves ref and reads all there is to know about the image without
// fetching its layers: the indexes, manifests and configs, verified, and of
// each layer the first bytes and the record. Errors name the digest at fault
// and wrap ErrNotFound, ErrCorrupt or the source's own.
func Read(ctx context.Context, src Source, ref string, opts ReadOptions) (*Image, error) {
	root, err := src.Resolve(ctx, ref)
	if err != nil {
		return nil, err
	}
	if opts.Concurrency <= 0 {
		opts.Concurrency = 8
	}
	r := &reader{src: src, opts: opts, seen: map[digest.Digest]int64{}, img: &Image{Root: root}}
	r.img.Root.Data = nil
	switch {
	case isSchema1(root.MediaType):
		return nil, fmt.Errorf("%s is a schema 1 manifest, which nobody has written since 2017: pull and push it with a current client first", root.Digest)
	case !IsIndex(root.MediaType) && !IsManifest(root.MediaType):
		return nil, fmt.Errorf("%s is no image: its media type is %.200q", root.Digest, root.MediaType)
	}
	if err := r.walk(ctx, root, nil); err != nil {
		return nil, err
	}
	if err := r.readManifests(ctx); err != nil {
		return nil, err
	}
	if err := r.probeLayers(ctx); err != nil {
		return nil, err
	}
	return r.img, nil
}

// reader is the state of one Read. walk runs alone, before the parallel parts.
type reader struct {
	src   Source
	opts  ReadOptions
	img   *Image
	seen  map[digest.Digest]int64 // sizes
	bytes int64                   // of JSON, announced so far
}

// walk collects the manifests under desc, in order. path holds the indexes
// above it.
func (r *reader) walk(ctx context.Context, desc ocispec.Descriptor, path []digest.Digest) error {
	if slices.Contains(path, desc.Digest) {
		return fmt.Errorf("index %s contains itself", desc.Digest)
	}
	if size, ok := r.seen[desc.Digest]; ok {
		if size != desc.Size {
			return fmt.Errorf("%w: %s has %d bytes in one place and %d in another", ErrCorrupt, desc.Digest, size, desc.Size)
		}
		return nil
	}
	r.seen[desc.Digest] = desc.Size
	if !IsIndex(desc.MediaType) {
		return r.add(desc)
	}
	if len(path) >= maxDepth {
		return fmt.Errorf("index %s lies in more than %d others", desc.Digest, maxDepth)
	}
	if err := r.account(desc); err != nil {
		return err
	}
	b, err := ReadAll(ctx, r.src, desc)
	if err != nil {
		return err
	}
	index, err := parseIndex(desc, b)
	if err != nil {
		return err
	}
	desc.Data = nil
	if len(r.img.Indexes) == 0 {
		r.img.Annotations = index.Annotations
	}
	r.img.Indexes = append(r.img.Indexes, desc)
	path = append(slices.Clone(path), desc.Digest)
	for _, child := range index.Manifests {
		if isSchema1(child.MediaType) {
			return fmt.Errorf("index %s holds the schema 1 manifest %s, which cannot be read", desc.Digest, child.Digest)
		}
		if err := CheckDescriptor(child); err != nil {
			return fmt.Errorf("index %s: %w", desc.Digest, err)
		}
		if err := r.walk(ctx, child, path); err != nil {
			return err
		}
	}
	return nil
}

// account counts content before it is fetched.
func (r *reader) account(desc ocispec.Descriptor) error {
	if desc.Size > MaxJSON {
		return fmt.Errorf("%s has %d bytes, more than the %d that are read of a manifest or index", desc.Digest, desc.Size, MaxJSON)
	}
	if r.bytes += desc.Size; r.bytes > maxAllJSON {
		return fmt.Errorf("image %s has more than %d MiB of manifests", r.img.Root.Digest, maxAllJSON>>20)
	}
	return nil
}

// add notes a manifest, with what the index says about it.
func (r *reader) add(desc ocispec.Descriptor) error {
	if len(r.img.Manifests) == maxManifests {
		return fmt.Errorf("image %s has more than %d manifests", r.img.Root.Digest, maxManifests)
	}
	if err := r.account(desc); err != nil {
		return err
	}
	m := &Manifest{Descriptor: desc}
	if p := desc.Platform; p != nil {
		m.Platform = platform(*p)
		m.Attestation = p.OS == unknownPlatform && p.Architecture == unknownPlatform
	}
	if desc.Annotations[referenceType] == attestationType {
		m.Attestation = true
	}
	if m.Attestation {
		m.Platform = ""
		if d, err := digest.Parse(desc.Annotations[referenceDigest]); err == nil {
			m.Subject = d
		}
	}
	r.img.Manifests = append(r.img.Manifests, m)
	return nil
}

// platform is "os/architecture[/variant]", "" for an empty one.
func platform(p ocispec.Platform) string {
	if p.OS == "" && p.Architecture == "" {
		return ""
	}
	parts := []string{p.OS, p.Architecture}
	if p.Variant != "" {
		parts = append(parts, p.Variant)
	}
	return strings.Join(parts, "/")
}

// readManifests fills in the manifests that walk has found.
func (r *reader) readManifests(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(r.opts.Concurrency)
	for _, m := range r.img.Manifests {
		if !IsManifest(m.Descriptor.MediaType) {
			continue // an artifact of a kind that is not ours to read
		}
		g.Go(func() error { return readManifest(ctx, r.src, m) })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	if len(r.img.Indexes) == 0 {
		r.img.Annotations = r.img.Manifests[0].Annotations
	}
	layers := 0
	for _, m := range r.img.Manifests {
		m.Descriptor.Data = nil
		layers += len(m.Layers)
	}
	if layers > maxLayers {
		return fmt.Errorf("image %s has %d layers, more than %d", r.img.Root.Digest, layers, maxLayers)
	}
	return nil
}

func readManifest(ctx context.Context, src Source, m *Manifest) error {
	b, err := ReadAll(ctx, src, m.Descriptor)
	if err != nil {
		return err
	}
	doc, err := parseManifest(m.Descriptor, b)
	if err != nil {
		return err
	}
	m.ConfigDescriptor, m.Annotations, m.ArtifactType = doc.Config, doc.Annotations, doc.ArtifactType
	m.Layers = make([]Layer, len(doc.Layers))
	for i, desc := range doc.Layers {
		if err := CheckDescriptor(desc); err != nil {
			return fmt.Errorf("manifest %s, layer %d: %w", m.Descriptor.Digest, i+1, err)
		}
		desc.Data = nil
		m.Layers[i].Descriptor = desc
		m.Layers[i].Claimed, m.Layers[i].Foreign, _ = claimed(desc.MediaType)
	}
	if !m.IsImage() {
		return nil
	}
	if b, err = ReadAll(ctx, src, doc.Config); err != nil {
		return fmt.Errorf("config of manifest %s: %w", m.Descriptor.Digest, err)
	}
	return m.setConfig(b)
}

// setConfig parses the config and gives the layers their diffIDs.
func (m *Manifest) setConfig(b []byte) error {
	config, err := parseConfig(m.ConfigDescriptor, b)
	if err != nil {
		return err
	}
	if m.Platform == "" {
		m.Platform = platform(config.Platform)
	}
	if config.OS == unknownPlatform && config.Architecture == unknownPlatform {
		m.Attestation, m.Platform = true, ""
		return nil
	}
	m.Config = config
	diffIDs := config.RootFS.DiffIDs
	if len(diffIDs) != len(m.Layers) {
		return fmt.Errorf("manifest %s has %d layers, its config %s has %d diffIDs",
			m.Descriptor.Digest, len(m.Layers), m.ConfigDescriptor.Digest, len(diffIDs))
	}
	for i, d := range diffIDs {
		if err := d.Validate(); err != nil {
			return fmt.Errorf("config %s, diffID %d %.100q: %w", m.ConfigDescriptor.Digest, i+1, string(d), err)
		}
		m.Layers[i].DiffID = d
	}
	return nil
}
