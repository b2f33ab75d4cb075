package layer

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

// scanner walks the upper tree and the lower one beside it, in the order of
// their names, and sends what differs. It holds a file descriptor for every
// directory it is in, so that a name is resolved once and no link is followed.
type scanner struct {
	ctx     context.Context
	cs      ChangeSet
	out     chan<- item
	headers *headers
	dents   []byte // for reading directories
	xattrs  []byte // for listing attributes

	// first is the name under which the tar has the contents of an inode that
	// has several; unchanged are the names of such an inode that were like
	// below, to be written if another name turns out to have changed.
	first     map[uint64]string
	unchanged map[uint64][]entry
}

// dir is a directory that the scan is in or has left.
type dir struct {
	parent  *dir
	name    string // from the root, "" for the root itself
	st      unix.Stat_t
	attrs   attrs
	written bool // the tar has it
}

// entry is one name in the upper tree.
type entry struct {
	in   *dir
	base string
	name string // from the root
	st   *unix.Stat_t
}

func scan(ctx context.Context, cs ChangeSet, out chan<- item) error {
	s := &scanner{
		ctx: ctx, cs: cs, out: out, headers: newHeaders(cs.Epoch),
		dents: make([]byte, 64<<10), xattrs: make([]byte, 1<<10),
		first: map[uint64]string{}, unchanged: map[uint64][]entry{},
	}
	upper, err := openDir(unix.AT_FDCWD, cs.Upper, 0)
	if err != nil {
		return fmt.Errorf("open %s: %w", cs.Upper, err)
	}
	defer unix.Close(upper)
	lower := -1
	if cs.Lower != "" {
		if lower, err = openDir(unix.AT_FDCWD, cs.Lower, 0); err != nil {
			return fmt.Errorf("open %s: %w", cs.Lower, err)
		}
		defer unix.Close(lower)
	}
	return s.dir(&dir{written: true}, upper, lower, cs.Merged)
}

// dir scans the directory d, open as upper. lower is the same directory beneath,
// -1 where there is none. whole says that what upper lacks is gone, as in an
// opaque directory; else a whiteout says so.
func (s *scanner) dir(d *dir, upper, lower int, whole bool) error {
	names, err := readNames(upper, s.dents)
	if err != nil {
		return fmt.Errorf("read directory %s: %w", s.upperPath(d.name), err)
	}
	var beneath []string
	if whole && lower >= 0 {
		if beneath, err = readNames(lower, s.dents); err != nil {
			return fmt.Errorf("read directory %s: %w", s.lowerPath(d.name), err)
		}
	}
	for _, base := range names {
		for len(beneath) > 0 && beneath[0] < base {
			if err := s.whiteout(d, beneath[0]); err != nil {
				return err
			}
			beneath = beneath[1:]
		}
		if len(beneath) > 0 && beneath[0] == base {
			beneath = beneath[1:]
		}
		if err := s.ctx.Err(); err != nil {
			return context.Cause(s.ctx)
		}
		if err := s.entry(d, base, upper, lower, whole); err != nil {
			return err
		}
	}
	for _, base := range beneath {
		if err := s.whiteout(d, base); err != nil {
			return err
		}
	}
	return nil
}

func (s *scanner) entry(d *dir, base string, upper, lower int, whole bool) error {
	e := entry{in: d, base: base, name: join(d.name, base), st: new(unix.Stat_t)}
	err := unix.Fstatat(upper, base, e.st, unix.AT_SYMLINK_NOFOLLOW)
	// overlayfs lists a whiteout in a directory that nothing is beneath, and
	// then knows nothing of that name.
	gone := errors.Is(err, unix.ENOENT)
	if err != nil && !gone {
		return fmt.Errorf("stat %s: %w", s.upperPath(e.name), err)
	}
	var below *unix.Stat_t // nil where there is nothing
	if lower >= 0 {
		below = new(unix.Stat_t)
		err := unix.Fstatat(lower, base, below, unix.AT_SYMLINK_NOFOLLOW)
		if errors.Is(err, unix.ENOENT) {
			below = nil
		} else if err != nil {
			return fmt.Errorf("stat %s: %w", s.lowerPath(e.name), err)
		}
	}
	switch {
	case gone, !s.cs.Merged && isWhiteout(e.st):
		if below == nil {
			return nil
		}
		return s.whiteout(d, base)
	case isDir(e.st):
		return s.subdir(e, below, upper, lower, whole)
	}
	if below != nil {
		same, err := s.same(e, below, nil)
		if err != nil {
			return err
		}
		if same {
			return s.unchangedFile(e, whole)
		}
	}
	return s.file(e, upper)
}

func (s *scanner) subdir(e entry, below *unix.Stat_t, upper, lower int, whole bool) error {
	fd, err := openDir(upper, e.base, unix.O_NOFOLLOW)
	if err != nil {
		return fmt.Errorf("open %s: %w", s.upperPath(e.name), err)
	}
	defer unix.Close(fd)
	sub := &dir{parent: e.in, name: e.name, st: *e.st}
	if sub.attrs, err = s.attrsOf(fd, s.upperPath(e.name)); err != nil {
		return err
	}
	if sub.attrs.redirect && !s.cs.Merged {
		return fmt.Errorf("%s was renamed with redirect_dir: %w", s.upperPath(e.name), ErrUnsupported)
	}
	same := false
	if below != nil {
		if same, err = s.same(e, below, &sub.attrs); err != nil {
			return err
		}
	}
	if !same {
		if err := s.writeDir(sub); err != nil {
			return err
		}
	}
	lowerFd := -1
	if below != nil && isDir(below) {
		if lowerFd, err = openDir(lower, e.base, unix.O_NOFOLLOW); err != nil {
			return fmt.Errorf("open %s: %w", s.lowerPath(e.name), err)
		}
		defer unix.Close(lowerFd)
	}
	return s.dir(sub, fd, lowerFd, whole || (sub.attrs.opaque && !s.cs.Merged))
}

// unchangedFile remembers a file that is like the one beneath, because a hard
// link to a file that changed must not be lost. Outside of whole directories
// overlayfs has copied it up alone, and there are no links to keep.
func (s *scanner) unchangedFile(e entry, whole bool) error {
	if !whole || e.st.Nlink < 2 || isSocket(e.st) {
		return nil
	}
	if _, ok := s.first[e.st.Ino]; ok {
		return s.file(e, -1)
	}
	s.unchanged[e.st.Ino] = append(s.unchanged[e.st.Ino], e)
	return nil
}

// file sends an entry that is no directory, with its contents where it has any.
// upper is its open parent; hard links to what was sent need none.
func (s *scanner) file(e entry, upper int) error {
	if isSocket(e.st) {
		return nil
	}
	var target string
	var err error
	if isSymlink(e.st) {
		if target, err = os.Readlink(s.upperPath(e.name)); err != nil {
			return err
		}
	}
	link := ""
	var others []entry
	if e.st.Nlink > 1 {
		if link = s.first[e.st.Ino]; link == "" {
			s.first[e.st.Ino] = e.name
			others = s.unchanged[e.st.Ino]
			delete(s.unchanged, e.st.Ino)
		}
	}
	fd := -1
	if link == "" && isRegular(e.st) && e.st.Size > 0 {
		if fd, err = openFile(upper, e.base); err != nil {
			return fmt.Errorf("open %s: %w", s.upperPath(e.name), err)
		}
		// A disk gets many reads at once; where all is cached it costs nothing.
		_ = unix.Fadvise(fd, 0, 0, unix.FADV_WILLNEED)
	}
	at, err := s.attrsOf(fd, s.upperPath(e.name))
	if err == nil && at.metacopy && !s.cs.Merged {
		err = fmt.Errorf("%s has its contents elsewhere, by metacopy: %w", s.upperPath(e.name), ErrUnsupported)
	}
	if err != nil {
		item{fd: fd}.close()
		return err
	}
	h := entryHeader(e.name, e.st, target, at.capability)
	if link != "" {
		asLink(h, link)
	}
	if err := s.send(e.in, h, fd); err != nil {
		return err
	}
	for _, o := range others {
		h.Name = o.name
		asLink(h, e.name)
		if err := s.send(o.in, h, -1); err != nil {
			return err
		}
	}
	return nil
}

func asLink(h *tar.Header, to string) {
	h.Typeflag = tar.TypeLink
	h.Linkname = to
	h.Size = 0
}

func (s *scanner) whiteout(d *dir, base string) error {
	return s.send(d, whiteoutHeader(d.name, base), -1)
}

// writeDir sends a directory once, after those that it is in.
func (s *scanner) writeDir(d *dir) error {
	if d.written {
		return nil
	}
	d.written = true
	return s.send(d.parent, entryHeader(d.name, &d.st, "", d.attrs.capability), -1)
}

// send passes an entry in the directory in to the writer, and the directories
// above it before it where the tar lacks them.
func (s *scanner) send(in *dir, h *tar.Header, fd int) error {
	it := item{name: h.Name, size: h.Size, fd: fd}
	err := s.writeDir(in)
	if err == nil {
		it.header, err = s.headers.encode(h)
		if err != nil {
			err = fmt.Errorf("tar header of %s: %w", h.Name, err)
		}
	}
	if err != nil {
		it.close()
		return err
	}
	select {
	case s.out <- it:
		return nil
	case <-s.ctx.Done():
		it.close()
		return context.Cause(s.ctx)
	}
}

func (s *scanner) upperPath(name string) string { return join(s.cs.Upper, name) }
func (s *scanner) lowerPath(name string) string { return join(s.cs.Lower, name) }

// readNames lists an open directory, sorted. buf is scratch.
func readNames(fd int, buf []byte) ([]string, error) {
	var names []string
	for {
		n, err := unix.ReadDirent(fd, buf)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return nil, err
		}
		if n <= 0 {
			break
		}
		_, _, names = unix.ParseDirent(buf[:n], -1, names)
	}
	slices.Sort(names)
	return names, nil
}

func openDir(at int, name string, flags int) (int, error) {
	return open(at, name, flags|unix.O_DIRECTORY)
}

func openFile(at int, name string) (int, error) {
	return open(at, name, unix.O_NOFOLLOW)
}

// open leaves access times alone where it may: a first read after a write
// would otherwise dirty every inode.
func open(at int, name string, flags int) (int, error) {
	flags |= unix.O_RDONLY | unix.O_CLOEXEC
	noatime := unix.O_NOATIME
	for {
		fd, err := unix.Openat(at, name, flags|noatime, 0)
		switch {
		case err == unix.EINTR:
			continue
		case err == unix.EPERM && noatime != 0:
			noatime = 0
			continue
		}
		return fd, err
	}
}

func isDir(st *unix.Stat_t) bool     { return st.Mode&unix.S_IFMT == unix.S_IFDIR }
func isRegular(st *unix.Stat_t) bool { return st.Mode&unix.S_IFMT == unix.S_IFREG }
func isSymlink(st *unix.Stat_t) bool { return st.Mode&unix.S_IFMT == unix.S_IFLNK }
func isSocket(st *unix.Stat_t) bool  { return st.Mode&unix.S_IFMT == unix.S_IFSOCK }

// isWhiteout tells overlayfs's mark for a name that is gone.
func isWhiteout(st *unix.Stat_t) bool {
	return st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == 0
}
