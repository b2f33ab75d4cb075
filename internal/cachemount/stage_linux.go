package cachemount

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// The root of a cache mount is a mount point and stays what it is, so what is
// imported is made in a directory that hides beside its entries, and takes their
// place when it is whole:
//
//	new/tree   what is being made        new becomes ready: from here on it goes forward
//	new/plan   what then becomes of it
//	old/       what had to go            old becomes gone when all of it is in there
//	ready/     what is still to move     goes first when all is done
//
// Each step is one rename, so that whoever comes next, export or import, knows
// from the names where it was killed: before ready, it takes the directory away;
// later, it does the rest. The directory is stageName.
var (
	stageNew   = path.Join(stageName, "new")
	stageReady = path.Join(stageName, "ready")
	stageOld   = path.Join(stageName, "old")
	stageGone  = path.Join(stageName, "gone")
)

// rootDir is the directory of a mount, locked.
type rootDir struct {
	*os.Root
	f  *os.File
	fd int // f's
}

// lockWait is between two looks at the lock of a root.
const lockWait = 20 * time.Millisecond

// openRoot opens the directory of a mount and waits until no other agent is at
// it. The kernel drops the lock with its holder.
func openRoot(ctx context.Context, dir string) (*rootDir, error) {
	r, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	f, err := r.Open(".")
	if err != nil {
		return nil, errors.Join(err, r.Close())
	}
	d := &rootDir{r, f, int(f.Fd())}
	for {
		err := unix.Flock(d.fd, unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return d, nil
		}
		if err != unix.EWOULDBLOCK && err != unix.EINTR {
			d.close()
			return nil, fmt.Errorf("lock %s: %w", dir, err)
		}
		select {
		case <-time.After(lockWait):
		case <-ctx.Done():
			d.close()
			return nil, context.Cause(ctx)
		}
	}
}

func (d *rootDir) close() {
	_ = d.f.Close()
	_ = d.Close()
}

// exists tells whether a name is there, whatever it is.
func (d *rootDir) exists(name string) bool {
	_, err := d.Lstat(name)
	return err == nil
}

// recover does what a killed import left to do. It tells whether that made the
// directory what the import wanted it to be.
func (d *rootDir) recover() (finished bool, err error) {
	if !d.exists(stageName) {
		return false, nil
	}
	if d.exists(stageReady) {
		if err := d.finish(nil); err != nil {
			return false, fmt.Errorf("finish an import that was killed: %w", err)
		}
		return true, nil
	}
	if err := d.RemoveAll(stageName); err != nil {
		return false, fmt.Errorf("clear an import that was killed: %w", err)
	}
	return false, nil
}

// stage makes the directories in which something new is made, and opens its
// root.
func (d *rootDir) stage() (int, error) {
	for _, name := range []string{stageName, stageNew, path.Join(stageNew, "tree")} {
		if err := d.Mkdir(name, 0o700); err != nil {
			return -1, err
		}
	}
	at := d.fd
	for i, name := range []string{stageName, "new", "tree"} {
		fd, err := openAt(at, name, unix.O_RDONLY|unix.O_DIRECTORY)
		if i > 0 {
			_ = unix.Close(at)
		}
		if err != nil {
			return -1, err
		}
		at = fd
	}
	return at, nil
}

// commit makes what was staged a part of the directory. remember is called
// before the last trace of it is gone, so that who is killed before that is
// known to have been.
func (d *rootDir) commit(p *plan, remember func() error) error {
	if err := d.WriteFile(path.Join(stageNew, "plan"), p.encode(), 0o600); err != nil {
		return err
	}
	if err := d.Rename(stageNew, stageReady); err != nil {
		return err
	}
	return d.finish(remember)
}

// finish does all that follows ready. It may be called again.
func (d *rootDir) finish(remember func() error) error {
	b, err := d.ReadFile(path.Join(stageReady, "plan"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	p := &plan{} // ready was being removed: all is done
	if err == nil {
		if p, err = decodePlan(b); err != nil {
			return err
		}
	}
	if !d.exists(stageGone) {
		if err := d.away(p); err != nil {
			return err
		}
	}
	for _, m := range p.moves {
		if err := d.move(path.Join(stageReady, "tree", strconv.Itoa(int(m.n))), m.to); err != nil {
			return err
		}
	}
	for i := range p.dirs {
		if err := d.dress(&p.dirs[i]); err != nil {
			return err
		}
	}
	if remember != nil {
		if err := remember(); err != nil {
			return err
		}
	}
	if err := errors.Join(d.RemoveAll(stageReady), d.RemoveAll(stageName)); err != nil {
		return err
	}
	if n := len(p.dirs); n > 0 {
		return setTimes(d.fd, ".", &p.dirs[n-1].entry)
	}
	return nil
}

// away moves what has to go out of the way.
func (d *rootDir) away(p *plan) error {
	if err := d.Mkdir(stageOld, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	for n, name := range p.away {
		to := path.Join(stageOld, strconv.Itoa(n))
		if d.exists(to) {
			continue
		}
		if err := d.Rename(name, to); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return d.Rename(stageOld, stageGone)
}

// move moves an entry that has not been moved yet. What is in the way was made
// after an import was killed, and goes.
func (d *rootDir) move(from, to string) error {
	if !d.exists(from) {
		return nil
	}
	err := d.Rename(from, to)
	if errors.Is(err, fs.ErrExist) || errors.Is(err, syscall.ENOTEMPTY) || errors.Is(err, syscall.EISDIR) || errors.Is(err, syscall.ENOTDIR) {
		if err = d.RemoveAll(to); err == nil {
			err = d.Rename(from, to)
		}
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil // its directory went away after an import was killed
	}
	return err
}

// dress gives a directory that stayed in place its attributes.
func (d *rootDir) dress(a *dressing) error {
	f, err := d.Open(a.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	fd := int(f.Fd())
	a.entry.name = a.path
	if err := removeXattrs(fd, a.xattrs); err != nil {
		return err
	}
	if _, err := setAttributes(fd, &a.entry); err != nil {
		return err
	}
	return setTimes(fd, ".", &a.entry)
}

// removeXattrs takes away what is not wanted.
func removeXattrs(fd int, want []xattr) error {
	have, err := readXattrs(fd)
	if err != nil {
		return err
	}
	for _, x := range have {
		if slices.ContainsFunc(want, func(w xattr) bool { return w.name == x.name }) {
			continue
		}
		if err := unix.Fremovexattr(fd, x.name); err != nil {
			return err
		}
	}
	return nil
}

// setAttributes gives an open file or directory owner, mode and attributes, and
// answers how many of these its file system does not take. The order matters: a
// change of owner clears setuid and capabilities.
func setAttributes(fd int, e *entry) (unset int, err error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return 0, err
	}
	chmod := st.Mode&0o7777 != e.mode&0o7777
	if st.Uid != e.uid || st.Gid != e.gid {
		chmod = true
		if err := unix.Fchown(fd, int(e.uid), int(e.gid)); err != nil {
			return 0, fmt.Errorf("owner %d:%d of %s: %w", e.uid, e.gid, e.name, err)
		}
	}
	if chmod {
		if err := unix.Fchmod(fd, e.mode&0o7777); err != nil {
			return 0, fmt.Errorf("mode %o of %s: %w", e.mode&0o7777, e.name, err)
		}
	}
	for _, x := range e.xattrs {
		err := unix.EPERM
		if keptXattr(x.name) {
			err = xattrError(unix.Fsetxattr(fd, x.name, x.value, 0))
		}
		if err == unix.ENOTSUP || err == unix.EPERM {
			unset++
		} else if err != 0 {
			return unset, fmt.Errorf("attribute %.80q of %s: %w", x.name, e.name, err)
		}
	}
	return unset, nil
}

// xattrError is the error as a number; 0 for none.
func xattrError(err error) syscall.Errno {
	var n syscall.Errno
	errors.As(err, &n)
	return n
}

// setTimes sets the modification time of a name, and as access time when it was
// last of use: a read moves it on from there.
func setTimes(at int, name string, e *entry) error {
	times := []unix.Timespec{{Sec: e.used * 3600}, {Sec: e.mtime.sec, Nsec: int64(e.mtime.nsec)}}
	if err := unix.UtimesNanoAt(at, name, times, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return fmt.Errorf("times of %.80q: %w", name, err)
	}
	return nil
}
