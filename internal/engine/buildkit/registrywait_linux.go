package buildkit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// patientTransport is as patient with a registry as it asks for, and no more.
// BuildKit's own client sends a request that was refused with 429 again at
// once, five times; tries a registry that cannot be reached for ten minutes;
// and waits for one that says nothing for ever.
type patientTransport struct {
	next   http.RoundTripper
	limits *rateLimits
	stall  time.Duration // without a byte in either direction
}

const (
	// defaultStall leaves registries the time to store a layer of many
	// gigabytes after its last byte was sent, as those on S3 need.
	defaultStall = 5 * time.Minute
	// maxRetryAfter is the longest wait that a registry may ask for. Docker
	// Hub's limit asks for hours, which nobody waits for.
	maxRetryAfter = time.Minute
	// limitWait is the wait after a 429 that asks for none.
	limitWait = time.Second
)

// finalError is a failure of the connection that another attempt will not
// mend. It hides what it was, because BuildKit asks errors whether they are
// temporary, and those of a timeout say yes.
type finalError struct{ text string }

func (e finalError) Error() string { return e.text }

func (p *patientTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	host := req.URL.Host
	if err := p.limits.wait(req.Context(), host); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancelCause(req.Context())
	silent := finalError{fmt.Sprintf("%s has not answered for %v", host, p.stall)}
	timer := time.AfterFunc(p.stall, func() { cancel(silent) })
	theirs, ours := func() { timer.Reset(p.stall) }, func() { timer.Stop() }
	sent := req.WithContext(ctx)
	if req.Body != nil && req.Body != http.NoBody {
		// Their turn is while there is nothing to be read from us.
		sent.Body = &timedBody{body: req.Body, before: ours, after: theirs}
		if get := req.GetBody; get != nil {
			sent.GetBody = func() (io.ReadCloser, error) {
				body, err := get()
				return &timedBody{body: body, before: ours, after: theirs}, err
			}
		}
	}
	resp, err := p.next.RoundTrip(sent)
	ours()
	if err != nil {
		err = final(ctx, host, err)
		cancel(nil)
		return nil, err
	}
	resp.Body = &timedBody{body: resp.Body, before: theirs, after: ours, ctx: ctx, end: func() { cancel(nil) }}
	if wait, asked := asksToWait(resp); asked {
		p.limits.set(host, wait)
	}
	return resp, nil
}

// rateLimits knows when the hosts that limit requests want to be asked again.
type rateLimits struct {
	mu    sync.Mutex
	until map[string]time.Time
}

func (r *rateLimits) set(host string, wait time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.until == nil {
		r.until = map[string]time.Time{}
	}
	r.until[host] = time.Now().Add(wait)
}

// wait returns when host may be asked.
func (r *rateLimits) wait(ctx context.Context, host string) error {
	for {
		r.mu.Lock()
		wait := time.Until(r.until[host])
		r.mu.Unlock()
		if wait <= 0 {
			return nil
		}
		t := time.NewTimer(wait)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return context.Cause(ctx)
		}
	}
}

// asksToWait reads Retry-After (RFC 9110, section 10.2.3) of the answers that
// are about load.
func asksToWait(resp *http.Response) (time.Duration, bool) {
	limited := resp.StatusCode == http.StatusTooManyRequests
	if !limited && resp.StatusCode != http.StatusServiceUnavailable {
		return 0, false
	}
	v := resp.Header.Get("Retry-After")
	if n, err := strconv.ParseUint(v, 10, 31); err == nil {
		wait := time.Duration(n) * time.Second
		return wait, wait <= maxRetryAfter
	}
	if at, err := http.ParseTime(v); err == nil {
		wait := time.Until(at)
		return wait, wait > 0 && wait <= maxRetryAfter
	}
	return limitWait, limited
}

// final makes those errors final that BuildKit would take for temporary ones.
func final(ctx context.Context, host string, err error) error {
	var silent finalError
	if errors.As(context.Cause(ctx), &silent) {
		return silent
	}
	var op *net.OpError
	if errors.As(err, &op) && op.Op == "dial" && op.Timeout() {
		return finalError{fmt.Sprintf("%s cannot be reached: no connection within 30 s", host)}
	}
	return err
}

// timedBody says whose turn it is to move bytes.
type timedBody struct {
	body          io.ReadCloser
	before, after func()          // around each Read
	ctx           context.Context // of a response; nil for a request's
	end           func()          // of a response; nil for a request's
}

func (b *timedBody) Read(p []byte) (int, error) {
	b.before()
	n, err := b.body.Read(p)
	b.after()
	var silent finalError
	if err != nil && b.ctx != nil && errors.As(context.Cause(b.ctx), &silent) {
		err = silent
	}
	return n, err
}

func (b *timedBody) Close() error {
	if b.end != nil {
		defer b.end()
	}
	return b.body.Close()
}
