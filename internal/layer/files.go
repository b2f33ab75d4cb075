package layer

import (
	"archive/tar"
	"cmp"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"
)

// File is one entry of a layer that is written from a list. Directories and
// links have no content.
type File struct {
	Path string      // in the image, absolute: "/etc/passwd"
	Mode fs.FileMode // type and permissions: regular, directory or symbolic link
	UID  int
	GID  int
	Link string // where a symbolic link points
	Size int64
	Open func() (io.ReadCloser, error) // of a regular file
}

// WriteFiles writes files as the tar of a layer, in the order of their paths,
// all with one time. With parents the directories above them come along, for
// an image that has nothing beneath: on a base that would replace its
// directories, and links that stand for some. The tar depends on nothing but
// what it is given. Two files of one path are an error, and one below
// another that is no directory.
func WriteFiles(w io.Writer, files []File, at time.Time, parents bool) error {
	if err := checkParents(files); err != nil {
		return err
	}
	files = slices.Clone(files)
	if parents {
		files = withParents(files)
	}
	slices.SortStableFunc(files, func(a, b File) int { return cmp.Compare(a.Path, b.Path) })
	for i := 1; i < len(files); i++ {
		if files[i].Path == files[i-1].Path {
			return fmt.Errorf("%s is to be in the image twice", files[i].Path)
		}
	}
	t := tar.NewWriter(w)
	for _, f := range files {
		if err := f.write(t, at); err != nil {
			return fmt.Errorf("%s: %w", f.Path, err)
		}
	}
	return t.Close()
}

// checkParents refuses what no file system holds.
func checkParents(files []File) error {
	leaves := map[string]bool{}
	for _, f := range files {
		leaves[f.Path] = !f.Mode.IsDir()
	}
	for _, f := range files {
		for dir := path.Dir(f.Path); len(dir) > 1; dir = path.Dir(dir) {
			if leaves[dir] {
				return fmt.Errorf("%s is to be below %s, which is no directory", f.Path, dir)
			}
		}
	}
	return nil
}

// withParents adds the directories that files lie in and that are not among
// them.
func withParents(files []File) []File {
	known := map[string]bool{"/": true}
	for _, f := range files {
		known[f.Path] = true
	}
	for _, f := range files {
		for dir := path.Dir(f.Path); !known[dir]; dir = path.Dir(dir) {
			known[dir] = true
			files = append(files, File{Path: dir, Mode: fs.ModeDir | 0o755})
		}
	}
	return files
}

func (f File) write(t *tar.Writer, at time.Time) error {
	h := &tar.Header{Name: strings.TrimPrefix(f.Path, "/"), Mode: mode(f.Mode), Uid: f.UID, Gid: f.GID, ModTime: at.Truncate(time.Second)}
	switch {
	case f.Mode.IsDir():
		h.Typeflag = tar.TypeDir
		h.Name += "/"
	case f.Mode&fs.ModeSymlink != 0:
		h.Typeflag, h.Linkname = tar.TypeSymlink, f.Link
	default:
		h.Typeflag, h.Size = tar.TypeReg, f.Size
	}
	if err := t.WriteHeader(h); err != nil || h.Typeflag != tar.TypeReg {
		return err
	}
	rc, err := f.Open()
	if err != nil {
		return err
	}
	defer rc.Close()
	n, err := io.Copy(t, rc)
	if err == nil && n != f.Size {
		err = fmt.Errorf("it has %d bytes, and had %d", n, f.Size)
	}
	return err
}

// special are the bits of a mode that are no permissions, here and in tar.
var special = []struct {
	is fs.FileMode
	as uint32
}{{fs.ModeSetuid, 0o4000}, {fs.ModeSetgid, 0o2000}, {fs.ModeSticky, 0o1000}}

// mode are the permissions as tar has them.
func mode(m fs.FileMode) int64 {
	out := uint32(m.Perm())
	for _, bit := range special {
		if m&bit.is != 0 {
			out |= bit.as
		}
	}
	return int64(out)
}

// Mode is what chmod means by bits, for a regular file.
func Mode(bits uint32) fs.FileMode {
	out := fs.FileMode(bits) & fs.ModePerm
	for _, bit := range special {
		if bits&bit.as != 0 {
			out |= bit.is
		}
	}
	return out
}
