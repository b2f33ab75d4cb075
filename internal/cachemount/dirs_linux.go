package cachemount

import (
	"fmt"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"
)

// maxOpenDirs is how many directories nobody uses are kept open at most.
const maxOpenDirs = 128

// dirs gives out open directories of a tree. A name is resolved in an open
// directory, one component at a time and never through a link, so that nobody
// who changes the tree meanwhile can lead out of it.
type dirs struct {
	tree tree
	root int // open; the caller's
	// In a stage directories are made when they are asked for; made are those that
	// are there. Entries whose directory is not staged, as inPlace tells of it, lie
	// at the root under their number.
	made    []bool
	inPlace []bool

	mu   sync.Mutex
	open map[int32]*openDir
	idle int // of them with no users
}

type openDir struct {
	fd    int
	index int32
	users int
}

func newDirs(t tree, root int) *dirs {
	return &dirs{tree: t, root: root, open: map[int32]*openDir{}}
}

// newStage is for what is to be made of a tree beside what stays in place.
func newStage(t tree, root int, inPlace []bool) *dirs {
	d := newDirs(t, root)
	d.made, d.inPlace = make([]bool, len(t)), inPlace
	return d
}

// where is the directory that entry i lies in, and its name there.
func (d *dirs) where(i int32) (in int32, name string) {
	if in = d.tree[i].parent; d.inPlace != nil && d.inPlace[in] {
		return 0, strconv.Itoa(int(i))
	}
	return in, d.tree[i].name
}

// at opens the directory that entry i lies in, and answers its name there.
func (d *dirs) at(i int32) (*openDir, string, error) {
	in, name := d.where(i)
	o, err := d.get(in)
	return o, name, err
}

// get opens directory i of the tree. It must be put back.
func (d *dirs) get(i int32) (*openDir, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.find(i)
}

func (d *dirs) find(i int32) (*openDir, error) {
	if o := d.open[i]; o != nil {
		if o.users == 0 {
			d.idle--
		}
		o.users++
		return o, nil
	}
	o := &openDir{fd: d.root, index: i, users: 1}
	if i > 0 {
		parent, name := d.where(i)
		in, err := d.find(parent)
		if err != nil {
			return nil, err
		}
		defer d.drop(in)
		if d.made != nil && !d.made[i] {
			if err := unix.Mkdirat(in.fd, name, 0o700); err != nil {
				return nil, fmt.Errorf("make directory %s: %w", d.tree.path(i), err)
			}
			d.made[i] = true
		}
		if o.fd, err = openAt(in.fd, name, unix.O_RDONLY|unix.O_DIRECTORY); err != nil {
			return nil, fmt.Errorf("open directory %s: %w", d.tree.path(i), err)
		}
	}
	d.open[i] = o
	return o, nil
}

// put gives a directory back.
func (d *dirs) put(o *openDir) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.drop(o)
}

func (d *dirs) drop(o *openDir) {
	if o.users--; o.users > 0 {
		return
	}
	if d.idle++; d.idle > maxOpenDirs {
		d.sweep()
	}
}

// sweep closes what nobody uses.
func (d *dirs) sweep() {
	for i, o := range d.open {
		if o.users == 0 {
			if i > 0 {
				_ = unix.Close(o.fd)
			}
			delete(d.open, i)
		}
	}
	d.idle = 0
}

// close closes all; nobody uses any.
func (d *dirs) close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.sweep()
}

// openAt opens a name in a directory, which is no link. Access times stay as
// they are where that is allowed: they say what builds use.
func openAt(at int, name string, flags int) (int, error) {
	flags |= unix.O_CLOEXEC | unix.O_NOFOLLOW | unix.O_NONBLOCK
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
