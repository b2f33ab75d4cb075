package cachemount

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/lighter-oci/lighter/internal/engine"
	"github.com/lighter-oci/lighter/internal/image"
)

// Media types of an artifact. Registries that know no artifacts (distribution
// 2.8) take it for an image whose layers they need not understand.
const (
	ArtifactType    = "application/vnd.lighter.cachemounts.v1"
	mediaTypeConfig = "application/vnd.lighter.cachemounts.config.v1+json"
	mediaTypeTree   = "application/vnd.lighter.cachemount.tree.v1+zstd"
	mediaTypePack   = "application/vnd.lighter.cachemount.pack.v1+zstd"
)

// configVersion is of the config's own structure.
const configVersion = 1

// Key tells mounts apart. Two steps that name the same id but start it from
// different things, other owners and modes among them, have directories of their
// own in the engine, and so they have here.
type Key struct {
	ID       string `json:"id"`       // as the engine has it: a namespace, "/", the Dockerfile's id or target
	Platform string `json:"platform"` // "linux/amd64"; of the step that mounts it
	// From is a digest of how what the directory began as is made; "" where that was
	// empty.
	From string `json:"from,omitempty"`
}

// String is how messages name a mount.
func (k Key) String() string { return fmt.Sprintf("cache mount %s (%s)", k.Name(), k.Platform) }

// Name is the id as the Dockerfile has it, where there is no namespace.
func (k Key) Name() string { return strings.TrimPrefix(k.ID, "/") }

// Mount is one directory in an artifact.
type Mount struct {
	Key
	Tree   ocispec.Descriptor `json:"tree"`
	Packs  []Pack             `json:"packs,omitempty"`
	Files  int                `json:"files"`
	Size   int64              `json:"size"`   // bytes of content, without holes
	Pushed time.Time          `json:"pushed"` // when its directory was read
}

// Stored is what the mount takes where the artifact is, bytes.
func (m *Mount) Stored() int64 {
	n := m.Tree.Size
	for _, p := range m.Packs {
		n += p.Size
	}
	return n
}

// config is the artifact's list of mounts.
type config struct {
	Version int     `json:"version"`
	Mounts  []Mount `json:"mounts"`
}

// Artifact is one as it was read.
type Artifact struct {
	Descriptor ocispec.Descriptor // of the manifest
	Mounts     []Mount            // by id, then the rest of the key
}

// Find is the mount of a key; nil where there is none.
func (a *Artifact) Find(k Key) *Mount {
	if a == nil {
		return nil
	}
	for i := range a.Mounts {
		if a.Mounts[i].Key == k {
			return &a.Mounts[i]
		}
	}
	return nil
}

// Place is where an artifact is kept: a name in a repository.
type Place struct {
	// Source opens the repository for reading as it is now: an OCI layout that is
	// open does not see what others write. It is closed where it is an io.Closer.
	Source func() (image.Source, error)
	Target image.Target // where it is only read, nil
	Name   string       // a tag
}

// Open reads which mounts an artifact has, and none of them. Errors wrap ErrNone,
// ErrForeign, ErrCorrupt or are the source's.
func Open(ctx context.Context, p Place) (*Artifact, error) {
	src, err := p.Source()
	if err != nil {
		return nil, err
	}
	defer release(src)
	a, err := read(ctx, src, p.Name, nil)
	if err != nil {
		return nil, err // without what may have been read
	}
	return a, nil
}

func release(src image.Source) {
	if c, ok := src.(io.Closer); ok {
		_ = c.Close()
	}
}

// read reads an artifact, where the name stands for another than the one that is
// known; nil knows none. With an error about what the name stands for comes one
// that has a descriptor, and no mounts.
func read(ctx context.Context, src image.Source, name string, known *Artifact) (*Artifact, error) {
	within, cancel := context.WithTimeout(ctx, engine.CacheAnswer)
	defer cancel()
	a, err := readAll(within, src, name, known)
	if err != nil && within.Err() != nil && ctx.Err() == nil {
		return nil, fmt.Errorf("%w within %v", ErrSilent, engine.CacheAnswer)
	}
	return a, err
}

func readAll(ctx context.Context, src image.Source, name string, known *Artifact) (*Artifact, error) {
	desc, err := src.Resolve(ctx, name)
	if err != nil && desc.Digest != "" { // the name is there, and its manifest is not, or another
		return &Artifact{Descriptor: desc}, missing(err)
	}
	if errors.Is(err, image.ErrNotFound) {
		return nil, fmt.Errorf("%w: %w", ErrNone, err)
	}
	if err != nil {
		return nil, err
	}
	if known != nil && known.Descriptor.Digest == desc.Digest {
		return known, nil
	}
	a := &Artifact{Descriptor: ocispec.Descriptor{MediaType: desc.MediaType, Digest: desc.Digest, Size: desc.Size}}
	b, err := image.ReadAll(ctx, src, desc)
	if err != nil {
		return a, missing(err)
	}
	var m ocispec.Manifest
	if err := json.Unmarshal(b, &m); err != nil {
		return a, corrupt("manifest %s: %w", desc.Digest, err)
	}
	if m.Config.MediaType != mediaTypeConfig {
		return a, fmt.Errorf("%w: %s is %.100q; name a tag of its own for cache mounts", ErrForeign, desc.Digest, cmp.Or(m.ArtifactType, m.Config.MediaType, desc.MediaType))
	}
	if b, err = image.ReadAll(ctx, src, m.Config); err != nil {
		return a, missing(err)
	}
	var c config
	if err := json.Unmarshal(b, &c); err != nil {
		return a, corrupt("config %s: %w", m.Config.Digest, err)
	}
	if c.Version != configVersion {
		return a, fmt.Errorf("%w: version %d; use a newer lighter, or another tag", ErrForeign, c.Version)
	}
	if err := c.check(); err != nil {
		return a, err
	}
	a.Mounts = c.Mounts
	return a, nil
}

// missing is an error about what an artifact should have.
func missing(err error) error {
	if errors.Is(err, image.ErrNotFound) {
		return fmt.Errorf("%w: %w", ErrMissing, err)
	}
	return err
}

func (c *config) check() error {
	seen := map[Key]bool{}
	for i := range c.Mounts {
		m := &c.Mounts[i]
		if seen[m.Key] {
			return corrupt("%s is there twice", m.Key)
		}
		seen[m.Key] = true
		if err := image.CheckDescriptor(m.Tree); err != nil {
			return corrupt("%s: %w", m.Key, err)
		}
		if err := checkPacks(m.Packs); err != nil {
			return fmt.Errorf("%s: %w", m.Key, err)
		}
	}
	return nil
}

// document is content with its descriptor.
type document struct {
	desc ocispec.Descriptor
	b    []byte
}

func newDocument(mediaType string, v any) (document, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return document{}, err
	}
	return document{ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(b), Size: int64(len(b))}, b}, nil
}

// documents are the config and the manifest of an artifact with these mounts,
// whose order it makes its own: the same mounts are the same artifact.
func documents(mounts []Mount) (conf, manifest document, err error) {
	slices.SortFunc(mounts, func(a, b Mount) int {
		return cmp.Or(cmp.Compare(a.ID, b.ID), cmp.Compare(a.Platform, b.Platform), cmp.Compare(a.From, b.From))
	})
	if conf, err = newDocument(mediaTypeConfig, config{configVersion, mounts}); err != nil {
		return conf, manifest, err
	}
	m := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest,
		ArtifactType: ArtifactType, Config: conf.desc}
	seen := map[digest.Digest]bool{}
	add := func(desc ocispec.Descriptor) {
		if !seen[desc.Digest] {
			seen[desc.Digest] = true
			m.Layers = append(m.Layers, desc)
		}
	}
	for i := range mounts {
		add(mounts[i].Tree)
		for _, p := range mounts[i].Packs {
			add(p.descriptor())
		}
	}
	manifest, err = newDocument(ocispec.MediaTypeImageManifest, m)
	return conf, manifest, err
}

func (p *Pack) descriptor() ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: mediaTypePack, Digest: p.Digest, Size: p.Size}
}
