package cachemount

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// unpacker makes one directory out of a tree, packs and what was there before.
type unpacker struct {
	o         *operation
	at        *scanned // what was there
	rec       *record  // what is known of that; may be nil
	unchanged []int32  // entries of rec that those of at still are
	tree      tree     // what is to be there
	contents  *contents
	out       *ImportResult

	earlier []int32 // entries of at with the paths of those of tree; -1 for none
	inPlace []bool  // directories that are there and stay
	stays   []bool  // other entries that do

	dirs   *dirs   // of the stage
	places []place // by chunk
	left   []int32 // chunks that each file still waits for; atomic
	unset  atomic.Int64
}

// place is where a chunk belongs.
type place struct {
	chunk, file int32
	offset      int64
}

// unpack fills the directory open as stage with what the mount lacks.
func (u *unpacker) unpack(ctx context.Context, stage int) error {
	u.compare()
	u.dirs = newStage(u.tree, stage, u.inPlace)
	defer u.dirs.close()
	u.left = make([]int32, len(u.tree))
	for i := range u.tree {
		e := &u.tree[i]
		switch {
		case u.stays[i]:
			u.out.Reused++
			continue
		case !e.isFile():
			continue
		}
		offset := int64(0)
		for _, r := range e.runs {
			if r.chunk == noChunk {
				offset += r.hole
				continue
			}
			u.places = append(u.places, place{r.chunk, int32(i), offset})
			u.left[i]++
			offset += int64(u.contents.chunks[r.chunk].size)
		}
		if u.left[i] == 0 {
			if err := u.write(int32(i), 0, nil); err != nil {
				return err
			}
		}
	}
	if err := u.copyLocal(ctx); err != nil {
		return err
	}
	slices.SortFunc(u.places, func(a, b place) int {
		return cmp.Or(cmp.Compare(a.chunk, b.chunk), cmp.Compare(a.file, b.file), cmp.Compare(a.offset, b.offset))
	})
	if err := u.fetch(ctx); err != nil {
		return err
	}
	if err := u.others(ctx); err != nil {
		return err
	}
	u.out.Unset = int(u.unset.Load())
	return nil
}

// bundle is a frame that is wanted, with the places of what is in it.
type bundle struct {
	frame
	first  int32 // number of its first chunk
	skip   int64 // bytes of the range before it that nobody wants
	places []place
}

// mergeGap is how many bytes between two wanted frames are rather fetched than
// asked around.
const mergeGap = 128 << 10

// wanted finds the frames that hold what is wanted, and in which ranges they lie.
func (u *unpacker) wanted() (ranges []packRange, bundles [][]bundle) {
	rest := u.places
	for pack, frames := range u.contents.frames {
		first, at, end := u.contents.first[pack], int64(0), int64(-1)
		for _, f := range frames {
			last := first + f.chunks
			n := 0
			for n < len(rest) && rest[n].chunk < last {
				n++
			}
			if n > 0 {
				b := bundle{frame: f, first: first, places: rest[:n]}
				rest = rest[n:]
				if end < 0 || at-end > mergeGap {
					ranges, bundles = append(ranges, packRange{pack, at, 0}), append(bundles, nil)
				} else {
					b.skip = at - end
				}
				i := len(ranges) - 1
				end = at + int64(f.packed)
				ranges[i].Length = end - ranges[i].Offset
				bundles[i] = append(bundles[i], b)
			}
			first, at = last, at+int64(f.packed)
		}
	}
	return ranges, bundles
}

// fetch asks for all that is wanted and writes it as it comes.
func (u *unpacker) fetch(ctx context.Context) error {
	ranges, bundles := u.wanted()
	if len(ranges) == 0 {
		return nil
	}
	for _, r := range ranges {
		u.out.Fetched += r.Length
	}
	workers := runtime.GOMAXPROCS(0) + 1
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(workers)
	buffers := make(chan *frameBuffers, workers)
	for range workers {
		buffers <- &frameBuffers{}
	}
	err := u.o.want(ranges, func(i int, read func(b []byte) error) error {
		for _, b := range bundles[i] {
			buf := <-buffers
			packed, err := buf.read(read, &b)
			if err == nil {
				err = context.Cause(ctx)
			}
			if err != nil {
				return err
			}
			g.Go(func() error {
				defer func() { buffers <- buf }()
				return u.bundle(&b, packed, buf.room(int(b.size)))
			})
		}
		return nil
	})
	// A worker's error is the reason why reading ended, not the other way round.
	if werr := g.Wait(); werr != nil {
		return werr
	}
	return err
}

// frameBuffers hold one frame on its way.
type frameBuffers struct{ packed, raw []byte }

func grown(b []byte, n int) []byte {
	if cap(b) < n {
		b = make([]byte, (n+1<<18-1)&^(1<<18-1)) // in steps, to be of use again
	}
	return b[:n]
}

func (f *frameBuffers) read(read func([]byte) error, b *bundle) ([]byte, error) {
	f.packed = grown(f.packed, int(b.skip)+int(b.packed))
	err := read(f.packed)
	return f.packed[b.skip:], err
}

func (f *frameBuffers) room(n int) []byte {
	f.raw = grown(f.raw, n)
	return f.raw
}

// bundle unpacks a frame and writes what is wanted of it.
func (u *unpacker) bundle(b *bundle, packed, raw []byte) error {
	if err := u.o.agent.Pool.DecodeFrame(raw, packed); err != nil {
		return corrupt("pack %s: %w", u.contents.packs[u.contents.pack(b.first)].Digest, err)
	}
	n, at := b.first, 0
	var checked int32 = -1
	for _, p := range b.places {
		for n < p.chunk {
			at += int(u.contents.chunks[n].size)
			n++
		}
		c := &u.contents.chunks[n]
		content := raw[at : at+int(c.size)]
		if checked != n && sha256.Sum256(content) != c.sum {
			return corrupt("pack %s: chunk %d is not what its index says", u.contents.packs[u.contents.pack(n)].Digest, n)
		}
		checked = n
		if err := u.write(p.file, p.offset, content); err != nil {
			return err
		}
	}
	return nil
}

// write writes a chunk of a file, and what else the file has with its last one.
func (u *unpacker) write(i int32, offset int64, content []byte) (err error) {
	e := &u.tree[i]
	defer func() {
		if err != nil {
			err = fmt.Errorf("write %s: %w", u.tree.path(i), err)
		}
	}()
	d, name, err := u.dirs.at(i)
	if err != nil {
		return err
	}
	defer u.dirs.put(d)
	fd, err := unix.Openat(d.fd, name, unix.O_WRONLY|unix.O_CREAT|unix.O_NOFOLLOW|unix.O_CLOEXEC|unix.O_NONBLOCK, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unix.Close(fd)) }()
	if err := pwrite(fd, content, offset); err != nil {
		return err
	}
	if content != nil && atomic.AddInt32(&u.left[i], -1) > 0 {
		return nil
	}
	if e.size > offset+int64(len(content)) {
		if err := unix.Ftruncate(fd, e.size); err != nil {
			return err
		}
	}
	return u.dress(fd, d.fd, name, e)
}

func pwrite(fd int, b []byte, offset int64) error {
	for len(b) > 0 {
		n, err := unix.Pwrite(fd, b, offset)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return err
		}
		if n == 0 {
			return io.ErrShortWrite
		}
		b, offset = b[n:], offset+int64(n)
	}
	return nil
}

// dress sets all attributes of what is open as fd, and is name in the directory
// open as in.
func (u *unpacker) dress(fd, in int, name string, e *entry) error {
	unset, err := setAttributes(fd, e)
	if err != nil {
		return err
	}
	u.unset.Add(int64(unset))
	return setTimes(in, name, e)
}

// others makes what has no content, other names, and last the attributes of
// directories, from the innermost out.
func (u *unpacker) others(ctx context.Context) error {
	for i := range u.tree {
		if err := u.other(int32(i)); err != nil {
			return fmt.Errorf("make %s: %w", u.tree.path(int32(i)), err)
		}
	}
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	for i := len(u.tree) - 1; i > 0; i-- {
		if !u.tree[i].isDir() || u.inPlace[i] {
			continue
		}
		if err := u.directory(int32(i)); err != nil {
			return fmt.Errorf("make %s: %w", u.tree.path(int32(i)), err)
		}
	}
	return nil
}

func (u *unpacker) other(i int32) error {
	e := &u.tree[i]
	if u.inPlace[i] || u.stays[i] || e.isFile() {
		return nil
	}
	if e.isDir() {
		d, err := u.dirs.get(i)
		if err == nil {
			u.dirs.put(d)
		}
		return err
	}
	d, name, err := u.dirs.at(i)
	if err != nil {
		return err
	}
	defer u.dirs.put(d)
	switch {
	case e.isAlias():
		return u.alias(e.same, d.fd, name)
	case e.kind() == typeSymlink:
		err = unix.Symlinkat(e.link, d.fd, name)
	default:
		err = unix.Mkfifoat(d.fd, name, 0o600)
	}
	if err == nil {
		err = unix.Fchownat(d.fd, name, int(e.uid), int(e.gid), unix.AT_SYMLINK_NOFOLLOW)
	}
	if err == nil && e.kind() == typeFIFO { // behind the owner, whose change clears setuid
		err = unix.Fchmodat(d.fd, name, e.mode&0o7777, 0)
	}
	if err != nil {
		return err
	}
	return setTimes(d.fd, name, e)
}

// alias makes another name of entry i, which is staged or stays where it is.
func (u *unpacker) alias(i int32, in int, name string) error {
	dirs, at := u.dirs, i
	if u.stays[i] {
		dirs, at = u.at.dirs, u.earlier[i]
	}
	from, its, err := dirs.at(at)
	if err != nil {
		return err
	}
	defer dirs.put(from)
	return unix.Linkat(from.fd, its, in, name, 0)
}

func (u *unpacker) directory(i int32) error {
	d, err := u.dirs.get(i)
	if err != nil {
		return err
	}
	defer u.dirs.put(d)
	in, name, err := u.dirs.at(i)
	if err != nil {
		return err
	}
	defer u.dirs.put(in)
	return u.dress(d.fd, in.fd, name, &u.tree[i])
}
