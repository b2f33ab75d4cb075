package cachemount

import (
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// lister lists directories for a scanner that takes them over from the first to the
// last, and from the last to the first beside it, until the two meet: what is
// waited for is the file system.
type lister struct {
	dev   uint64
	root  *listed
	front walker // the scanner's

	stop atomic.Bool
	back sync.WaitGroup
}

// listed is a directory, and once done is closed what it holds.
type listed struct {
	in    *listed // nil for the root
	name  string
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

func newLister(root int, dev uint64) *lister {
	l := &lister{dev: dev, root: &listed{done: make(chan struct{})}, front: newWalker(root)}
	l.back.Go(func() {
		w := newWalker(root)
		defer w.close()
		l.backwards(l.root, &w)
	})
	return l
}

func (l *lister) close() {
	l.stop.Store(true)
	l.back.Wait()
	l.front.close()
}

func (l *lister) backwards(d *listed, w *walker) {
	if l.stop.Load() || l.list(d, w) != nil {
		return
	}
	for i := len(d.items) - 1; i >= 0; i-- {
		if in := d.items[i].dir; in != nil {
			l.backwards(in, w)
		}
	}
}

// list lists a directory, or waits for whoever does.
func (l *lister) list(d *listed, w *walker) error {
	if d.taken.CompareAndSwap(false, true) {
		if d.err = l.read(d, w); d.err != nil {
			d.err = fmt.Errorf("read directory %s: %w", d.path(), d.err)
		}
		close(d.done)
	}
	<-d.done
	return d.err
}

func (l *lister) read(d *listed, w *walker) error {
	dir, err := w.fd(d)
	if err != nil {
		return err
	}
	if d.xattrs, err = readXattrs(dir); err != nil {
		return err
	}
	names, err := readNames(dir, w.names)
	if err != nil {
		return err
	}
	d.items = make([]item, 0, len(names))
	for _, name := range names {
		if d.depth == 0 && name == stageName {
			continue
		}
		it := item{name: name}
		switch err := unix.Fstatat(dir, name, &it.st, unix.AT_SYMLINK_NOFOLLOW); err {
		case nil:
		case unix.ENOENT:
			continue
		default:
			return err
		}
		switch kind := it.st.Mode & typeMask; {
		case kind == typeDir && l.inside(&it) && d.depth+1 < maxDepth:
			it.dir = &listed{in: d, name: name, depth: d.depth + 1, done: make(chan struct{})}
		case kind == typeSymlink:
			if it.link, err = readlink(dir, name); err != nil {
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

// path is the name of a directory from the root, for messages.
func (d *listed) path() string {
	if d.in == nil {
		return "."
	}
	return filepath.Join(d.in.path(), d.name)
}

// walker opens directories for one goroutine. A name is resolved in an open
// directory, and never through a link.
type walker struct {
	root  int // the caller's
	open  map[*listed]int
	names []byte // direntSize, to read them
}

// direntSize is how many bytes of names are read at a time.
const direntSize = 64 << 10

func newWalker(root int) walker {
	return walker{root: root, open: map[*listed]int{}, names: make([]byte, direntSize)}
}

// fd is a directory, open until the next is asked for.
func (w *walker) fd(d *listed) (int, error) {
	if d.in == nil {
		return w.root, nil
	}
	if fd, ok := w.open[d]; ok {
		return fd, nil
	}
	in, err := w.fd(d.in)
	if err != nil {
		return -1, err
	}
	fd, err := openAt(in, d.name, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return -1, err
	}
	if len(w.open) == maxOpenDirs {
		w.close()
	}
	w.open[d] = fd
	return fd, nil
}

func (w *walker) close() {
	for _, fd := range w.open {
		_ = unix.Close(fd)
	}
	clear(w.open)
}
