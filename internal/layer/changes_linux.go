package layer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// ErrUnsupported is returned for an upperdir whose meaning cannot be read from
// the directory alone: overlayfs mounted with redirect_dir or metacopy. The
// same change set can be written from a mounted view, with Merged.
var ErrUnsupported = errors.New("upperdir cannot be read without mounting it")

// ChangeSet is what one layer changes in the file system beneath it.
type ChangeSet struct {
	// Upper is the overlayfs upperdir, or, with Merged, the root of a whole
	// tree. Nothing may write to it meanwhile.
	Upper string
	// Lower is the root of everything beneath, as a container would see it.
	// "" where there is nothing beneath.
	Lower string
	// Merged says that Upper is a whole tree: what changed is then found by
	// comparing every entry, and no device means a whiteout.
	Merged bool
	// Epoch is the latest time an entry may carry; newer ones are set to it.
	// Whole seconds count. nil leaves all times alone.
	Epoch *time.Time
}

// Stats counts what WriteChanges wrote.
type Stats struct {
	Entries int   // headers, whiteouts included
	Bytes   int64 // of the tar
}

// readAhead is how many entries, and therefore open files, the scan may be in
// front of the writing. Enough to keep a disk busy; at 128 the pipeline never
// ran dry on 26,000 entries out of the page cache.
const readAhead = 128

// maxRead bounds one read, so that cancelling does not wait for a huge file.
const maxRead = 1 << 20

// WriteChanges writes cs as an uncompressed OCI layer tar to w, byte for byte
// what containerd's archive.ChangeWriter makes of BuildKit's overlay.Changes
// (or, with Merged, of continuity's fs.Changes), so that the diffID is the one
// that stock BuildKit finds. With an Epoch the bytes are those of BuildKit's
// rewrite-timestamp converter run over that tar.
//
// One difference is wanted: an entry beneath is looked up without following
// symbolic links, where BuildKit follows them, even out of the root.
//
// File contents go through w's ReadFrom where it has one. The error is
// ErrUnsupported where cs must be written from a mounted view; w has then seen
// a part of the tar.
func WriteChanges(ctx context.Context, w io.Writer, cs ChangeSet) (Stats, error) {
	g, ctx := errgroup.WithContext(ctx)
	items := make(chan item, readAhead)
	g.Go(func() error {
		defer close(items)
		return scan(ctx, cs, items)
	})
	out := &sink{ctx: ctx, w: w}
	g.Go(func() error {
		for it := range items {
			if err := out.item(it); err != nil {
				return err
			}
		}
		return nil
	})
	err := g.Wait()
	for it := range items { // what the scan had opened and nobody took
		it.close()
	}
	if err != nil {
		return out.stats, err
	}
	return out.stats, out.end()
}

// item is one entry on its way from the scan to the writer.
type item struct {
	name   string
	header []byte // one or more 512-byte blocks
	size   int64  // of the body
	fd     int    // of the body; -1 where size is 0
}

func (it item) close() {
	if it.fd >= 0 {
		unix.Close(it.fd)
	}
}

// sink writes items as a tar stream.
type sink struct {
	ctx   context.Context
	w     io.Writer
	small []byte // padding and headers that are due before the next body
	buf   []byte // for writers without ReadFrom
	stats Stats
}

var zeros [2 * 512]byte

func (s *sink) item(it item) error {
	defer it.close()
	if err := s.ctx.Err(); err != nil {
		return context.Cause(s.ctx)
	}
	s.stats.Entries++
	s.small = append(s.small, it.header...)
	if it.size == 0 {
		if len(s.small) >= 32<<10 {
			return s.flush()
		}
		return nil
	}
	if err := s.flush(); err != nil {
		return err
	}
	n, err := s.body(it)
	s.stats.Bytes += n
	if err != nil {
		return fmt.Errorf("write %s: %w", it.name, err)
	}
	if n != it.size {
		return fmt.Errorf("write %s: the file has %d bytes now and had %d", it.name, n, it.size)
	}
	s.small = append(s.small, zeros[:-n&511]...)
	return nil
}

func (s *sink) body(it item) (int64, error) {
	r := &fileReader{ctx: s.ctx, fd: it.fd, left: it.size}
	if rf, ok := s.w.(io.ReaderFrom); ok {
		return rf.ReadFrom(r)
	}
	if s.buf == nil {
		s.buf = make([]byte, 256<<10)
	}
	return io.CopyBuffer(s.w, r, s.buf)
}

func (s *sink) flush() error {
	n, err := s.w.Write(s.small)
	s.stats.Bytes += int64(n)
	s.small = s.small[:0]
	return err
}

func (s *sink) end() error {
	s.small = append(s.small, zeros[:]...) // two empty blocks end a tar
	return s.flush()
}

// fileReader reads the size that is in the header and no further, without the
// poller's and the final read's system calls that os.File would add.
type fileReader struct {
	ctx  context.Context
	fd   int
	left int64
}

func (r *fileReader) Read(p []byte) (int, error) {
	if r.left == 0 {
		return 0, io.EOF
	}
	if err := r.ctx.Err(); err != nil {
		return 0, context.Cause(r.ctx)
	}
	p = p[:min(int64(len(p)), r.left, maxRead)]
	for {
		n, err := unix.Read(r.fd, p)
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return 0, err
		case n == 0:
			return 0, io.EOF
		}
		r.left -= int64(n)
		return n, nil
	}
}
