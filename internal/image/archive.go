package image

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
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
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return newArchive(file, f, info.Size(), f.Close)
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
	magic := make([]byte, min(4, size))
	if _, err := r.ReadAt(magic, 0); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if c := codec.Sniff(magic); c != codec.Uncompressed {
		return nil, fmt.Errorf("it is compressed with %s as a whole: decompress it first (%s -d)", c, c)
	}
	entries := map[string]extent{}
	file := io.NewSectionReader(r, 0, size)
	tr := tar.NewReader(file)
	for {
		header, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, fmt.Errorf("it is no tar archive, or a damaged one: %w", err)
		}
		name := strings.TrimPrefix(path.Clean("/"+header.Name), "/")
		if !isLayoutName(name) {
			continue
		}
		if isSparse(header) {
			return nil, fmt.Errorf("file %.200q in it is sparse", name)
		}
		if header.Typeflag != tar.TypeReg {
			continue
		}
		// archive/tar reads whole headers and nothing behind them, so that the
		// content begins where it stands now.
		offset, err := file.Seek(0, io.SeekCurrent)
		if err != nil {
			return nil, err
		}
		switch {
		case header.Size > size-offset:
			return nil, fmt.Errorf("it is truncated in file %.200q", name)
		case len(entries) == maxEntries:
			return nil, fmt.Errorf("it has more than %d files", maxEntries)
		}
		entries[name] = extent{offset, header.Size}
	}
	if _, ok := entries[ocispec.ImageLayoutFile]; !ok {
		return nil, fmt.Errorf("it has no file %s: it is no OCI archive (an archive of `docker save` before Docker 25 is none)", ocispec.ImageLayoutFile)
	}
	return entries, nil
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
