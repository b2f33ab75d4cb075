package registry

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// maxRetryAfter is the longest wait that a registry may ask for. Docker Hub's
// rate limit asks for hours, which nobody waits for.
const maxRetryAfter = time.Minute

// maxBackoff is the longest wait of our own.
const maxBackoff = 10 * time.Second

// retrying sends requests again that failed for a reason that passes: 429, 5xx,
// a connection that broke before the response. It does so with GET and HEAD, and
// with what idempotent has marked.
//
// Below the layers that answer a challenge by sending a request again, it is
// also where every sending gets a body of its own, from GetBody.
type retrying struct {
	next     http.RoundTripper
	attempts int
	backoff  time.Duration
}

// RoundTrip implements http.RoundTripper. The last answer is the caller's,
// whatever it is.
func (r *retrying) RoundTrip(req *http.Request) (*http.Response, error) {
	_, marked := req.Header[idempotencyKey]
	once := req.Method != http.MethodGet && req.Method != http.MethodHead && !marked
	for attempt := 1; ; attempt++ {
		fresh, err := withBody(req)
		if err != nil {
			return nil, err
		}
		resp, err := r.next.RoundTrip(fresh)
		if once || attempt == r.attempts || req.Context().Err() != nil {
			return resp, err
		}
		wait := backoff(r.backoff, attempt)
		switch {
		case err != nil:
			if !transient(err) {
				return nil, err
			}
		case !transientStatus(resp.StatusCode):
			return resp, nil
		default:
			asked, ok := retryAfter(resp.Header)
			if ok && asked > maxRetryAfter {
				return resp, nil
			}
			if ok {
				wait = max(asked, wait/2)
			}
			// A short body is read, so that the connection can be used again.
			_, _ = io.CopyN(io.Discard, resp.Body, 64<<10)
			_ = resp.Body.Close()
		}
		if err := sleep(req.Context(), wait); err != nil {
			return nil, err
		}
	}
}

// idempotencyKey marks a request that may be sent more than once; without a
// value it is not sent itself. net/http's transport has the same rule.
const idempotencyKey = "X-Idempotency-Key"

// withBody is req with a body that nobody has read from.
func withBody(req *http.Request) (*http.Request, error) {
	if req.GetBody == nil {
		return req, nil
	}
	body, err := req.GetBody()
	if err != nil {
		return nil, err
	}
	fresh := req.WithContext(req.Context())
	fresh.Body = body
	return fresh, nil
}

// backoff is how long to wait after the given attempt, 1 being the first:
// doubled each time, and somewhere between half and the whole of that, so that
// many clients do not come back at once.
func backoff(first time.Duration, attempt int) time.Duration {
	d := min(first<<min(attempt-1, 16), maxBackoff)
	return d/2 + rand.N(d/2+1)
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// retryAfter reads the header (RFC 9110, section 10.2.3): seconds, or a date.
func retryAfter(h http.Header) (time.Duration, bool) {
	v := h.Get("Retry-After")
	if n, err := strconv.ParseUint(v, 10, 31); err == nil {
		return time.Duration(n) * time.Second, true
	}
	if at, err := http.ParseTime(v); err == nil {
		return max(0, time.Until(at)), true
	}
	return 0, false
}

// transientStatus tells statuses that another attempt may change. 501 and 505
// are about the request.
func transientStatus(status int) bool {
	switch status {
	case http.StatusTooManyRequests, http.StatusInternalServerError, http.StatusBadGateway,
		http.StatusServiceUnavailable, http.StatusGatewayTimeout, http.StatusRequestTimeout:
		return true
	}
	return status > http.StatusHTTPVersionNotSupported
}

// transient tells errors of a connection that was there and broke. A refused
// one is none: who starts a registry right now can also start lighter again,
// and everybody else wants to hear at once that nothing listens.
func transient(err error) bool {
	var dns *net.DNSError
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return false
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF),
		errors.Is(err, net.ErrClosed), // by net/http, which has seen the other side go
		errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE), errors.Is(err, syscall.ECONNABORTED):
		return true
	case errors.As(err, &dns):
		return dns.IsTemporary && !dns.IsNotFound
	}
	// net/http keeps HTTP/2's error types to itself.
	s := err.Error()
	return strings.Contains(s, "http2: ") || strings.Contains(s, "stream error: ") || strings.Contains(s, "server closed idle connection")
}

// again tells errors after which a response is worth asking for once more. What
// is explained already has been asked for often enough.
func again(err error) bool {
	var explained *Error
	return transient(err) && !errors.As(err, &explained)
}
