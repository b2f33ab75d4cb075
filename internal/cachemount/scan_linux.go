package cachemount

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// stat is what tells whether a file is still the one it was, besides its size
// and modification time: whoever writes to it changes the time of its inode,
// which nobody can set.
type stat struct {
	ino   uint64
	ctime timespec
}

// scanned is a directory as it was found.
type scanned struct {
	tree  tree
	stats []stat
	disk  []int64 // bytes of content that each takes, without holes
	dirs  *dirs

	unkept int // names that cannot be kept, and are left out
}

type scanner struct {
	*scanned
	ctx   context.Context
	hours int64            // now
	names map[uint64]int32 // the first entry of an inode that has several
}

// scan lists the directory open as root: everything but contents, and extended
// attributes of files. What vanishes meanwhile is not in it. There is room for so
// many entries at first.
func scan(ctx context.Context, root, room int) (*scanned, error) {
	var st unix.Stat_t
	if err := unix.Fstat(root, &st); err != nil {
		return nil, err
	}
	s := &scanner{scanned: &scanned{}, ctx: ctx, hours: time.Now().Unix() / 3600, names: map[uint64]int32{}}
	s.grow(room)
	s.add(entry{parent: -1}, &st)
	l := newLister(root, uint64(st.Dev)) //nolint:unconvert // 32 bits on some systems
	defer l.close()
	if err := s.dir(0, l, l.root); err != nil {
		return nil, err
	}
	s.dirs = newDirs(s.tree, root)
	return s.scanned, nil
}

func (s *scanner) add(e entry, st *unix.Stat_t) int32 {
	fill(&e, st, s.hours)
	if n := len(s.tree); n == cap(s.tree) {
		s.grow(n) // append would make it a quarter, and copy all of it five times
	}
	s.tree = append(s.tree, e)
	s.stats = append(s.stats, statOf(st))
	s.disk = append(s.disk, min(st.Size, st.Blocks*512))
	return int32(len(s.tree) - 1)
}

func (s *scanner) grow(n int) {
	s.tree, s.stats, s.disk = slices.Grow(s.tree, n), slices.Grow(s.stats, n), slices.Grow(s.disk, n)
}

// fill takes over what a stat says of an entry. Of use it was when it was last
// written or read, as far as that is known.
func fill(e *entry, st *unix.Stat_t, hours int64) {
	e.mode, e.uid, e.gid = st.Mode, st.Uid, st.Gid
	e.mtime = timeOf(st.Mtim)
	e.used = min(max(st.Mtim.Sec, st.Atim.Sec)/3600, hours)
	e.size = 0
	if st.Mode&unix.S_IFMT == unix.S_IFREG {
		e.size = st.Size
	}
}

func timeOf(t unix.Timespec) timespec {
	return timespec{int64(t.Sec), uint32(t.Nsec)} //nolint:unconvert // 32 bits on some systems
}

func statOf(st *unix.Stat_t) stat { return stat{st.Ino, timeOf(st.Ctim)} }

// dir takes over directory i, and those in it.
func (s *scanner) dir(i int32, l *lister, d *listed) error {
	if s.ctx.Err() != nil {
		return context.Cause(s.ctx)
	}
	err := l.list(d, &l.front)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
		if i == 0 {
			return err
		}
		return nil // gone; what stays is an empty directory
	}
	if err != nil {
		return err
	}
	s.tree[i].xattrs = d.xattrs
	for n := range d.items {
		it := &d.items[n]
		switch kind := it.st.Mode & typeMask; {
		case it.dir != nil:
			if err := s.dir(s.add(entry{parent: i, name: it.name}, &it.st), l, it.dir); err != nil {
				return err
			}
		case kind != typeFile && kind != typeSymlink && kind != typeFIFO, !l.inside(it):
			s.unkept++ // a socket or device, a mount point, or too deep
		default:
			s.leaf(entry{parent: i, name: it.name, link: it.link}, &it.st)
		}
	}
	return nil
}

// leaf takes over what is no directory.
func (s *scanner) leaf(e entry, st *unix.Stat_t) {
	if st.Nlink > 1 {
		if first, ok := s.names[st.Ino]; ok {
			e.same, e.link = first, ""
			i := s.add(e, st)
			s.tree[i].size, s.disk[i] = 0, 0
			return
		}
		s.names[st.Ino] = int32(len(s.tree))
	}
	s.add(e, st)
}

// readNames lists an open directory, sorted. Its offset is set back first: it
// may have been read before.
func readNames(fd int, buf []byte) ([]string, error) {
	if _, err := unix.Seek(fd, 0, 0); err != nil {
		return nil, err
	}
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

// keptXattr tells which extended attributes belong to the content. Labels of
// SELinux and IMA, and overlayfs's marks, belong to the machine.
func keptXattr(name string) bool {
	return strings.HasPrefix(name, "user.") || name == "security.capability" ||
		name == "system.posix_acl_access" || name == "system.posix_acl_default"
}

// readXattrs reads what is kept of an open file's attributes, sorted.
func readXattrs(fd int) ([]xattr, error) {
	var small [512]byte
	list := small[:]
	n, err := unix.Flistxattr(fd, list)
	for err == unix.ERANGE {
		if n, err = unix.Flistxattr(fd, nil); err == nil {
			list = make([]byte, n+256)
			n, err = unix.Flistxattr(fd, list)
		}
	}
	if err == unix.ENOTSUP || n == 0 && err == nil {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var out []xattr
	for name := range strings.SplitSeq(strings.TrimSuffix(string(list[:n]), "\x00"), "\x00") {
		if !keptXattr(name) {
			continue
		}
		value, err := readXattr(fd, name)
		if err == unix.ENODATA {
			continue
		}
		if err != nil {
			return nil, err
		}
		out = append(out, xattr{name, value})
	}
	slices.SortFunc(out, func(a, b xattr) int { return strings.Compare(a.name, b.name) })
	return out, nil
}

func readXattr(fd int, name string) ([]byte, error) {
	for {
		n, err := unix.Fgetxattr(fd, name, nil)
		if err != nil {
			return nil, err
		}
		value := make([]byte, n+16)
		n, err = unix.Fgetxattr(fd, name, value)
		if err != unix.ERANGE {
			return value[:max(n, 0)], err
		}
	}
}
