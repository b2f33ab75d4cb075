package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/lighter-oci/lighter/internal/image"
)

// maxSkip is how much of a blob is read and thrown away to get at a part of
// it, in bytes, where a registry ignores ranges: a second or two.
const maxSkip = 16 << 20

// progress is how many bytes make a failing connection count as a working one.
// Otherwise one that breaks after each byte would be tried forever.
const progress = 64 << 10

// fetch reads a blob whole, from the first of from that has it.
func fetch(ctx context.Context, from []*Repository, desc ocispec.Descriptor) (io.ReadCloser, error) {
	if err := image.CheckDescriptor(desc); err != nil {
		return nil, err
	}
	d, err := newDownload(ctx, from, desc, 0, desc.Size)
	if err != nil {
		return nil, err
	}
	rc, err := image.Verified(d, desc)
	if err != nil || len(from) == 1 {
		return rc, err
	}
	return &suspect{rc, d}, nil
}

// fetchRange reads a part of a blob.
func fetchRange(ctx context.Context, from []*Repository, desc ocispec.Descriptor, offset, length int64) (io.ReadCloser, error) {
	start, end, err := image.Span(desc, offset, length)
	if err != nil {
		return nil, err
	}
	if start == end {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		return http.NoBody, nil
	}
	return newDownload(ctx, from, desc, start, end)
}

// download reads the bytes from next to end of a blob and, when the connection
// breaks or brings nothing, goes on where it was. It is for one goroutine.
type download struct {
	ctx       context.Context
	from      []*Repository // the first is read from; what comes before the last is a mirror
	missed    misses        // of those that were before it
	lent      *Repository   // mirror that gave bytes
	desc      ocispec.Descriptor
	next, end int64
	started   bool // bytes were given out: skipping up to next is a repair

	body    io.ReadCloser // nil when it has to be asked for
	stop    context.CancelFunc
	timer   *time.Timer
	stalled *atomic.Bool
	fails   int   // since the last progress
	mark    int64 // where that is measured from
	err     error
}

// newDownload asks for the bytes from start to end. The first response is
// awaited, so that what is missing is an error here.
func newDownload(ctx context.Context, from []*Repository, desc ocispec.Descriptor, start, end int64) (*download, error) {
	d := &download{ctx: ctx, from: from, desc: desc, next: start, end: end, mark: start}
	if err := d.open(); err != nil {
		d.drop()
		return nil, d.missed.with(err)
	}
	return d, nil
}

// what is the blob, for messages.
func (d *download) what() string { return d.from[0].ref.Name() + "@" + d.desc.Digest.String() }

// idle is how long a body may bring nothing.
func (d *download) idle() time.Duration { return d.from[0].client.opts.Idle }

// open sends a request for what is left, to the next one where a mirror fails.
// After an error there may be a body.
func (d *download) open() error {
	for {
		err := d.ask()
		if err == nil || !d.leave(err) {
			return err
		}
	}
}

// leave goes on to the next repository, if there is one.
func (d *download) leave(err error) bool {
	if len(d.from) == 1 || d.ctx.Err() != nil {
		return false
	}
	d.drop()
	d.missed.add(d.from[0], d.from[0].explain(d.what(), err))
	d.from, d.fails = d.from[1:], 0
	return true
}

// ask sends a request for what is left.
func (d *download) ask() error {
	path, header := "/blobs/", http.Header{}
	if image.IsManifest(d.desc.MediaType) || image.IsIndex(d.desc.MediaType) {
		path = "/manifests/"
		header.Set("Accept", acceptManifests)
	}
	ranged := d.next > 0 || d.end < d.desc.Size
	if ranged {
		header.Set("Range", fmt.Sprintf("bytes=%d-%d", d.next, d.end-1))
	}
	ctx, stop := context.WithCancel(d.ctx)
	resp, err := d.from[0].get(ctx, d.what(), path+d.desc.Digest.String(), header) //nolint:bodyclose // drop closes it
	if err != nil {
		stop()
		return err
	}
	d.body, d.stop, d.stalled = resp.Body, stop, &atomic.Bool{}
	stalled := d.stalled
	d.timer = time.AfterFunc(d.idle(), func() { stalled.Store(true); stop() })
	return d.check(resp, ranged)
}

// check holds the response against the descriptor and brings it to d.next.
func (d *download) check(resp *http.Response, ranged bool) error {
	size := resp.ContentLength // -1 where the registry does not say
	switch {
	case resp.StatusCode == http.StatusRequestedRangeNotSatisfiable:
		return fmt.Errorf("%s: %w: it has no byte %d", d.what(), image.ErrCorrupt, d.next)
	case resp.StatusCode == http.StatusPartialContent && ranged:
		start, total, err := contentRange(resp.Header.Get("Content-Range"))
		if err != nil || start != d.next {
			return fmt.Errorf("%s: %w: %.100q", d.what(), errBadRange, resp.Header.Get("Content-Range"))
		}
		size = total
	case resp.StatusCode != http.StatusOK:
		return fmt.Errorf("%s: status %s instead of a blob", d.what(), resp.Status)
	}
	if size >= 0 && size != d.desc.Size {
		return fmt.Errorf("%s: %w: the registry has %d bytes, the descriptor says %d", d.what(), image.ErrCorrupt, size, d.desc.Size)
	}
	if resp.StatusCode == http.StatusPartialContent || d.next == 0 {
		return nil
	}
	if !d.started && d.next > maxSkip {
		return fmt.Errorf("%s: %w: the registry ignores ranges", d.what(), image.ErrNoRange)
	}
	for left := d.next; left > 0; {
		d.timer.Reset(d.idle())
		n, err := io.CopyN(io.Discard, d.body, min(left, 1<<20))
		if left -= n; err != nil {
			return err
		}
	}
	return nil
}

// contentRange reads "bytes 5-9/20"; the total is -1 for "*".
func contentRange(v string) (start, total int64, err error) {
	rest, ok := strings.CutPrefix(v, "bytes ")
	span, of, ok2 := strings.Cut(rest, "/")
	first, _, ok3 := strings.Cut(span, "-")
	if !ok || !ok2 || !ok3 {
		return 0, 0, errBadRange
	}
	if start, err = strconv.ParseInt(first, 10, 64); err != nil {
		return 0, 0, err
	}
	if of == "*" {
		return start, -1, nil
	}
	total, err = strconv.ParseInt(of, 10, 64)
	return start, total, err
}

// Read implements io.Reader.
func (d *download) Read(p []byte) (int, error) {
	for d.err == nil && len(p) > 0 {
		if d.next == d.end {
			d.err = io.EOF
			break
		}
		if d.body == nil {
			if err := d.open(); err != nil {
				d.failed(err)
				continue
			}
		}
		d.timer.Reset(d.idle())
		n, err := d.body.Read(p[:min(int64(len(p)), d.end-d.next)])
		d.timer.Stop()
		if n > 0 {
			d.next += int64(n)
			d.started = true
			if len(d.from) > 1 {
				d.lent = d.from[0]
			}
			if d.next-d.mark >= progress {
				d.mark, d.fails = d.next, 0
			}
			if err != nil {
				d.drop() // if it was the end, all the better; if not, it is asked for again
			}
			return n, nil
		}
		if err != nil {
			d.failed(err)
		}
	}
	return 0, d.err
}

// failed decides whether the download goes on after an error, and waits.
func (d *download) failed(err error) {
	if d.stalled != nil && d.stalled.Load() {
		err = errStalled
	}
	if d.leave(err) {
		return
	}
	d.drop()
	d.fails++
	repo := d.from[0]
	switch {
	case d.ctx.Err() != nil:
		d.err = d.ctx.Err()
	case errors.Is(err, errBadRange):
		d.err = err
	case !errors.Is(err, errStalled) && !again(err), d.fails >= repo.attempts:
		d.err = d.missed.with(repo.explain(d.what(), err))
	default:
		d.err = sleep(d.ctx, backoff(repo.client.opts.Backoff, d.fails))
	}
}

// drop gives the connection up.
func (d *download) drop() {
	if d.body == nil {
		return
	}
	d.timer.Stop()
	d.stop()
	_ = d.body.Close()
	d.body, d.stalled = nil, nil
}

// Close implements io.Closer. It may come at any time and more than once.
func (d *download) Close() error {
	if d.err == nil {
		d.err = errClosed
	}
	d.drop()
	return nil
}

var (
	errClosed  = errors.New("read of a closed download")
	errStalled = errors.New("nothing came for too long")
)
