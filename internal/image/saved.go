package image

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/lighter-oci/lighter/internal/codec"
)

// saved is the Source of a Docker archive without an OCI layout: manifests are
// made here, from the files that manifest.json lists.
type saved struct {
	where  string
	files  *dockerTar
	images []savedImage

	making sync.Mutex                    // one image is looked at at a time
	made   map[int]ocispec.Descriptor    // manifests, by the image's place
	layers map[string]ocispec.Descriptor // by the file's name

	mu    sync.Mutex
	blobs map[digest.Digest]*io.SectionReader // all that was looked at
}

func newSaved(where string, files *dockerTar, images []savedImage) *saved {
	return &saved{where: where, files: files, images: images, made: map[int]ocispec.Descriptor{},
		layers: map[string]ocispec.Descriptor{}, blobs: map[digest.Digest]*io.SectionReader{}}
}

// Resolve implements Source.
func (s *saved) Resolve(ctx context.Context, ref string) (ocispec.Descriptor, error) {
	desc, err := s.resolve(ctx, ref)
	if err != nil {
		return desc, fmt.Errorf("docker archive %s: %w", s.where, err)
	}
	return desc, nil
}

func (s *saved) resolve(ctx context.Context, ref string) (ocispec.Descriptor, error) {
	if err := ctx.Err(); err != nil {
		return ocispec.Descriptor{}, err
	}
	if d, err := digest.Parse(ref); err == nil {
		return s.byDigest(ctx, d)
	}
	i, err := s.find(ref)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	return s.manifest(ctx, i)
}

// find answers the place of an image.
func (s *saved) find(ref string) (int, error) {
	switch {
	case ref == "" && len(s.images) == 1:
		return 0, nil
	case ref == "":
		return 0, fmt.Errorf("it holds %d images: name one of %s", len(s.images), s.names())
	}
	if n, ok := strings.CutPrefix(ref, "@"); ok {
		if i, err := strconv.Atoi(n); err == nil && i >= 0 && i < len(s.images) {
			return i, nil
		}
	}
	i := slices.IndexFunc(s.images, func(img savedImage) bool {
		return slices.ContainsFunc(img.RepoTags, func(tag string) bool { return sameName(tag, ref) })
	})
	if i < 0 {
		return 0, fmt.Errorf("%w: it has no %.200q, but %s", ErrNotFound, ref, s.names())
	}
	return i, nil
}

// sameName tells whether two names are one, written out or not.
func sameName(a, b string) bool {
	if a == b {
		return true
	}
	x, err := ParseReference(a)
	if err != nil {
		return false
	}
	y, err := ParseReference(b)
	return err == nil && x.String() == y.String()
}

// names lists what can be asked for, shortened for one line.
func (s *saved) names() string {
	var names []string
	for i, img := range s.images {
		if i == 10 {
			names = append(names, fmt.Sprintf("%d more", len(s.images)-i))
			break
		}
		name := "@" + strconv.Itoa(i)
		if len(img.RepoTags) > 0 {
			name = img.RepoTags[0]
		}
		names = append(names, fmt.Sprintf("%.200q", name))
	}
	return strings.Join(names, ", ")
}

// byDigest finds the image whose config or manifest is d. Manifests have no
// digest before they are made.
func (s *saved) byDigest(ctx context.Context, d digest.Digest) (ocispec.Descriptor, error) {
	for i, img := range s.images {
		b, err := s.files.read(img.Config)
		if err == nil && d.Algorithm().FromBytes(b) == d {
			return s.manifest(ctx, i)
		}
	}
	for i := range s.images {
		desc, err := s.manifest(ctx, i)
		if err != nil {
			return desc, err
		}
		if desc.Digest == d {
			return desc, nil
		}
	}
	return ocispec.Descriptor{}, fmt.Errorf("%w: %s", ErrNotFound, d)
}

// manifest makes the manifest of an image, once.
func (s *saved) manifest(ctx context.Context, i int) (ocispec.Descriptor, error) {
	s.making.Lock()
	defer s.making.Unlock()
	if desc, ok := s.made[i]; ok {
		return desc, nil
	}
	img := s.images[i]
	b, err := s.files.read(img.Config)
	if err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("config: %w", err)
	}
	config := s.keep(ocispec.MediaTypeImageConfig, io.NewSectionReader(bytes.NewReader(b), 0, int64(len(b))), digest.FromBytes(b))
	parsed, err := parseConfig(config, b)
	if err != nil {
		return config, err
	}
	if len(parsed.RootFS.DiffIDs) != len(img.Layers) {
		return config, fmt.Errorf("%w: %s lists %d layers, config %.200q has %d diffIDs",
			ErrCorrupt, savedManifest, len(img.Layers), img.Config, len(parsed.RootFS.DiffIDs))
	}
	layers, err := s.hash(ctx, img.Layers, parsed.RootFS.DiffIDs)
	if err != nil {
		return config, err
	}
	b, err = json.Marshal(ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, Config: config, Layers: layers,
	})
	if err != nil {
		return config, err
	}
	s.made[i] = s.keep(ocispec.MediaTypeImageManifest, io.NewSectionReader(bytes.NewReader(b), 0, int64(len(b))), digest.FromBytes(b))
	return s.made[i], nil
}

// hash answers the descriptors of layers. Each file is read once, as many at a
// time as there are cores: hashing is what it takes.
func (s *saved) hash(ctx context.Context, names []string, diffIDs []digest.Digest) ([]ocispec.Descriptor, error) {
	at := make([]string, len(names))
	todo := map[string]extent{}
	for i, name := range names {
		file, e, err := s.files.find(name)
		if err != nil {
			return nil, fmt.Errorf("layer %d: %w", i+1, err)
		}
		if at[i] = file; s.layers[file].Digest == "" {
			todo[file] = e
		}
	}
	var mu sync.Mutex
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.GOMAXPROCS(0))
	for name, e := range todo {
		g.Go(func() error {
			desc, err := s.hashFile(ctx, e)
			if err != nil {
				return fmt.Errorf("layer %.200q: %w", name, err)
			}
			mu.Lock()
			defer mu.Unlock()
			s.layers[name] = desc
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	layers := make([]ocispec.Descriptor, len(names))
	for i, name := range at {
		layers[i] = s.layers[name]
		if layers[i].MediaType == ocispec.MediaTypeImageLayer && layers[i].Digest != diffIDs[i] {
			return nil, fmt.Errorf("%w: layer %.200q is %s, its config says %.100q", ErrCorrupt, names[i], layers[i].Digest, diffIDs[i])
		}
	}
	return layers, nil
}

func (s *saved) hashFile(ctx context.Context, e extent) (ocispec.Descriptor, error) {
	file := io.NewSectionReader(s.files.r, e.offset, e.size)
	h := sha256.New()
	// A hash is no io.ReaderFrom and part no io.WriterTo: the buffer is used.
	if _, err := io.CopyBuffer(h, &part{ctx: ctx, r: file}, make([]byte, 1<<20)); err != nil {
		return ocispec.Descriptor{}, err
	}
	magic := make([]byte, min(4, e.size))
	if _, err := file.ReadAt(magic, 0); err != nil && err != io.EOF {
		return ocispec.Descriptor{}, err
	}
	mediaType := codec.Compression{Codec: codec.Sniff(magic)}.MediaType()
	return s.keep(mediaType, file, digest.NewDigest(digest.SHA256, h)), nil
}

// keep remembers content and answers its descriptor.
func (s *saved) keep(mediaType string, content *io.SectionReader, d digest.Digest) ocispec.Descriptor {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.blobs[d] = content
	return ocispec.Descriptor{MediaType: mediaType, Digest: d, Size: content.Size()}
}

// Fetch implements Source.
func (s *saved) Fetch(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
	content, err := s.open(ctx, desc)
	if err != nil {
		return nil, err
	}
	return Verified(&part{ctx, io.NewSectionReader(content, 0, content.Size()), nothing}, desc)
}

// FetchRange implements Source.
func (s *saved) FetchRange(ctx context.Context, desc ocispec.Descriptor, offset, length int64) (io.ReadCloser, error) {
	start, end, err := Span(desc, offset, length)
	if err != nil {
		return nil, err
	}
	content, err := s.open(ctx, desc)
	if err != nil {
		return nil, err
	}
	return &part{ctx, io.NewSectionReader(content, start, end-start), nothing}, nil
}

func nothing() error { return nil }

func (s *saved) open(ctx context.Context, desc ocispec.Descriptor) (*io.SectionReader, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := CheckDescriptor(desc); err != nil {
		return nil, err
	}
	s.mu.Lock()
	content, ok := s.blobs[desc.Digest]
	s.mu.Unlock()
	switch {
	case !ok:
		return nil, fmt.Errorf("docker archive %s: %w: %s", s.where, ErrNotFound, desc.Digest)
	case content.Size() != desc.Size:
		return nil, fmt.Errorf("docker archive %s: %w: %s has %d bytes, not %d", s.where, ErrCorrupt, desc.Digest, content.Size(), desc.Size)
	}
	return content, nil
}

var _ Source = (*saved)(nil)
