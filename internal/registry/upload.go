package registry

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/lighter-oci/lighter/internal/image"
)

// ErrUploadLost says that a registry no longer has the start of an upload, and
// that it was too long ago to be sent again from here: the whole blob has to be.
var ErrUploadLost = errors.New("the upload is lost")

// errEnded is for whoever writes to an upload that was committed or aborted.
var errEnded = errors.New("the upload has ended")

// small is the biggest blob, in bytes, that travels in one request, with its
// commit: configs, and the layers of a WORKDIR or a COPY of a file.
const small = 64 << 10

// upload is one blob on its way to a registry. Up to small bytes it waits for
// what comes. Then send runs beside the writer.
type upload struct {
	repo    *Repository
	ctx     context.Context // of Upload, and ended by Abort
	stop    context.CancelFunc
	what    string
	release func()

	ring *ring
	hash hash.Hash
	size int64
	done chan struct{} // closed when send has ended; nil while the blob is small
	over bool          // committed or aborted

	// Below is send's while it runs.
	failed  error
	session *url.URL
	next    int64 // how much the registry is known to have
	fails   int   // since the last progress
	mark    int64 // where that is measured from
}

// Upload implements image.Target.
func (r *Repository) Upload(ctx context.Context) (image.Upload, error) {
	release, err := r.client.acquire(ctx, "uploads to "+r.ref.Host)
	if err != nil {
		return nil, err
	}
	u := &upload{repo: r, what: r.ref.Name(), release: release, ring: newRing(r.client.opts.Keep), hash: sha256.New()}
	u.ctx, u.stop = context.WithCancel(ctx)
	if err := u.begin(); err != nil {
		u.stop()
		release()
		return nil, u.explain(err)
	}
	context.AfterFunc(u.ctx, func() { u.ring.fail(u.ctx.Err()) })
	return u, nil
}

// begin asks for a session.
func (u *upload) begin() error {
	resp, err := u.do(u.ctx, http.MethodPost, u.repo.url("/blobs/uploads/"), request{idempotent: true}, http.StatusAccepted)
	if err != nil {
		return err
	}
	drain(resp)
	u.next = 0
	u.session, err = follow(resp)
	return err
}

// do sends a request of the upload.
func (u *upload) do(ctx context.Context, method, url string, q request, want ...int) (*http.Response, error) {
	q.access, q.what, q.method, q.url = u.repo.push(), u.what, method, url
	return u.repo.do(ctx, q, want...)
}

// explain is for errors that end the upload.
func (u *upload) explain(err error) error {
	if u.ctx.Err() != nil {
		return u.ctx.Err()
	}
	return u.repo.explain(u.what, err)
}

// Write implements image.Upload.
func (u *upload) Write(p []byte) (int, error) {
	if u.over {
		return 0, fmt.Errorf("%s: %w", u.what, errEnded)
	}
	if u.size+int64(len(p)) > small {
		u.stream() // first: the ring does not take more than a little unsent
	}
	n, err := u.ring.Write(p)
	_, _ = u.hash.Write(p[:n])
	u.size += int64(n)
	return n, err
}

// stream begins to send beside the writer.
func (u *upload) stream() {
	if u.done != nil {
		return
	}
	u.done = make(chan struct{})
	go func() {
		defer close(u.done)
		if u.failed = u.send(); u.failed != nil {
			u.ring.fail(u.failed)
		}
	}()
}

// Abort implements image.Upload.
func (u *upload) Abort() {
	if u.over {
		return
	}
	u.over = true
	u.stop()
	u.ring.fail(errEnded)
	if u.done != nil {
		<-u.done
	}
	u.repo.cancel(u.ctx, u.repo.push(), u.session)
	u.release()
}

// Commit implements image.Upload. After an error nothing of the blob stays.
func (u *upload) Commit(ctx context.Context, desc ocispec.Descriptor) error {
	if u.over {
		return fmt.Errorf("%s: %w", u.what, errEnded)
	}
	defer context.AfterFunc(ctx, u.stop)()
	err := u.commit(desc)
	if err != nil {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		u.Abort()
		return err
	}
	u.over = true
	u.stop()
	u.ring.fail(errEnded)
	u.release()
	return nil
}

func (u *upload) commit(desc ocispec.Descriptor) error {
	if err := u.check(desc); err != nil {
		return err
	}
	u.ring.close()
	if u.done != nil {
		<-u.done
		if u.failed != nil {
			return u.failed
		}
	}
	u.what = u.repo.named(desc.Digest)
	for {
		if u.done != nil {
			if err := u.send(); err != nil {
				return err
			}
		}
		err := u.put(desc)
		if err == nil {
			return nil
		}
		if there, err := u.settle(err, desc); there || err != nil {
			return err
		}
	}
}

// check holds what was written against what is to be committed. Digests of
// another algorithm than SHA-256 are the registry's to check where the start of
// the blob is no longer here.
func (u *upload) check(desc ocispec.Descriptor) error {
	if err := image.CheckDescriptor(desc); err != nil {
		return err
	}
	if u.size != desc.Size {
		return fmt.Errorf("%s: %w: %d bytes were written, the descriptor says %d", u.repo.named(desc.Digest), image.ErrCorrupt, u.size, desc.Size)
	}
	got := digest.NewDigest(digest.SHA256, u.hash)
	if algorithm := desc.Digest.Algorithm(); algorithm != digest.SHA256 {
		b, whole := u.ring.whole()
		if !whole {
			return nil
		}
		got = algorithm.FromBytes(b)
	}
	if got != desc.Digest {
		return fmt.Errorf("%s: %w: %s was written", u.repo.named(desc.Digest), image.ErrCorrupt, got)
	}
	return nil
}

// put commits what the registry has, or a small blob with its content.
func (u *upload) put(desc ocispec.Descriptor) error {
	// A registry reads or moves the whole blob before it answers.
	ctx, stop := context.WithTimeoutCause(u.ctx, 4*u.repo.client.opts.Idle, errStalled)
	defer stop()
	q := request{}
	if u.done == nil {
		b, _ := u.ring.whole()
		q.header = http.Header{"Content-Type": {"application/octet-stream"}}
		if len(b) > 0 {
			q.body, q.length = content(b), int64(len(b))
		}
	}
	session := *u.session
	if session.RawQuery != "" {
		session.RawQuery += "&"
	}
	session.RawQuery += "digest=" + url.QueryEscape(desc.Digest.String())
	resp, err := u.do(ctx, http.MethodPut, session.String(), q, http.StatusCreated, http.StatusNoContent, http.StatusOK)
	if err != nil {
		return caused(ctx, err)
	}
	drain(resp)
	if err := sameDigest(resp, desc.Digest); err != nil {
		return fmt.Errorf("%s: %w", u.what, err)
	}
	return nil
}

// caused answers why a request was given up, where that is known better than
// from its error.
func caused(ctx context.Context, err error) error {
	if errors.Is(context.Cause(ctx), errStalled) {
		return errStalled
	}
	return err
}

// settle finds out what became of a PUT that failed: it took effect and only
// its answer is missing, or there is something left to send, or no hope.
func (u *upload) settle(cause error, desc ocispec.Descriptor) (there bool, err error) {
	if err := u.pause(cause); err != nil {
		return false, err
	}
	resp, err := u.do(u.ctx, http.MethodHead, u.repo.url(path(ocispec.Descriptor{Digest: desc.Digest})), request{}, http.StatusOK)
	if err == nil {
		drain(resp)
	}
	if there, err := has(resp, err, desc); err != nil {
		return false, u.explain(err)
	} else if there {
		return true, nil
	}
	if u.done == nil || forgotten(cause) {
		return false, u.restart(cause)
	}
	return false, u.locate()
}

// pause counts a failure and waits before the next attempt. The error is the
// upload's end.
func (u *upload) pause(cause error) error {
	opts := u.repo.client.opts
	u.fails++
	wait := backoff(opts.Backoff, u.fails)
	var answer *refusal
	switch {
	case u.ctx.Err() != nil:
		return u.ctx.Err()
	case hopeless(cause), u.fails >= opts.Attempts:
		if forgotten(cause) {
			return u.lost(cause)
		}
		return u.explain(cause)
	case errors.As(cause, &answer) && answer.asked:
		if answer.after > maxRetryAfter {
			return u.explain(cause)
		}
		wait = max(answer.after, wait/2)
	}
	return sleep(u.ctx, wait)
}

// hopeless tells errors that another attempt does not change. In the middle of
// an upload a refused connection is a registry that starts anew.
func hopeless(err error) bool {
	var explained *Error
	if errors.As(err, &explained) || errors.Is(err, image.ErrCorrupt) || errors.Is(err, errPlain) || certificateError(err) != nil {
		return true
	}
	status := refused(err)
	return status != 0 && !transientStatus(status) && !forgotten(err)
}

// forgotten tells answers that are about the upload's session and its bytes.
func forgotten(err error) bool {
	switch refused(err) {
	case http.StatusBadRequest, http.StatusNotFound, http.StatusConflict, http.StatusGone, http.StatusRequestedRangeNotSatisfiable:
		return !strings.Contains(err.Error(), "NAME_UNKNOWN")
	}
	return false
}

// restart begins anew where the start of the blob is still here.
func (u *upload) restart(cause error) error {
	if low, _ := u.ring.span(); low > 0 {
		return u.lost(cause)
	}
	if refused(cause) != http.StatusNotFound {
		u.repo.cancel(u.ctx, u.repo.push(), u.session)
	}
	if err := u.begin(); err != nil {
		return u.explain(err)
	}
	return nil
}

// lost says that the blob has to be sent again from its start.
func (u *upload) lost(cause error) error {
	low, end := u.ring.span()
	e := &Error{Host: u.repo.ref.Host, What: u.what, Status: refused(cause), causes: []error{ErrUploadLost, cause},
		Reason: fmt.Sprintf("the registry lost the upload after %d bytes, of which the first %d are no longer held here (%s)", end, low, firstCause(cause)),
		Next:   "try again: the blob has to be uploaded from its start"}
	return e
}

var _ io.Writer = (*upload)(nil)

// locate asks for how much the registry has.
func (u *upload) locate() error {
	for {
		cause := u.ask()
		switch {
		case cause == nil:
			return nil
		case forgotten(cause), errors.Is(cause, errUnclear):
			return u.restart(cause)
		case refused(cause) != 0:
			return u.explain(cause) // it was asked more than once
		}
		if err := u.pause(cause); err != nil {
			return err
		}
	}
}

// ask sends one request for the upload's status (distribution specification,
// "Resuming an upload").
func (u *upload) ask() error {
	ctx, stop := context.WithTimeoutCause(u.ctx, 4*u.repo.client.opts.Idle, errStalled)
	defer stop()
	resp, err := u.do(ctx, http.MethodGet, u.session.String(), request{}, http.StatusNoContent, http.StatusOK, http.StatusAccepted)
	if err != nil {
		return caused(ctx, err)
	}
	drain(resp)
	return u.accept(resp, false)
}

var errUnclear = errors.New("the registry does not say how much it has")

// accept takes over the place to go on at from an answer. What a registry does
// not say after a PATCH that it took is what was sent.
func (u *upload) accept(resp *http.Response, patched bool) error {
	if resp.Header.Get("Location") != "" {
		session, err := follow(resp)
		if err != nil {
			return err
		}
		u.session = session
	}
	have, ok := committed(resp.Header.Get("Range"))
	cursor := u.ring.reached()
	low, _ := u.ring.span()
	switch {
	case !ok && patched:
		have = cursor
	case !ok, have > cursor, have < low:
		return errUnclear
	case have == 1 && !patched:
		// "0-0" is one byte, and what many registries say when they have none.
		return errUnclear
	}
	u.next = have
	if have-u.mark >= progress {
		u.mark, u.fails = have, 0
	}
	return nil
}

// committed reads "0-99", with or without "bytes=", as 100 bytes.
func committed(v string) (int64, bool) {
	var last int64
	if n, err := fmt.Sscanf(strings.TrimPrefix(v, "bytes="), "0-%d", &last); n != 1 || err != nil || last < 0 {
		return 0, false
	}
	return last + 1, true
}

// send brings the registry to have all that is written, until the writer is
// done. Its errors are explained.
func (u *upload) send() error {
	for {
		more, err := u.ring.more(u.next)
		if err != nil || !more {
			return err
		}
		cause := u.patch()
		if cause == nil {
			continue
		}
		if err := u.pause(cause); err != nil {
			return err
		}
		if err := u.locate(); err != nil {
			return err
		}
	}
}

// patch sends what comes from u.next on, until the writer's end or the
// connection's.
func (u *upload) patch() error {
	opts := u.repo.client.opts
	ctx, stop := context.WithCancelCause(u.ctx)
	defer stop(nil)
	timer := time.AfterFunc(opts.Idle, func() { stop(errStalled) })
	defer timer.Stop()
	defer u.ring.detach()
	resp, err := u.do(ctx, http.MethodPatch, u.session.String(), request{
		header: http.Header{"Content-Type": {"application/octet-stream"}},
		length: -1,
		body: func() (io.ReadCloser, error) {
			return u.ring.open(u.next, opts.PatchSize, timer, opts.Idle)
		},
	}, http.StatusAccepted, http.StatusNoContent, http.StatusCreated, http.StatusOK)
	if err != nil {
		return caused(ctx, err)
	}
	if !u.ring.spent() {
		_ = resp.Body.Close()
		return errEarly
	}
	drain(resp)
	return u.accept(resp, true)
}

var errEarly = errors.New("the registry answers before it has everything")
