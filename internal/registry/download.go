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

// download reads the bytes from next to end of a blob and, when the connection
// breaks or brings nothing, goes on where it was. It is for one goroutine.
type download struct {
	ctx       context.Context
	repo      *Repository
	desc      ocispec.Descriptor
	what      string // the blob, for messages
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

// download asks for the bytes from start to end. The first response is awaited,
// so that what is missing is an error here.
func (r *Repository) download(ctx context.Context, desc ocispec.Descriptor, start, end int64) (io.ReadCloser, error) {
	d := &download{ctx: ctx, repo: r, desc: desc, what: r.ref.Name() + "@" + desc.Digest.String(), next: start, end: end, mark: start}
	if err := d.open(); err != nil {
		d.drop()
		return nil, err
	}
	return d, nil
}

// open sends a request for what is left. After an error there may be a body.
func (d *download) open() error {
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
	resp, err := d.repo.get(ctx, d.what, path+d.desc.Digest.String(), header) //nolint:bodyclose // drop closes it
	if err != nil {
		stop()
		return err
	}
	d.body, d.stop, d.stalled = resp.Body, stop, &atomic.Bool{}
	stalled := d.stalled
	d.timer = time.AfterFunc(d.repo.client.opts.Idle, func() { stalled.Store(true); stop() })
	return d.check(resp, ranged)
}

// check holds the response against the descriptor and brings it to d.next.
func (d *download) check(resp *http.Response, ranged bool) error {
	size := resp.ContentLength // -1 where the registry does not say
	switch {
	case resp.StatusCode == http.StatusRequestedRangeNotSatisfiable:
		return fmt.Errorf("%s: %w: it has no byte %d", d.what, image.ErrCorrupt, d.next)
	case resp.StatusCode == http.StatusPartialContent && ranged:
		start, total, err := contentRange(resp.Header.Get("Content-Range"))
		if err != nil || start != d.next {
			return fmt.Errorf("%s: %w: %.100q", d.what, errBadRange, resp.Header.Get("Content-Range"))
		}
		size = total
	case resp.StatusCode != http.StatusOK:
		return fmt.Errorf("%s: status %s instead of a blob", d.what, resp.Status)
	}
	if size >= 0 && size != d.desc.Size {
		return fmt.Errorf("%s: %w: the registry has %d bytes, the descriptor says %d", d.what, image.ErrCorrupt, size, d.desc.Size)
	}
	if resp.StatusCode == http.StatusPartialContent || d.next == 0 {
		return nil
	}
	if !d.started && d.next > maxSkip {
		return fmt.Errorf("%s: %w: the registry ignores ranges", d.what, image.ErrNoRange)
	}
	for left := d.next; left > 0; {
		d.timer.Reset(d.repo.client.opts.Idle)
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
		d.timer.Reset(d.repo.client.opts.Idle)
		n, err := d.body.Read(p[:min(int64(len(p)), d.end-d.next)])
		d.timer.Stop()
		if n > 0 {
			d.next += int64(n)
			d.started = true
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
	stalled := d.stalled != nil && d.stalled.Load()
	d.drop()
	d.fails++
	switch {
	case d.ctx.Err() != nil:
		d.err = d.ctx.Err()
	case errors.Is(err, errBadRange):
		d.err = err
	case !stalled && !again(err):
		d.err = d.repo.explain(d.what, err)
	case d.fails >= d.repo.client.opts.Attempts:
		if stalled {
			err = errStalled
		}
		d.err = d.repo.explain(d.what, err)
	default:
		d.err = sleep(d.ctx, backoff(d.repo.client.opts.Backoff, d.fails))
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
