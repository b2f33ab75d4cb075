package daemon

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/platforms"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/identity"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// maxJSON bounds a manifest, an index and a config. Registries stop at 4 MiB
// for the first two; no config comes near it.
const maxJSON = 16 << 20

// maxDepth is how deep indexes may nest. The spec allows it and nobody uses it.
const maxDepth = 4

// blob is one node of a descriptor graph.
type blob struct {
	desc     ocispec.Descriptor
	raw      []byte               // of an index, a manifest, a config; nil for what is read when it travels
	children []ocispec.Descriptor // of an index, a manifest
	layer    bool
	diffID   digest.Digest // of a layer of an image
}

// loadable is one manifest with what a daemon wants to know of it.
type loadable struct {
	desc   ocispec.Descriptor
	config blob
	layers []blob          // in order; one blob may be there twice
	chains []digest.Digest // chainID of each layer with all below it
}

// graph is everything below root, root included, children before their
// parents, each digest once.
func graph(ctx context.Context, src content.Provider, root ocispec.Descriptor) ([]blob, error) {
	var all []blob
	seen := map[digest.Digest]bool{}
	add := func(b blob) {
		if !seen[b.desc.Digest] {
			seen[b.desc.Digest] = true
			all = append(all, b)
		}
	}
	var walk func(desc ocispec.Descriptor, depth int) error
	walk = func(desc ocispec.Descriptor, depth int) error {
		switch {
		case images.IsIndexType(desc.MediaType):
			if depth == maxDepth {
				return fmt.Errorf("index %s: nested more than %d deep", desc.Digest, maxDepth)
			}
			var index ocispec.Index
			raw, err := readJSON(ctx, src, desc, &index)
			if err != nil {
				return err
			}
			for _, m := range index.Manifests {
				if err := walk(m, depth+1); err != nil {
					return err
				}
			}
			add(blob{desc: desc, raw: raw, children: index.Manifests})
		case images.IsManifestType(desc.MediaType):
			var m ocispec.Manifest
			raw, err := readJSON(ctx, src, desc, &m)
			if err != nil {
				return err
			}
			config, layers, err := manifestBlobs(ctx, src, m)
			if err != nil {
				return err
			}
			add(config)
			for _, l := range layers {
				add(l)
			}
			add(blob{desc: desc, raw: raw, children: append([]ocispec.Descriptor{m.Config}, m.Layers...)})
		default:
			if err := desc.Digest.Validate(); err != nil {
				return fmt.Errorf("descriptor %q: %w", desc.Digest, err)
			}
			add(blob{desc: desc})
		}
		return nil
	}
	return all, walk(root, 0)
}

// manifestBlobs are the config and the layers of m. The layers have diffIDs
// where the config is an image's and has as many.
func manifestBlobs(ctx context.Context, src content.Provider, m ocispec.Manifest) (blob, []blob, error) {
	for _, d := range append([]ocispec.Descriptor{m.Config}, m.Layers...) {
		if err := d.Digest.Validate(); err != nil {
			return blob{}, nil, fmt.Errorf("descriptor %q: %w", d.Digest, err)
		}
	}
	config := blob{desc: m.Config}
	var parsed ocispec.Image
	if images.IsConfigType(m.Config.MediaType) {
		raw, err := readJSON(ctx, src, m.Config, &parsed)
		if err != nil {
			return blob{}, nil, err
		}
		config.raw = raw
	}
	layers := make([]blob, len(m.Layers))
	for i, desc := range m.Layers {
		layers[i] = blob{desc: desc, layer: images.IsLayerType(desc.MediaType)}
		if len(parsed.RootFS.DiffIDs) == len(m.Layers) {
			layers[i].diffID = parsed.RootFS.DiffIDs[i]
		}
	}
	return config, layers, nil
}

// readImage reads the manifest that desc describes, which is an image's.
func readImage(ctx context.Context, src content.Provider, desc ocispec.Descriptor) (*loadable, error) {
	var m ocispec.Manifest
	if _, err := readJSON(ctx, src, desc, &m); err != nil {
		return nil, err
	}
	config, layers, err := manifestBlobs(ctx, src, m)
	if err != nil {
		return nil, err
	}
	diffIDs := make([]digest.Digest, len(layers))
	for i, l := range layers {
		if diffIDs[i] = l.diffID; l.diffID.Validate() != nil {
			return nil, fmt.Errorf("manifest %s: its config does not have a diffID for each of its %d layers", desc.Digest, len(layers))
		}
	}
	return &loadable{desc: desc, config: config, layers: layers, chains: identity.ChainIDs(diffIDs)}, nil // which overwrites them
}

// choice is the one manifest that a machine runs.
type choice struct {
	desc     ocispec.Descriptor
	platform string   // "" where there was nothing to choose from
	left     []string // platforms of the others
}

// choose finds in root the manifest for the daemon's platform. An index with
// one image has it loaded whatever it is for, as a manifest has: who builds
// one foreign platform means to have it.
func choose(ctx context.Context, src content.Provider, root ocispec.Descriptor, daemon ocispec.Platform) (*choice, error) {
	if images.IsManifestType(root.MediaType) {
		return &choice{desc: root}, nil
	}
	found, err := candidates(ctx, src, root, 0)
	if err != nil {
		return nil, err
	}
	best, match := -1, platforms.Only(daemon)
	for i, d := range found {
		if match.Match(*d.Platform) && (best < 0 || match.Less(*d.Platform, *found[best].Platform)) {
			best = i
		}
	}
	if best < 0 && len(found) == 1 {
		best = 0
	}
	c := &choice{}
	for _, d := range found {
		name := platforms.Format(*d.Platform)
		if best < 0 || name != platforms.Format(*found[best].Platform) { // not the same one compressed otherwise
			c.left = append(c.left, name)
		}
	}
	if best < 0 {
		want := platforms.Format(daemon)
		return nil, &hinted{fmt.Errorf("image %s is for %s, the daemon runs %s", root.Digest, strings.Join(c.left, ", "), want),
			"build with --platform " + want}
	}
	c.desc, c.platform = found[best], platforms.Format(*found[best].Platform)
	return c, nil
}

// candidates are the images of an index, each with its platform.
func candidates(ctx context.Context, src content.Provider, desc ocispec.Descriptor, depth int) ([]ocispec.Descriptor, error) {
	if !images.IsIndexType(desc.MediaType) || depth == maxDepth {
		return nil, fmt.Errorf("%s: %q is neither a manifest nor an index", desc.Digest, desc.MediaType)
	}
	var index ocispec.Index
	if _, err := readJSON(ctx, src, desc, &index); err != nil {
		return nil, err
	}
	var found []ocispec.Descriptor
	for _, m := range index.Manifests {
		switch {
		case isAttestation(m):
		case images.IsIndexType(m.MediaType):
			more, err := candidates(ctx, src, m, depth+1)
			if err != nil {
				return nil, err
			}
			found = append(found, more...)
		case images.IsManifestType(m.MediaType):
			if m.Platform == nil {
				p, err := configPlatform(ctx, src, m)
				if err != nil {
					return nil, err
				}
				m.Platform = p
			}
			found = append(found, m)
		}
	}
	if depth == 0 && len(found) == 0 {
		return nil, fmt.Errorf("index %s has no image", desc.Digest)
	}
	return found, nil
}

func configPlatform(ctx context.Context, src content.Provider, desc ocispec.Descriptor) (*ocispec.Platform, error) {
	var m ocispec.Manifest
	if _, err := readJSON(ctx, src, desc, &m); err != nil {
		return nil, err
	}
	var config ocispec.Image
	if _, err := readJSON(ctx, src, m.Config, &config); err != nil {
		return nil, err
	}
	return &config.Platform, nil
}

// isAttestation tells BuildKit's provenance and SBOM manifests, which no
// daemon runs, from images.
func isAttestation(desc ocispec.Descriptor) bool {
	return desc.Annotations["vnd.docker.reference.type"] == "attestation-manifest" ||
		desc.Platform != nil && desc.Platform.OS == "unknown" && desc.Platform.Architecture == "unknown"
}

// readJSON reads a small blob whole, holds it against its digest and decodes it.
func readJSON(ctx context.Context, src content.Provider, desc ocispec.Descriptor, into any) ([]byte, error) {
	if err := desc.Digest.Validate(); err != nil {
		return nil, fmt.Errorf("descriptor %q: %w", desc.Digest, err)
	}
	ra, err := src.ReaderAt(ctx, desc)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", desc.Digest, err)
	}
	defer ra.Close()
	if ra.Size() > maxJSON {
		return nil, fmt.Errorf("read %s: %d bytes are too many for %s", desc.Digest, ra.Size(), desc.MediaType)
	}
	raw, err := io.ReadAll(content.NewReader(ra))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", desc.Digest, err)
	}
	if got := desc.Digest.Algorithm().FromBytes(raw); got != desc.Digest {
		return nil, fmt.Errorf("read %s: its bytes have the digest %s", desc.Digest, got)
	}
	if err := json.Unmarshal(raw, into); err != nil {
		return nil, fmt.Errorf("read %s: %w", desc.Digest, err)
	}
	return raw, nil
}
