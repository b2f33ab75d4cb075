package image

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// ArchiveTarget is an OCI image layout in one tar archive, to write to. It is a
// TempDir beside the archive until Finish puts that in its place; a killed writer
// leaves the archive as it was.
type ArchiveTarget struct {
	*LayoutTarget
	file    string
	discard func()
}

// CreateArchive starts an archive. Every one must be finished or discarded.
func CreateArchive(file string) (*ArchiveTarget, error) {
	dir, discard, err := TempDir(filepath.Dir(file))
	if err != nil {
		return nil, fmt.Errorf("OCI archive %s: %w", file, err)
	}
	layout, err := CreateLayout(dir)
	if err != nil {
		discard()
		return nil, err
	}
	return &ArchiveTarget{layout, file, discard}, nil
}

// Discard removes what was written. It does nothing after Finish.
func (t *ArchiveTarget) Discard() { t.discard() }

// Finish makes the archive of what was written. Its bytes depend on that only:
// times are zero, names sorted.
func (t *ArchiveTarget) Finish() error {
	defer t.Discard()
	f, err := os.CreateTemp(t.dir, ".archive-*")
	if err != nil {
		return fmt.Errorf("OCI archive %s: %w", t.file, err)
	}
	if err = t.write(f); err != nil {
		err = errors.Join(err, f.Close())
	} else {
		err = publishFile(f, t.file)
	}
	if err != nil {
		return fmt.Errorf("OCI archive %s: %w", t.file, err)
	}
	return nil
}

// write is the tar: the two files that say what it is first, then the blobs.
func (t *ArchiveTarget) write(w io.Writer) error {
	tw := tar.NewWriter(w)
	names := []string{ocispec.ImageLayoutFile, ocispec.ImageIndexFile}
	err := fs.WalkDir(os.DirFS(t.dir), ocispec.ImageBlobsDir, func(name string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			names = append(names, name)
		}
		return err
	})
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := t.add(tw, name); err != nil {
			return err
		}
	}
	return tw.Close()
}

func (t *ArchiveTarget) add(tw *tar.Writer, name string) error {
	f, err := os.Open(t.path(filepath.FromSlash(name)))
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if err := tw.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Size: info.Size(), Mode: 0o644}); err != nil {
		return err
	}
	_, err = io.Copy(tw, f)
	return err
}
