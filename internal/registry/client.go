// Package registry owns a remote store: credentials, and speaking to a registry
// as the OCI distribution specification has it, over networks that fail.
//
// It never decides what an image is (image does), never prints, and never
// shows a credential's value: errors and logs name account and source.
package registry

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"golang.org/x/net/http/httpproxy"

	"github.com/lighter-oci/lighter/internal/image"
)

// Options of a Client. The zero value reads the user's credentials and trusts
// what the system trusts.
type Options struct {
	Credentials Credentials
	// Hosts says how single registries are spoken to, and what their mirrors are.
	// Without a word there, loopback hosts may answer in plain HTTP.
	Hosts Hosts
	// Insecure lists hosts, as "host" or "host:port" in front of a repository,
	// that are spoken to as if http and insecure were all that is configured of them.
	Insecure []string
	// Concurrency is how many requests one host gets at a time; 0 is 8. A body
	// counts until it is closed. Uploads have as many places of their own, each
	// held from Upload to Commit or Abort: whoever copies within one host, with
	// a download open, never waits for itself.
	Concurrency int
	// Attempts bounds how often a request is sent; 0 is 5. A download that makes
	// progress starts counting anew.
	Attempts int
	// Backoff is the wait before the second attempt, doubled for each further
	// one and varied by half; 0 is 250 ms. A registry's Retry-After counts more.
	Backoff time.Duration
	// Idle is how long a body may bring nothing before it is asked for again
	// from where it stands; 0 is 30 s.
	Idle time.Duration
	// Keep is how many bytes of each upload are held to be sent again; 0 is 16
	// MiB: 5 MB were on the way when a connection broke (measured on loopback with
	// Linux's buffers), and a registry may hold 10 MiB back on their way to S3
	// (distribution's chunksize). All uploads to one host together hold Concurrency
	// times that, and a MiB each not sent yet.
	Keep int64
	// PatchSize is how many bytes of a blob one PATCH brings, at most half of Keep;
	// 0 is all of it in one, for as long as the registry takes that. Pieces of 16
	// MiB cost a tenth of the speed (300 MB to distribution 2.8 on loopback) and
	// save nothing there: it forgets an upload of which a PATCH arrived in part,
	// whatever it had answered for before.
	PatchSize int64
	// UserAgent is "lighter" where it is empty.
	UserAgent string
}

// Client speaks to any number of registries. It is safe for concurrent use;
// a process wants one, so that connections and limits are shared.
type Client struct {
	opts         Options
	configs      func() (HostConfigs, error) // reads once
	verifying    *http.Transport             // to hosts of which nothing is configured
	mu           sync.Mutex
	ways         map[string]*way
	repositories map[string]*Repository
	limits       map[string]chan struct{}
}

// New makes a client; it connects to nothing yet. Proxies come from the
// environment as it is now.
func New(opts Options) *Client {
	set := func(v *int, def int) {
		if *v <= 0 {
			*v = def
		}
	}
	set(&opts.Concurrency, 8)
	set(&opts.Attempts, 5)
	if opts.Keep <= 0 {
		opts.Keep = 16 << 20
	}
	opts.PatchSize = min(max(opts.PatchSize, 0), opts.Keep/2)
	if opts.Backoff <= 0 {
		opts.Backoff = 250 * time.Millisecond
	}
	if opts.Idle <= 0 {
		opts.Idle = 30 * time.Second
	}
	if opts.UserAgent == "" {
		opts.UserAgent = "lighter"
	}
	proxy := httpproxy.FromEnvironment().ProxyFunc()
	verifying := &http.Transport{
		Proxy:               func(r *http.Request) (*url.URL, error) { return proxy(r.URL) },
		DialContext:         (&net.Dialer{Timeout: 20 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
		TLSClientConfig:     &tls.Config{MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout: 20 * time.Second,
		// A registry that is a cache of another one answers when it has fetched.
		ResponseHeaderTimeout: 2 * time.Minute,
		ExpectContinueTimeout: time.Second,
		MaxIdleConnsPerHost:   opts.Concurrency,
		IdleConnTimeout:       90 * time.Second,
		ForceAttemptHTTP2:     true,
		// All requests of a host share a connection, and what replaces a stalled
		// one must not take the same dead one.
		HTTP2: &http.HTTP2Config{SendPingTimeout: opts.Idle, PingTimeout: 15 * time.Second},
		// Blobs are what their digest says, not what a header says they unpack to.
		DisableCompression: true,
	}
	return &Client{
		opts: opts, configs: sync.OnceValues(opts.Hosts.Read), verifying: verifying,
		ways: map[string]*way{}, repositories: map[string]*Repository{}, limits: map[string]chan struct{}{},
	}
}

// Close closes idle connections. The client can be used again.
func (c *Client) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.verifying.CloseIdleConnections()
	for _, w := range c.ways {
		w.over.CloseIdleConnections()
	}
	return nil
}

// Repository answers the repository that ref lies in, in its registry and never
// a mirror, as a Source and Target whose names are tags and digests. It connects
// to nothing yet.
func (c *Client) Repository(ref image.Reference) (*Repository, error) {
	ref.Tag, ref.Digest = "", ""
	parsed, err := image.ParseReference(ref.String())
	if err != nil {
		return nil, err
	}
	return c.repository(parsed, "")
}

// repository answers the one by the name of ref, which may be where a mirror of
// another registry keeps what is asked for.
func (c *Client) repository(ref image.Reference, mirrorOf string) (*Repository, error) {
	attempts := c.opts.Attempts
	if mirrorOf != "" {
		attempts = min(attempts, mirrorAttempts)
	}
	host, out, err := c.registry(ref.Host, attempts)
	if err != nil {
		return nil, err
	}
	ref.Tag, ref.Digest = "", ""
	key := ref.Name() + " " + mirrorOf
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.repositories[key]
	if r == nil {
		r = &Repository{client: c, ref: ref, mirrorOf: mirrorOf, attempts: attempts, remote: host.Repo(ref.Repository), out: out,
			connecting: make(chan struct{}, 1), connections: map[string]*http.Client{}}
		r.piece.Store(c.opts.PatchSize)
		c.repositories[key] = r
	}
	return r, nil
}

// acquire waits until the host may have one more request, and answers how to
// give the place back.
func (c *Client) acquire(ctx context.Context, host string) (release func(), err error) {
	c.mu.Lock()
	limit := c.limits[host]
	if limit == nil {
		limit = make(chan struct{}, c.opts.Concurrency)
		c.limits[host] = limit
	}
	c.mu.Unlock()
	select {
	case limit <- struct{}{}:
		return sync.OnceFunc(func() { <-limit }), nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// connect performs the handshake with the registry for what scopes say.
func (r *Repository) connect(ctx context.Context, cred Credential, scopes []string) (*http.Client, error) {
	rt, err := transport.NewWithContext(ctx, r.remote.Registry, cred.authenticator(), r.out, scopes)
	if err != nil {
		return nil, err
	}
	return &http.Client{Transport: rt, CheckRedirect: sameMethod}, nil
}

// sameMethod follows redirects as net/http does, but not those that would make
// a GET of a request that writes: its answer would be taken for a success.
func sameMethod(req *http.Request, via []*http.Request) error {
	switch {
	case len(via) >= 10:
		return errors.New("stopped after 10 redirects")
	case req.Method != via[0].Method:
		return http.ErrUseLastResponse
	}
	return nil
}
