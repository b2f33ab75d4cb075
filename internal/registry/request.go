package registry

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// request is one thing to ask of a registry.
type request struct {
	access     []string // scopes
	method     string
	url        string
	what       string // for the messages of a handshake
	header     http.Header
	idempotent bool // it may be sent again after an answer that got lost
	// body answers the content from its start, each time that it is called; nil
	// is no content. length is its size in bytes, -1 for an unknown one.
	body   func() (io.ReadCloser, error)
	length int64
}

// content is a body for a request.
func content(b []byte) func() (io.ReadCloser, error) {
	return func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b)), nil }
}

// pull, push, mount and delete are the scopes of what can be done with a repository.
func (r *Repository) pull() []string { return []string{r.remote.Scope(transport.PullScope)} }

func (r *Repository) push() []string { return []string{r.remote.Scope(transport.PushScope)} }

func (r *Repository) mount(from string) []string {
	return append(r.push(), "repository:"+from+":"+transport.PullScope)
}

// delete is for uploads, too: distribution wants it of whoever gives one up. It
// has a token of its own, so that one who may not loses nothing else.
func (r *Repository) delete() []string { return []string{r.remote.Scope("pull,push,delete")} }

// url is that of a path below the repository. Where a registry was found to
// speak plain HTTP, the scheme is changed on the way.
func (r *Repository) url(path string) string {
	return "https://" + r.remote.RegistryStr() + "/v2/" + r.ref.Repository + path + r.namespace()
}

// do sends a request and answers a response whose status is one of want. An
// error is not explained yet; a *refusal where another status came.
func (r *Repository) do(ctx context.Context, q request, want ...int) (*http.Response, error) {
	hc, err := r.connected(ctx, q.what, q.access)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, q.method, q.url, nil)
	if err != nil {
		return nil, err
	}
	for key, values := range q.header {
		req.Header[key] = values
	}
	if q.idempotent {
		req.Header[idempotencyKey] = []string{}
	}
	if q.body != nil {
		// A body that each sending replaces (withBody): this one only tells net/http
		// that there will be some.
		req.Body, req.GetBody, req.ContentLength = io.NopCloser(strings.NewReader("")), q.body, q.length
	}
	resp, err := hc.Do(req)
	if err != nil {
		return nil, err
	}
	if err := transport.CheckError(resp, want...); err != nil {
		_ = resp.Body.Close()
		var answer *transport.Error
		if errors.As(err, &answer) {
			after, asked := retryAfter(resp.Header)
			return nil, &refusal{answer, after, asked}
		}
		return nil, err
	}
	return resp, nil
}

// refusal is an answer that is not what was asked for.
type refusal struct {
	answer *transport.Error
	after  time.Duration // of the header Retry-After
	asked  bool          // there was one
}

func (e *refusal) Error() string { return e.answer.Error() }
func (e *refusal) Unwrap() error { return e.answer }

// refused answers the status of a refusal, 0 for other errors.
func refused(err error) int {
	var e *refusal
	if errors.As(err, &e) {
		return e.answer.StatusCode
	}
	return 0
}

// connected performs the handshake once for each set of scopes; a failed one is
// tried again by the next caller. Callers that wait can be cancelled.
func (r *Repository) connected(ctx context.Context, what string, scopes []string) (*http.Client, error) {
	select {
	case r.connecting <- struct{}{}:
		defer func() { <-r.connecting }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	key := strings.Join(scopes, " ")
	if hc := r.connections[key]; hc != nil {
		return hc, nil
	}
	cred, err := r.client.opts.Credentials.Lookup(ctx, r.ref.Name())
	if err != nil {
		return nil, err
	}
	r.cred.Store(&cred)
	hc, err := r.connect(ctx, cred, scopes)
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if err != nil {
		return nil, r.explain(what, err)
	}
	r.connections[key] = hc
	return hc, nil
}
