package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// containerdName is where BuildKit and containerd put the whole name of an
// image; the specification's ref.name holds the tag only.
const containerdName = "io.containerd.image.name"

// Layout is an OCI image layout (image specification, image-layout.md), read
// from a directory or straight from a tar archive. It is a Source; its
// references are the names in its index, digests, or "" for the only image.
type Layout struct {
	where string // for messages
	files layoutFiles
	index ocispec.Index
}

// layoutFiles opens the files of a layout by slash-separated path.
type layoutFiles interface {
	open(name string) (*layoutFile, error) // wraps fs.ErrNotExist
	Close() error
}

// layoutFile is one of them.
type layoutFile struct {
	io.ReaderAt
	size  int64
	close func() error
}

// notThere is an ErrNotFound in words of its own.
type notThere string

func (e notThere) Error() string        { return string(e) }
func (e notThere) Is(target error) bool { return target == ErrNotFound }

// OpenLayout opens a layout in a directory. Its index is read now: what a
// writer adds later is not seen.
func OpenLayout(dir string) (*Layout, error) {
	switch info, err := os.Stat(dir); {
	case errors.Is(err, fs.ErrNotExist):
		return nil, notThere("OCI layout " + dir + ": there is no such directory")
	case err == nil && !info.IsDir():
		return nil, fmt.Errorf("OCI layout %s: it is a file; oci-archive: and docker-archive: read those", dir)
	}
	return newLayout(dir, layoutDir(dir))
}

func newLayout(where string, files layoutFiles) (*Layout, error) {
	l := &Layout{where: where, files: files}
	if err := l.load(); err != nil {
		return nil, errors.Join(fmt.Errorf("OCI layout %s: %w", where, err), files.Close())
	}
	return l, nil
}

// load reads the two files that every layout has.
func (l *Layout) load() error {
	b, err := l.readFile(ocispec.ImageLayoutFile)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("it is none: it has no file %s", ocispec.ImageLayoutFile)
	} else if err != nil {
		return err
	}
	var version ocispec.ImageLayout
	if err := json.Unmarshal(b, &version); err != nil {
		return fmt.Errorf("%s: %w", ocispec.ImageLayoutFile, err)
	}
	if !strings.HasPrefix(version.Version, "1.") {
		return fmt.Errorf("%s: version %.20q is not 1.x", ocispec.ImageLayoutFile, version.Version)
	}
	if b, err = l.readFile(ocispec.ImageIndexFile); err != nil {
		return err
	}
	if err := json.Unmarshal(b, &l.index); err != nil {
		return fmt.Errorf("%s: %w", ocispec.ImageIndexFile, err)
	}
	return nil
}

// readFile reads a small file whole.
func (l *Layout) readFile(name string) ([]byte, error) {
	f, err := l.files.open(name)
	if err != nil {
		return nil, err
	}
	if f.size > MaxJSON {
		return nil, errors.Join(fmt.Errorf("%s has %d bytes, more than %d", name, f.size, MaxJSON), f.close())
	}
	b, err := io.ReadAll(io.NewSectionReader(f, 0, f.size))
	return b, errors.Join(err, f.close())
}

// Close releases the archive; a directory has nothing to release.
func (l *Layout) Close() error { return l.files.Close() }

// Descriptors are the entries of the layout's index: its images, with their
// names in the annotations.
func (l *Layout) Descriptors() []ocispec.Descriptor {
	return append([]ocispec.Descriptor(nil), l.index.Manifests...)
}

// Resolve implements Source.
func (l *Layout) Resolve(ctx context.Context, ref string) (ocispec.Descriptor, error) {
	desc, err := l.find(ref)
	if err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("OCI layout %s: %w", l.where, err)
	}
	_, err = ReadAll(ctx, l, desc) // with an error, who wants to mend it knows what the name stands for
	return desc, err
}

func (l *Layout) find(ref string) (ocispec.Descriptor, error) {
	var found []ocispec.Descriptor
	for _, desc := range l.index.Manifests {
		if named(desc, ref) && (len(found) == 0 || found[0].Digest != desc.Digest) {
			found = append(found, desc)
		}
	}
	switch {
	case len(found) == 1:
		return found[0], nil
	case len(found) > 1 && ref == "":
		return found[0], fmt.Errorf("it holds %d images: name one of %s", len(found), l.names())
	case len(found) > 1:
		return found[0], fmt.Errorf("%q names %d images; name a digest", ref, len(found))
	}
	if d, err := digest.Parse(ref); err == nil {
		return l.findDigest(d)
	}
	if len(l.index.Manifests) == 0 {
		return ocispec.Descriptor{}, fmt.Errorf("%w: it holds no image", ErrNotFound)
	}
	return ocispec.Descriptor{}, fmt.Errorf("%w: it has no %q, but %s", ErrNotFound, ref, l.names())
}

// named tells whether ref means this entry of the index.
func named(desc ocispec.Descriptor, ref string) bool {
	name, full := desc.Annotations[ocispec.AnnotationRefName], desc.Annotations[containerdName]
	if ref == "" || ref == name || ref == full || ref == desc.Digest.String() {
		return true
	}
	r, err := ParseReference(ref)
	return err == nil && (r.String() == full || r.String() == name)
}

// findDigest finds a manifest that is not in the index itself, but under it.
func (l *Layout) findDigest(d digest.Digest) (ocispec.Descriptor, error) {
	name, err := blobPath(ocispec.Descriptor{Digest: d})
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	b, err := l.readFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return ocispec.Descriptor{}, fmt.Errorf("%w: %s", ErrNotFound, d)
	} else if err != nil {
		return ocispec.Descriptor{}, err
	}
	mediaType := ManifestType(b)
	if mediaType == "" {
		return ocispec.Descriptor{}, fmt.Errorf("%w: %s is no manifest", ErrNotFound, d)
	}
	return ocispec.Descriptor{MediaType: mediaType, Digest: d, Size: int64(len(b))}, nil
}

// names lists what can be asked for, shortened for one line.
func (l *Layout) names() string {
	var names []string
	for i, desc := range l.index.Manifests {
		if i == 10 {
			names = append(names, fmt.Sprintf("%d more", len(l.index.Manifests)-i))
			break
		}
		name := desc.Annotations[containerdName]
		if name == "" {
			name = desc.Annotations[ocispec.AnnotationRefName]
		}
		if name == "" {
			name = desc.Digest.String()
		}
		names = append(names, fmt.Sprintf("%.200q", name))
	}
	return strings.Join(names, ", ")
}

// Fetch implements Source.
func (l *Layout) Fetch(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
	f, err := l.openBlob(desc)
	if err != nil {
		return nil, err
	}
	return Verified(&part{ctx, io.NewSectionReader(f, 0, f.size), f.close}, desc)
}

// FetchRange implements Source.
func (l *Layout) FetchRange(ctx context.Context, desc ocispec.Descriptor, offset, length int64) (io.ReadCloser, error) {
	start, end, err := Span(desc, offset, length)
	if err != nil {
		return nil, err
	}
	f, err := l.openBlob(desc)
	if err != nil {
		return nil, err
	}
	return &part{ctx, io.NewSectionReader(f, start, end-start), f.close}, nil
}

func (l *Layout) openBlob(desc ocispec.Descriptor) (*layoutFile, error) {
	name, err := blobPath(desc)
	if err != nil {
		return nil, err
	}
	f, err := l.files.open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("OCI layout %s: %w: %s", l.where, ErrNotFound, desc.Digest)
	} else if err != nil {
		return nil, fmt.Errorf("OCI layout %s: %w", l.where, err)
	}
	if f.size != desc.Size {
		err := fmt.Errorf("OCI layout %s: %w: %s has %d bytes, not %d", l.where, ErrCorrupt, desc.Digest, f.size, desc.Size)
		return nil, errors.Join(err, f.close())
	}
	return f, nil
}

func blobPath(desc ocispec.Descriptor) (string, error) {
	if err := CheckDescriptor(desc); err != nil {
		return "", err
	}
	return ocispec.ImageBlobsDir + "/" + desc.Digest.Algorithm().String() + "/" + desc.Digest.Encoded(), nil
}

// part is an open file, or a range of one, that stops when ctx does.
type part struct {
	ctx   context.Context
	r     io.Reader
	close func() error
}

func (p *part) Read(b []byte) (int, error) {
	if err := p.ctx.Err(); err != nil {
		return 0, err
	}
	return p.r.Read(b)
}

func (p *part) Close() error { return p.close() }

// layoutDir is the path of a directory.
type layoutDir string

func (d layoutDir) open(name string) (*layoutFile, error) {
	f, err := os.Open(filepath.Join(string(d), filepath.FromSlash(name)))
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a regular file", f.Name())
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &layoutFile{f, info.Size(), f.Close}, nil
}

func (layoutDir) Close() error { return nil }
