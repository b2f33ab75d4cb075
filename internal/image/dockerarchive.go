package image

import (
	"archive/tar"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// DockerArchive is what `docker save` and `podman save` write and `docker load`
// reads. It is a Source; its references are NAME:TAG, digests of configs or
// manifests, @N for the image at that place from 0, or "" for the only one.
//
// Since Docker 25 the archive is an OCI layout too, and is read as one. Before,
// layers are files that nobody named by digest: then Resolve reads all layers of
// the image once, and makes the manifest that they have nowhere.
type DockerArchive struct {
	Source
	close func() error
}

// savedImage is one image of the archive's manifest.json (moby,
// image/tarexport).
type savedImage struct {
	Config   string
	RepoTags []string
	Layers   []string
}

const savedManifest = "manifest.json"

// OpenDockerArchive opens such a file. Nothing is unpacked.
func OpenDockerArchive(file string) (*DockerArchive, error) {
	f, size, err := openSized(file)
	if err != nil {
		return nil, err
	}
	return ReadDockerArchive(file, f, size, f.Close)
}

// ReadDockerArchive reads the archive of size bytes in r, which messages call
// where. It owns what release frees.
func ReadDockerArchive(where string, r io.ReaderAt, size int64, release func() error) (*DockerArchive, error) {
	src, err := readDockerArchive(where, r, size)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("docker archive %s: %w", where, err), release())
	}
	return &DockerArchive{src, release}, nil
}

// Close releases the archive.
func (a *DockerArchive) Close() error { return a.close() }

func readDockerArchive(where string, r io.ReaderAt, size int64) (Source, error) {
	files, err := indexDockerTar(r, size)
	if err != nil {
		return nil, err
	}
	images, err := files.manifest()
	if _, ok := files.entries[ocispec.ImageLayoutFile]; ok {
		if errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
		if err == nil {
			return dockerLayout(where, files, images)
		}
	}
	if err != nil {
		return nil, err
	}
	return newSaved(where, files, images), nil
}

// dockerTar is where the files of such an archive lie. Only names that stay
// inside are in it.
type dockerTar struct {
	r       io.ReaderAt
	entries map[string]extent
	links   map[string]string // to the name of another entry, "" where that is outside
}

func indexDockerTar(r io.ReaderAt, size int64) (*dockerTar, error) {
	t := &dockerTar{r: r, entries: map[string]extent{}, links: map[string]string{}}
	err := scanTar(r, size, func(header *tar.Header, e extent) error {
		name, ok := inside(header.Name)
		if !ok {
			return nil // nobody can ask for it
		}
		if len(t.entries)+len(t.links) >= maxEntries {
			return fmt.Errorf("it has more than %d files", maxEntries)
		}
		delete(t.entries, name) // the last one counts
		delete(t.links, name)
		switch {
		case isSparse(header):
			return fmt.Errorf("file %.200q in it is sparse", name)
		case header.Typeflag == tar.TypeReg:
			t.entries[name] = e
		case header.Typeflag == tar.TypeLink:
			t.links[name], _ = inside(header.Linkname)
		case header.Typeflag == tar.TypeSymlink && !path.IsAbs(header.Linkname):
			t.links[name], _ = inside(path.Join(path.Dir(name), header.Linkname))
		case header.Typeflag == tar.TypeSymlink:
			t.links[name] = ""
		}
		return nil
	})
	return t, err
}

// inside is a name as the archive's entries are called here; false where it is
// absolute or leads out.
func inside(name string) (string, bool) {
	name = path.Clean(name)
	if !fs.ValidPath(name) || name == "." {
		return "", false
	}
	return name, true
}

// maxLinks is how many links may lead to a file. Docker writes one.
const maxLinks = 8

// find answers a file that manifest.json names, under the name that it has when
// all links are followed.
func (t *dockerTar) find(name string) (string, extent, error) {
	at, ok := inside(name)
	if !ok {
		return "", extent{}, fmt.Errorf("file %.200q is not in the archive: its name leads out of it", name)
	}
	for range maxLinks {
		if e, ok := t.entries[at]; ok {
			return at, e, nil
		}
		if at, ok = t.links[at]; !ok {
			return "", extent{}, fmt.Errorf("file %.200q: %w", name, fs.ErrNotExist)
		}
		if at == "" {
			return "", extent{}, fmt.Errorf("file %.200q is a link that leads out of the archive", name)
		}
	}
	return "", extent{}, fmt.Errorf("file %.200q is a link to a link to a link, %d deep", name, maxLinks)
}

// read reads a small file whole.
func (t *dockerTar) read(name string) ([]byte, error) {
	_, e, err := t.find(name)
	if err != nil {
		return nil, err
	}
	if e.size > MaxJSON {
		return nil, fmt.Errorf("file %.200q has %d bytes, more than %d", name, e.size, MaxJSON)
	}
	b := make([]byte, e.size)
	_, err = io.ReadFull(io.NewSectionReader(t.r, e.offset, e.size), b)
	return b, err
}

// manifest reads manifest.json.
func (t *dockerTar) manifest() ([]savedImage, error) {
	b, err := t.read(savedManifest)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("it has no file %s: `docker save` did not write it, or one before Docker 1.10: %w", savedManifest, err)
	} else if err != nil {
		return nil, err
	}
	var images []savedImage
	if err := json.Unmarshal(b, &images); err != nil {
		return nil, fmt.Errorf("%s: %w", savedManifest, err)
	}
	if len(images) == 0 {
		return nil, fmt.Errorf("%w: %s names no image", ErrNotFound, savedManifest)
	}
	if len(images) > maxManifests {
		return nil, fmt.Errorf("%s names more than %d images", savedManifest, maxManifests)
	}
	for i, img := range images {
		if len(img.Layers) > maxLayers {
			return nil, fmt.Errorf("%s: image %d has more than %d layers", savedManifest, i+1, maxLayers)
		}
	}
	return images, nil
}

// dockerLayout is the layout in an archive of Docker 25 and newer.
func dockerLayout(where string, t *dockerTar, images []savedImage) (*Layout, error) {
	l := &Layout{where: where, files: &layoutTar{r: t.r, entries: t.entries, close: func() error { return nil }}}
	if err := l.load(); err != nil {
		return nil, err
	}
	var named []ocispec.Descriptor
	for _, desc := range l.index.Manifests {
		named = append(named, l.withTags(desc, images)...)
	}
	l.index.Manifests = named
	return l, nil
}

// withTags gives an entry of the index that has no name those that
// manifest.json has for it.
func (l *Layout) withTags(desc ocispec.Descriptor, images []savedImage) []ocispec.Descriptor {
	if desc.Annotations[containerdName] != "" || desc.Annotations[ocispec.AnnotationRefName] != "" || !IsManifest(desc.MediaType) {
		return []ocispec.Descriptor{desc}
	}
	var m ocispec.Manifest
	name, err := blobPath(desc)
	if err == nil {
		var b []byte
		if b, err = l.readFile(name); err == nil {
			m, err = parseManifest(desc, b)
		}
	}
	if err != nil {
		return []ocispec.Descriptor{desc} // whoever asks for it is told
	}
	var named []ocispec.Descriptor
	for _, img := range images {
		if path.Base(img.Config) != m.Config.Digest.Encoded() {
			continue
		}
		for _, tag := range img.RepoTags {
			if ref, err := ParseReference(tag); err == nil {
				tag = ref.String()
			}
			entry := desc
			entry.Annotations = map[string]string{containerdName: tag}
			named = append(named, entry)
		}
	}
	if len(named) == 0 {
		return []ocispec.Descriptor{desc}
	}
	return named
}
