package cachemount

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"runtime"
	"time"

	"github.com/restic/chunker"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// Files are read by a few workers, many small ones or one large one as a job,
// and taken in the order of the tree: what stands together there stands together
// in a pack.
const (
	maxReaders = 4 // 8 MiB of buffers each
	jobBytes   = 2 << 20
	jobFiles   = 256
	attempts   = 3 // to read a file that does not change meanwhile
)

// polynomial is by which large files are cut. Another one would cut them
// elsewhere, and every chunk would be new.
const polynomial = chunker.Pol(0x3DA3358B4DC173)

// tick is longer than the kernel's clock of files stands still: what is written
// within one tick of it leaves no trace in a file's times. 10 ms at 100 Hz, 4 at
// 250; since 6.13 some file systems have a finer one.
const tick = 20 * time.Millisecond

// job is what one worker reads at a time.
type job struct {
	files []int32
	out   chan piece
}

// piece is what is read of a file, in order: begin, content, end; begin again
// where it changed meanwhile; gone where it cannot be had.
type piece struct {
	what  pieceKind
	file  int32
	entry entry // begin: attributes as they are now
	stat  stat  // end
	b     []byte
	sum   sum
	hole  int64

	unkept bool // gone: it is there, and cannot be kept

	buf  []byte // goes back to home when the piece has been taken
	home chan []byte
}

type pieceKind byte

const (
	pieceBegin pieceKind = iota
	pieceChunk
	pieceHole
	pieceEnd
	pieceGone
	pieceBuffer // carries a buffer back only
)

// fileReader is one worker.
type fileReader struct {
	at    *scanned
	hours int64
	free  chan []byte // two buffers of maxChunk
	cut   *chunker.Chunker
}

// readFiles reads files and hands what they hold to take, in order.
func readFiles(ctx context.Context, at *scanned, files []int32, take func(*piece) error) error {
	g, ctx := errgroup.WithContext(ctx)
	todo, order := make(chan *job), make(chan *job, 2*maxReaders)
	g.Go(func() error {
		defer close(todo)
		defer close(order)
		for len(files) > 0 {
			n := jobSize(at, files)
			j := &job{files: files[:n], out: make(chan piece, 64)}
			files = files[n:]
			for _, c := range []chan *job{order, todo} {
				select {
				case c <- j:
				case <-ctx.Done():
					return context.Cause(ctx)
				}
			}
		}
		return nil
	})
	for range min(maxReaders, runtime.GOMAXPROCS(0)+1) {
		g.Go(func() error {
			r := &fileReader{at: at, hours: time.Now().Unix() / 3600, free: make(chan []byte, 2)}
			for j := range todo {
				if err := r.run(ctx, j); err != nil {
					return err
				}
			}
			return nil
		})
	}
	g.Go(func() error {
		for j := range order {
			if err := j.taken(ctx, take); err != nil {
				return err
			}
		}
		return nil
	})
	return g.Wait()
}

// jobSize is how many of the first files make a job.
func jobSize(at *scanned, files []int32) int {
	sum := int64(0)
	for n, i := range files {
		size := at.tree[i].size
		if sum += size; n > 0 && (size > wholeFile || sum > jobBytes || n == jobFiles) {
			return n
		}
		if size > wholeFile {
			return 1
		}
	}
	return len(files)
}

func (j *job) taken(ctx context.Context, take func(*piece) error) error {
	for {
		select {
		case p, ok := <-j.out:
			if !ok {
				return nil
			}
			if p.what != pieceBuffer {
				if err := take(&p); err != nil {
					return err
				}
			}
			if p.home != nil {
				p.home <- p.buf
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// buffer waits for one of the worker's own.
func (r *fileReader) buffer(ctx context.Context) ([]byte, error) {
	if r.cut == nil { // the first: make both
		r.cut = chunker.New(nil, polynomial)
		for range cap(r.free) {
			r.free <- make([]byte, maxChunk)
		}
	}
	select {
	case b := <-r.free:
		return b, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

func (r *fileReader) run(ctx context.Context, j *job) error {
	defer close(j.out)
	buf, err := r.buffer(ctx)
	if err != nil {
		return err
	}
	room := buf
	for _, i := range j.files {
		f := &file{r: r, ctx: ctx, out: j.out, i: i, room: room}
		if err := f.read(); err != nil {
			return err
		}
		room = f.room
	}
	return send(ctx, j.out, piece{what: pieceBuffer, buf: buf, home: r.free})
}

func send(ctx context.Context, out chan<- piece, p piece) error {
	select {
	case out <- p:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// file is one that is being read.
type file struct {
	r    *fileReader
	ctx  context.Context
	out  chan<- piece
	i    int32
	room []byte // for small files of one job
	fd   int
}

func (f *file) send(p piece) error {
	p.file = f.i
	return send(f.ctx, f.out, p)
}

// vanished and unkept end a file without content.
func (f *file) vanished() error { return f.send(piece{what: pieceGone}) }
func (f *file) unkept() error   { return f.send(piece{what: pieceGone, unkept: true}) }

// read reads the file until it has been read without a change. A change through
// a shared mapping may leave no trace in its times and is not seen.
func (f *file) read() error {
	e := &f.r.at.tree[f.i]
	d, err := f.r.at.dirs.get(e.parent)
	if err != nil {
		return f.vanished() // its directory vanished, or is none any more
	}
	defer f.r.at.dirs.put(d)
	for range attempts {
		f.fd, err = openAt(d.fd, e.name, unix.O_RDONLY)
		switch {
		case err == unix.ENOENT, err == unix.ELOOP, err == unix.ENXIO:
			return f.vanished()
		case err == unix.EACCES, err == unix.EPERM, err == unix.EIO:
			return f.unkept()
		case err != nil:
			return fmt.Errorf("open %s: %w", f.r.at.tree.path(f.i), err)
		}
		same, err := f.once(e)
		_ = unix.Close(f.fd)
		if err != nil || same {
			return err
		}
	}
	return f.unkept() // it changed each time
}

// once reads it and tells whether it was the same all the time.
func (f *file) once(e *entry) (bool, error) {
	var st, after unix.Stat_t
	if err := f.stat(&st); err != nil {
		return false, err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return false, nil
	}
	for time.Since(time.Unix(st.Ctim.Unix())).Abs() < tick {
		time.Sleep(tick)
		if err := f.stat(&st); err != nil {
			return false, err
		}
		if time.Since(time.Unix(st.Ctim.Unix())).Abs() < tick {
			return false, nil
		}
	}
	now := entry{parent: e.parent, name: e.name}
	fill(&now, &st, f.r.hours)
	xattrs, err := readXattrs(f.fd)
	if err != nil {
		return false, fmt.Errorf("attributes of %s: %w", f.r.at.tree.path(f.i), err)
	}
	now.xattrs = xattrs
	if err := f.send(piece{what: pieceBegin, entry: now}); err != nil {
		return false, err
	}
	whole, err := f.content(&st)
	if err != nil || !whole {
		return false, err
	}
	if err := f.stat(&after); err != nil {
		return false, err
	}
	if statOf(&after) != statOf(&st) || after.Size != st.Size || after.Mtim != st.Mtim {
		return false, nil
	}
	return true, f.send(piece{what: pieceEnd, stat: statOf(&st)})
}

func (f *file) stat(st *unix.Stat_t) error {
	if err := unix.Fstat(f.fd, st); err != nil {
		return fmt.Errorf("stat %s: %w", f.r.at.tree.path(f.i), err)
	}
	return nil
}

// content sends what the file holds. It is false where the file turned out to
// be of another size.
func (f *file) content(st *unix.Stat_t) (bool, error) {
	if st.Size == 0 {
		return true, nil
	}
	if st.Blocks*512 >= st.Size {
		return f.extent(0, st.Size)
	}
	for at := int64(0); at < st.Size; {
		data, err := unix.Seek(f.fd, at, unix.SEEK_DATA)
		if err == unix.ENXIO {
			data, err = st.Size, nil
		}
		if err != nil {
			return f.extent(at, st.Size) // a file system that knows no holes
		}
		if data > at {
			if err := f.send(piece{what: pieceHole, hole: min(data, st.Size) - at}); err != nil {
				return false, err
			}
		}
		if data >= st.Size {
			break
		}
		if at, err = unix.Seek(f.fd, data, unix.SEEK_HOLE); err != nil {
			return false, nil //nolint:nilerr // it has become shorter
		}
		at = min(at, st.Size)
		if whole, err := f.extent(data, at); err != nil || !whole {
			return false, err
		}
	}
	return true, nil
}

// extent sends the chunks of a stretch without holes.
func (f *file) extent(from, to int64) (bool, error) {
	r := &extentReader{fd: f.fd, at: from, end: to}
	if to-from <= min(wholeFile, int64(len(f.room))) {
		b := f.room[:to-from]
		if _, err := io.ReadFull(r, b); err != nil {
			return f.short(err)
		}
		f.room = f.room[len(b):]
		return true, f.send(piece{what: pieceChunk, b: b, sum: sha256.Sum256(b)})
	}
	f.r.cut.ResetWithBoundaries(r, polynomial, chunker.MinSize, maxChunk)
	for at := from; ; {
		buf, err := f.r.buffer(f.ctx)
		if err != nil {
			return false, err
		}
		c, err := f.r.cut.Next(buf)
		if err != nil {
			f.r.free <- buf
			if err == io.EOF && at == to {
				return true, nil
			}
			return f.short(err)
		}
		at += int64(len(c.Data))
		if err := f.send(piece{what: pieceChunk, b: c.Data, sum: sha256.Sum256(c.Data), buf: buf, home: f.r.free}); err != nil {
			return false, err
		}
	}
}

// short tells a file that has become shorter from one that cannot be read.
func (f *file) short(err error) (bool, error) {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return false, nil
	}
	return false, fmt.Errorf("read %s: %w", f.r.at.tree.path(f.i), err)
}

// extentReader reads a stretch of a file.
type extentReader struct {
	fd      int
	at, end int64
}

func (r *extentReader) Read(p []byte) (int, error) {
	if r.at >= r.end {
		return 0, io.EOF
	}
	p = p[:min(int64(len(p)), r.end-r.at)]
	n, err := unix.Pread(r.fd, p, r.at)
	for err == unix.EINTR {
		n, err = unix.Pread(r.fd, p, r.at)
	}
	if err != nil {
		return 0, err
	}
	if n == 0 {
		return 0, io.EOF
	}
	r.at += int64(n)
	return n, nil
}
