package cachemount

import (
	"fmt"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// lister lists directories for a scanner that takes them over from the first to the
// last, and from the last to the first beside it, until the two meet: what is
// waited for is the file system.
type lister struct {
	dirs  *dirs // numbered as they are found
	dev   uint64
	root  *listed
	front []byte // the scanner's

	stop atomic.Bool
	back sync.WaitGroup
}

// listed is a directory, and once done is closed what it holds.
type listed struct {
	index int32 // in dirs
	depth int
	taken atomic.Bool // somebody lists it
	done  chan struct{}

	items  []item // by name
	xattrs []xattr
	err    error
}

type item struct {
	name string
	link string // where a symbolic link leads
	st   unix.Stat_t
	dir  *listed // of a directory that is to be listed, too
}

// direntSize is how many bytes of names are read at a time.
const direntSize = 64 << 10

func newLister(root int, dev uint64) *lister {
	l := &lister{dirs: newDirs(tree{{parent: -1}}, root), dev: dev, front: make([]byte, direntSize)}
	l.root = &listed{done: make(chan struct{})}
	l.back.Go(func() { l.backwards(l.root, make([]byte, direntSize)) })
	return l
}

func (l *lister) close() {
	l.stop.Store(true)
	l.back.Wait()
	l.dirs.close()
}

func (l *lister) backwards(d *listed, buf []byte) {
	if l.stop.Load() || l.list(d, buf) != nil {
		return
	}
	for i := len(d.items) - 1; i >= 0; i-- {
		if in := d.items[i].dir; in != nil {
			l.backwards(in, buf)
		}
	}
}

// list lists a directory, or waits for whoever does.
func (l *lister) list(d *listed, buf []byte) error {
	if d.taken.CompareAndSwap(false, true) {
		d.err = l.read(d, buf)
		close(d.done)
	}
	<-d.done
	return d.err
}

func (l *lister) read(d *listed, buf []byte) (err error) {
	dir, err := l.dirs.get(d.index)
	if err != nil {
		return err
	}
	defer l.dirs.put(dir)
	defer func() {
		if err != nil {
			err = fmt.Errorf("read directory %s: %w", l.dirs.path(d.index), err)
		}
	}()
	if d.xattrs, err = readXattrs(dir.fd); err != nil {
		return err
	}
	names, err := readNames(dir.fd, buf)
	if err != nil {
		return err
	}
	d.items = make([]item, 0, len(names))
	for _, name := range names {
		if d.depth == 0 && name == stageName {
			continue
		}
		it := item{name: name}
		switch err := unix.Fstatat(dir.fd, name, &it.st, unix.AT_SYMLINK_NOFOLLOW); err {
		case nil:
		case unix.ENOENT:
			continue
		default:
			return err
		}
		switch kind := it.st.Mode & typeMask; {
		case kind == typeDir && l.inside(&it) && d.depth+1 < maxDepth:
			it.dir = &listed{index: l.dirs.add(d.index, name), depth: d.depth + 1, done: make(chan struct{})}
		case kind == typeSymlink:
			if it.link, err = readlink(dir.fd, name); err != nil {
				continue // gone meanwhile, or no link any more
			}
		}
		d.items = append(d.items, it)
	}
	return nil
}

// inside tells what is no mount point.
func (l *lister) inside(it *item) bool { return uint64(it.st.Dev) == l.dev } //nolint:unconvert // 32 bits on some systems

func readlink(dir int, name string) (string, error) {
	var b [4096]byte
	n, err := unix.Readlinkat(dir, name, b[:])
	if err == nil && (n == 0 || n == len(b)) {
		err = unix.ENAMETOOLONG
	}
	return string(b[:max(n, 0)]), err
}
