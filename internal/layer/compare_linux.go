package layer

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// attrs is what extended attributes say about an entry.
type attrs struct {
	capability []byte // of security.capability, nil without
	opaque     bool   // a directory hides what is beneath
	redirect   bool   // a directory was renamed and its lower half not copied
	metacopy   bool   // a file's metadata was copied up and its contents not
}

// attrsOf reads the attributes of the open file fd, or of path where fd is -1.
// One listing finds that there are none, as on nearly every file.
func (s *scanner) attrsOf(fd int, path string) (attrs, error) {
	list := func(buf []byte) (int, error) {
		if fd >= 0 {
			return unix.Flistxattr(fd, buf)
		}
		return unix.Llistxattr(path, buf)
	}
	n, err := list(s.xattrs)
	for err == unix.ERANGE {
		s.xattrs = make([]byte, 4*len(s.xattrs))
		n, err = list(s.xattrs)
	}
	if err == unix.ENOTSUP {
		return attrs{}, nil
	}
	if err != nil {
		return attrs{}, fmt.Errorf("list attributes of %s: %w", path, err)
	}
	var at attrs
	for name := range bytes.SplitSeq(s.xattrs[:n], []byte{0}) {
		switch string(name) {
		case "security.capability":
			at.capability, err = getxattr(path, "security.capability")
		case "trusted.overlay.opaque", "user.overlay.opaque":
			var v []byte
			v, err = getxattr(path, string(name))
			at.opaque = at.opaque || string(v) == "y"
		case "trusted.overlay.redirect":
			at.redirect = true
		case "trusted.overlay.metacopy":
			at.metacopy = true
		}
		if err != nil {
			return attrs{}, err
		}
	}
	return at, nil
}

// getxattr is nil where there is no such attribute.
func getxattr(path, name string) ([]byte, error) {
	buf := make([]byte, 128)
	for {
		n, err := unix.Lgetxattr(path, name, buf)
		switch err {
		case nil:
			return buf[:n], nil
		case unix.ERANGE:
			buf = make([]byte, 4*len(buf))
		case unix.ENODATA, unix.ENOTSUP:
			return nil, nil
		default:
			return nil, fmt.Errorf("read attribute %s of %s: %w", name, path, err)
		}
	}
}

// same tells whether an entry is what is beneath it, as continuity decides it
// (fs.Changes): by metadata, and by contents only where both times may have
// lost their fraction of a second in a tar. at is of the upper entry, nil where
// it is not known yet.
func (s *scanner) same(e entry, below *unix.Stat_t, at *attrs) (bool, error) {
	st := e.st
	if st.Dev == below.Dev && st.Ino == below.Ino {
		return true, nil
	}
	if st.Mode != below.Mode || st.Uid != below.Uid || st.Gid != below.Gid || st.Rdev != below.Rdev {
		return false, nil
	}
	if !isDir(st) && (st.Size != below.Size || st.Mtim != below.Mtim) {
		return false, nil
	}
	upper, lower := s.upperPath(e.name), s.lowerPath(e.name)
	if at == nil {
		got, err := s.attrsOf(-1, upper)
		if err != nil {
			return false, err
		}
		at = &got
	}
	capability, err := getxattr(lower, "security.capability")
	if err != nil || !bytes.Equal(at.capability, capability) {
		return false, err
	}
	if isDir(st) || st.Mtim.Nsec != 0 {
		return true, nil
	}
	if isSymlink(st) {
		return sameTarget(upper, lower)
	}
	if st.Size == 0 {
		return true, nil
	}
	if at.metacopy {
		return false, fmt.Errorf("%s has its contents elsewhere, by metacopy: %w", upper, ErrUnsupported)
	}
	return sameContents(upper, lower)
}

func sameTarget(a, b string) (bool, error) {
	x, err := os.Readlink(a)
	if err != nil {
		return false, err
	}
	y, err := os.Readlink(b)
	return x == y, err
}

// sameContents compares two regular files of one size.
func sameContents(a, b string) (bool, error) {
	f, err := os.Open(a)
	if err != nil {
		return false, err
	}
	defer f.Close()
	g, err := os.Open(b)
	if err != nil {
		return false, err
	}
	defer g.Close()
	buf := make([]byte, 128<<10)
	x, y := buf[:len(buf)/2], buf[len(buf)/2:]
	for {
		n, err := io.ReadFull(f, x)
		if err != nil && !atEnd(err) {
			return false, err
		}
		m, err := io.ReadFull(g, y)
		if err != nil && !atEnd(err) {
			return false, err
		}
		if !bytes.Equal(x[:n], y[:m]) {
			return false, nil
		}
		if atEnd(err) {
			return true, nil
		}
	}
}

func atEnd(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}
