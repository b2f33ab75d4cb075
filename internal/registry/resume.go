package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/lighter-oci/lighter/internal/image"
)

// settle finds out what became of a PUT that failed: it took effect and only
// its answer is missing, or there is something left to send, or no hope. It asks
// after the last attempt, too: what is there counts more than the error.
func (u *upload) settle(cause error, desc ocispec.Descriptor) (there bool, err error) {
	end := u.pause(cause)
	if end != nil && (u.ctx.Err() != nil || hopeless(cause)) {
		return false, end
	}
	resp, err := u.do(u.ctx, http.MethodHead, u.repo.url(path(ocispec.Descriptor{Digest: desc.Digest})), request{}, http.StatusOK)
	if err == nil {
		drain(resp)
	}
	if there, err := has(resp, err, desc); err != nil {
		return false, u.explain(err)
	} else if there || end != nil {
		return there, end
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
	var (
		explained *Error
		plain     errPlain
		config    *HostError
	)
	if errors.As(err, &explained) || errors.As(err, &plain) || errors.As(err, &config) || errors.Is(err, image.ErrCorrupt) || certificateError(err) != nil {
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
		u.repo.cancel(u.ctx, u.session)
	}
	if err := u.begin(); err != nil {
		return u.explain(err)
	}
	return nil
}

// lost says that the blob has to be sent again from its start.
func (u *upload) lost(cause error) error {
	low, end := u.ring.span()
	e := &Error{Host: u.repo.ref.Host, What: u.what, Status: refused(cause), causes: []error{image.ErrUploadLost, cause},
		Reason: fmt.Sprintf("the registry lost the upload %d times (%s)", u.fails, why(cause)),
		Next:   "try again: the blob has to be uploaded from its start"}
	if low > 0 {
		e.Reason = fmt.Sprintf("the registry lost the upload at %d bytes, and only what comes after %d is still held (%s)", end, low, why(cause))
	}
	return e
}

// why is a cause in a few words, without the URL, whose query is the session's.
func why(cause error) string {
	var answer *transport.Error
	if errors.As(cause, &answer) {
		return strings.TrimSpace(fmt.Sprintf("status %d %s", answer.StatusCode, says(answer)))
	}
	return firstCause(cause)
}

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

var (
	errUnclear = errors.New("it names no place to go on from")
	errNothing = errors.New("the registry takes a PATCH, and has nothing of it")
)

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
	if have == 1 && (!patched || cursor > 1) {
		// "0-0" is one byte, and what distribution says when it has none. A byte
		// that came alone is rare, and the digest finds it in the end.
		have = 0
	}
	low, _ := u.ring.span()
	switch {
	case !ok && patched:
		have = cursor
	case patched && have <= u.next:
		return errNothing
	case !ok, have > cursor, have < low:
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

// piece is the biggest PATCH that says how long it is, in bytes: below the
// 100 MB that Cloudflare takes in a request, and above the 5 MiB that S3 wants of
// a part.
const piece = 8 << 20

// send brings the registry to have all that is written, until the writer is
// done. Its errors are explained.
func (u *upload) send() error {
	for {
		length := u.repo.piece.Load()
		sized := length > 0
		ready, err := u.ring.ready(u.next, max(1, length))
		if err != nil || ready == 0 {
			return err
		}
		if !sized {
			ready = -1
		}
		cause := u.patch(ready)
		switch {
		case cause == nil:
			continue
		case !sized && unsized(cause):
			u.repo.piece.Store(min(piece, u.repo.client.opts.Keep/2)) // for the blobs that come, too
		default:
			if err := u.pause(cause); err != nil {
				return err
			}
		}
		if err := u.locate(); err != nil {
			return err
		}
	}
}

// unsized tells answers to a body without a Content-Length that its pieces may
// not get: some proxies hold a request back to know its length, count what comes
// in one, or pass none of it on.
func unsized(err error) bool {
	if errors.Is(err, errNothing) {
		return true
	}
	switch refused(err) {
	case http.StatusLengthRequired, http.StatusRequestEntityTooLarge, http.StatusNotImplemented:
		return true
	case http.StatusBadRequest: // of a registry that does not speak of the upload
		var answer *transport.Error
		return errors.As(err, &answer) && len(answer.Errors) == 0
	}
	return false
}

// patch sends what comes from u.next on: length bytes, or with -1 all until the
// writer's end or the connection's.
func (u *upload) patch(length int64) error {
	opts := u.repo.client.opts
	ctx, stop := context.WithCancelCause(u.ctx)
	defer stop(nil)
	timer := time.AfterFunc(opts.Idle, func() { stop(errStalled) })
	defer timer.Stop()
	defer u.ring.detach()
	header, limit := http.Header{"Content-Type": {"application/octet-stream"}}, int64(math.MaxInt64)
	if length > 0 {
		limit = length
		header.Set("Content-Range", fmt.Sprintf("%d-%d", u.next, u.next+length-1))
	}
	resp, err := u.do(ctx, http.MethodPatch, u.session.String(), request{
		header: header, length: length,
		body: func() (io.ReadCloser, error) { return u.ring.open(u.next, limit, timer, opts.Idle) },
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
