package image

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/lighter-oci/lighter/internal/codec"
)

// maxEntries bounds the blobs of an archive.
const maxEntries = 100_000

// OpenArchive opens a layout in a tar archive, as `docker buildx build -o
// type=oci` and `skopeo copy … oci-archive:` write it. Blobs are read where they
// lie; nothing is unpacked.
func OpenArchive(file string) (*Layout, error) {
	f, size, err := openSized(file)
	if err != nil {
		return nil, err
	}
	return newArchive(file, f, size, f.Close)
}

// newArchive indexes the archive of size bytes in r and owns what release frees.
func newArchive(where string, r io.ReaderAt, size int64, release func() error) (*Layout, error) {
	entries, err := indexTar(r, size)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("OCI archive %s: %w", where, err), release())
	}
	return newLayout(where, &layoutTar{r: r, entries: entries, close: release})
}

// layoutTar is an archive with the places of its files.
type layoutTar struct {
	r       io.ReaderAt
	entries map[string]extent
	close   func() error
}

// extent is where a file's content lies, in bytes from the archive's start.
type extent struct{ offset, size int64 }

func (t *layoutTar) open(name string) (*layoutFile, error) {
	e, ok := t.entries[name]
	if !ok {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return &layoutFile{io.NewSectionReader(t.r, e.offset, e.size), e.size, func() error { return nil }}, nil
}

func (t *layoutTar) Close() error { return t.close() }

// indexTar finds the files of a layout in a tar of size bytes. Where a name
// comes twice the last one counts, as for whoever extracts it.
func indexTar(r io.ReaderAt, size int64) (map[string]extent, error) {
	entries := map[string]extent{}
	err := scanTar(r, size, func(header *tar.Header, e extent) error {
		name := strings.TrimPrefix(path.Clean("/"+header.Name), "/")
		switch {
		case !isLayoutName(name):
			return nil
		case isSparse(header):
			return fmt.Errorf("file %.200q in it is sparse", name)
		case header.Typeflag != tar.TypeReg:
			return nil
		case len(entries) == maxEntries:
			return fmt.Errorf("it has more than %d files", maxEntries)
		}
		entries[name] = e
		return nil
	})
	if err != nil {
		return nil, err
	}
	if _, ok := entries[ocispec.ImageLayoutFile]; !ok {
		return nil, fmt.Errorf("it has no file %s: it is no OCI archive (what `docker save` wrote before Docker 25 is read as docker-archive:)", ocispec.ImageLayoutFile)
	}
	return entries, nil
}

// scanTar calls each for every entry of a tar of size bytes, with the place of
// its content. An archive that is compressed or ends too early is an error.
func scanTar(r io.ReaderAt, size int64, each func(*tar.Header, extent) error) error {
	magic := make([]byte, min(4, size))
	if _, err := r.ReadAt(magic, 0); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if c := codec.Sniff(magic); c != codec.Uncompressed {
		return fmt.Errorf("it is compressed with %s as a whole: decompress it first (%s -d)", c, c)
	}
	file := io.NewSectionReader(r, 0, size)
	tr := tar.NewReader(file)
	for {
		header, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("it is no tar archive, or a damaged one: %w", err)
		}
		// archive/tar reads whole headers and nothing behind them, so that the
		// content begins where it stands now.
		offset, err := file.Seek(0, io.SeekCurrent)
		if err != nil {
			return err
		}
		if header.Typeflag == tar.TypeReg && !isSparse(header) && header.Size > size-offset {
			return fmt.Errorf("it is truncated in file %.200q", header.Name)
		}
		if err := each(header, extent{offset, header.Size}); err != nil {
			return err
		}
	}
}

func isLayoutName(name string) bool {
	return name == ocispec.ImageLayoutFile || name == ocispec.ImageIndexFile ||
		strings.HasPrefix(name, ocispec.ImageBlobsDir+"/")
}

// isSparse tells whether a file's content is not one piece of the archive.
func isSparse(header *tar.Header) bool {
	for key := range header.PAXRecords {
		if strings.HasPrefix(key, "GNU.sparse.") {
			return true
		}
	}
	return header.Typeflag == tar.TypeGNUSparse
}
