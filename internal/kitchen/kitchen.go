// Package kitchen owns the dashboard: the pages and the programming interface
// through which builds of a few projects are started, watched, stopped, compared
// and published in a browser.
//
// It builds nothing itself. A build is a child, this binary again, whose command
// line is made of what the project's own files offer and never of text from a
// request; what happens in it is read from the history, where the builds of the
// command line are, too. It never shows the value of a credential, and a page
// never gets text of a build that has not been escaped.
package kitchen

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"html/template"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/gofrs/flock"
	"golang.org/x/net/netutil"

	"github.com/lighter-oci/lighter/internal/history"
)

// Bounds of what is open at a time, by all and by one address. A browser opens six
// connections to a server, and one stream; one without SharedWorkers a stream for each
// page that is in sight.
const (
	maxConnections       = 2048
	maxConnectionsClient = 512
	maxTold              = 32 // further ones of an address that has so many
	maxStreams           = 512
	maxStreamsClient     = 64
	maxRequests          = 256 // being answered, streams apart
	maxRequestsClient    = 64
	DefaultBuilds        = 2
	DefaultListen        = "127.0.0.1:7070"
)

// The lock in the state directory, and beside it where its holder is found.
const (
	lockName = "kitchen.lock"
	infoExt  = ".info"
)

// Options of a server.
type Options struct {
	Dirs    []string // of projects
	Listen  string   // "" is DefaultListen
	Config  Config
	Proxy   string // URL under which a proxy that ends TLS serves this one; "" is none
	Builds  int    // at a time; 0 is DefaultBuilds
	Program string // lighter
	Env     []string
	Version string
	History *history.Store
	State   string       // directory of the lock
	Warn    func(string) // what went wrong and stopped nothing; nil is nobody

	proxy *url.URL
}

// Server is one dashboard.
type Server struct {
	opt     Options
	store   *history.Store
	places  []place
	hosts   hostList
	origins []string
	door    *door // nil where nobody has to log in
	scheme  string

	queue       *queue
	streams     *limiter
	requests    *limiter
	connections connections
	watches     watches
	studies     studies
	plans       plans
	hooks       *hooks
	pages       map[string]*template.Template
	assets      assets
	handler     http.Handler
	ctx         context.Context // of the server's life
	end         context.CancelFunc

	listener net.Listener
	lock     *flock.Flock
	http     *http.Server
	began    time.Time
	counts   counts
	mu       sync.Mutex
}

// ExposedError is an address that others can reach, without what keeps them out.
type ExposedError struct{ Addr, What string }

func (e *ExposedError) Error() string {
	return fmt.Sprintf("--listen %s: others reach that address, and %s", e.Addr, e.What)
}

// Hint is the next step.
func (e *ExposedError) Hint() string {
	return "listen at 127.0.0.1, or name a configuration with --config that has token-hash or user and password-hash, and cert and key unless --behind-proxy URL"
}

// TakenError is a state that another kitchen serves.
type TakenError struct{ State, By string }

func (e *TakenError) Error() string {
	return fmt.Sprintf("another kitchen serves %s: %s", e.State, cmp.Or(e.By, "it does not say where"))
}

// Hint is the next step.
func (e *TakenError) Hint() string {
	return "use that one, or end it, or name another history with $" + history.Variable
}

// ListenError is an address at which this server cannot listen.
type ListenError struct {
	Addr string
	Err  error
}

func (e *ListenError) Error() string {
	err := e.Err
	var op *net.OpError
	if errors.As(err, &op) {
		err = op.Err
	}
	return fmt.Sprintf("--listen %s: %v", e.Addr, err)
}

func (e *ListenError) Unwrap() error { return e.Err }

// Hint is the next step.
func (e *ListenError) Hint() string {
	switch {
	case errors.Is(e.Err, syscall.EADDRINUSE):
		return "end what listens there, or name another port; port 0 takes one that is free"
	case errors.Is(e.Err, syscall.EACCES):
		return "name a port from 1024 on"
	}
	return "name an address of this machine"
}

// complete fills in what was left open, and refuses what others could reach without
// logging in or read on the way.
func (o *Options) complete() error {
	o.Listen = cmp.Or(o.Listen, DefaultListen)
	o.Builds = cmp.Or(o.Builds, DefaultBuilds)
	if o.Warn == nil {
		o.Warn = func(string) {}
	}
	host, _, err := net.SplitHostPort(o.Listen)
	if err != nil {
		return fault{what: fmt.Sprintf("--listen %q is no ADDRESS:PORT", o.Listen), next: "say for example --listen " + DefaultListen}
	}
	if o.Proxy != "" {
		if o.proxy, err = url.Parse(o.Proxy); err != nil || o.proxy.Host == "" || o.proxy.Scheme != "https" && o.proxy.Scheme != "http" {
			return fault{what: fmt.Sprintf("--behind-proxy %q is no URL", o.Proxy), next: "say the one that people open, as https://builds.example.com"}
		}
	}
	// Who comes by way of a proxy is not on this machine.
	exposed := !loopback(host) || o.proxy != nil
	switch {
	case exposed && !o.Config.Protected():
		return &ExposedError{o.Listen, "nobody has to log in"}
	case exposed && o.Config.Cert == "" && o.proxy == nil:
		return &ExposedError{o.Listen, "what they send is not encrypted"}
	}
	return nil
}

// New checks the options, takes the state's lock, reads through the history and
// listens. Serve answers.
func New(o Options) (*Server, error) {
	err := o.complete()
	if err != nil {
		return nil, err
	}
	s := &Server{
		opt: o, store: o.History, scheme: "http", began: time.Now(),
		streams:  &limiter{all: maxStreams, each: maxStreamsClient, what: "event streams", next: "close pages of this server, or programs that follow builds"},
		requests: &limiter{all: maxRequests, each: maxRequestsClient, what: "requests at a time", next: "wait until some are answered"},
		connections: connections{
			served: limiter{all: maxConnections, each: maxConnectionsClient, what: "connections", next: "close some"},
			told:   limiter{all: maxConnections, each: maxTold},
		},
	}
	if o.Config.Cert != "" {
		s.scheme = "https"
	}
	if o.Config.Protected() {
		s.door = &door{config: &s.opt.Config, secure: s.tls(), life: sessionLife}
	}
	if s.places, err = places(o.Dirs, &o.Config); err != nil {
		return nil, err
	}
	if s.pages, err = parsePages(); err != nil {
		return nil, err
	}
	if s.assets, err = readAssets(); err != nil {
		return nil, err
	}
	s.ctx, s.end = context.WithCancel(context.Background())
	s.queue = &queue{limit: o.Builds, start: s.start, ended: s.ended, turns: map[string]int{}}
	s.watches.init(s)
	if err := s.claim(); err != nil {
		s.end()
		return nil, err
	}
	if err = s.store.Check(s.ctx); err == nil {
		err = s.limit()
	}
	if err == nil {
		err = s.listen()
	}
	if err != nil {
		s.end()
		return nil, errors.Join(err, s.lock.Close())
	}
	s.hooks = newHooks(o.Config.Webhooks, o.Warn)
	hosts := o.Config.Hosts
	if host, _, _ := net.SplitHostPort(o.Listen); host != "" && net.ParseIP(host) == nil { // a name that was listened at
		hosts = append(slices.Clone(hosts), host)
	}
	s.hosts, s.origins = names(s.listener.Addr().String(), s.scheme, hosts, o.proxy)
	s.handler = s.routes()
	for _, p := range s.projects() {
		for _, problem := range p.Problems {
			o.Warn(problem)
		}
	}
	return s, nil
}

func port(l net.Listener) string {
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port
}

// claim takes the lock.
func (s *Server) claim() error {
	if err := os.MkdirAll(s.opt.State, 0o700); err != nil {
		return err
	}
	path := filepath.Join(s.opt.State, lockName)
	s.lock = flock.New(path, flock.SetPermissions(0o600))
	held, err := s.lock.TryLock()
	if err != nil {
		return fmt.Errorf("lock %s: %w", path, err)
	}
	if !held {
		by, _ := os.ReadFile(path + infoExt)
		_ = s.lock.Close()
		return &TakenError{s.opt.State, clip(string(by))}
	}
	tried := filepath.Join(s.opt.State, triedDir)
	return errors.Join(os.RemoveAll(tried), os.Mkdir(tried, 0o700))
}

// listen takes the address, and says beside the lock where that is.
func (s *Server) listen() error {
	var config *tls.Config
	if s.opt.Config.Cert != "" {
		cert, err := tls.LoadX509KeyPair(s.opt.Config.Cert, s.opt.Config.Key)
		if err != nil {
			return s.opt.Config.wrong("cert", err, "name the PEM files of a certificate and of its own key")
		}
		config = &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"}}
	}
	l, err := net.Listen("tcp", s.opt.Listen)
	if err != nil {
		return &ListenError{s.opt.Listen, err}
	}
	s.listener = netutil.LimitListener(l, maxConnections)
	if config != nil {
		s.listener = tls.NewListener(s.listener, config)
	}
	_ = os.WriteFile(filepath.Join(s.opt.State, lockName+infoExt), fmt.Appendf(nil, "%s (process %d)", s.URL(), os.Getpid()), 0o600)
	return nil
}

// tls tells whether browsers reach the server by TLS.
func (s *Server) tls() bool {
	return s.opt.Config.Cert != "" || s.opt.proxy != nil && s.opt.proxy.Scheme == "https"
}

// URL is where people find it.
func (s *Server) URL() string {
	if s.opt.proxy != nil {
		return strings.TrimSuffix(s.opt.proxy.String(), "/") + "/"
	}
	host, _, _ := net.SplitHostPort(s.listener.Addr().String())
	if unspecified(host) {
		host = "localhost"
	}
	return s.scheme + "://" + net.JoinHostPort(host, port(s.listener)) + "/"
}

// Serve answers until ctx ends, then stops its builds, and returns when they are gone.
func (s *Server) Serve(ctx context.Context) error {
	s.http = &http.Server{
		Handler: s.handler, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 20 * time.Second,
		IdleTimeout: 2 * time.Minute, MaxHeaderBytes: maxHeader,
		BaseContext: func(net.Listener) context.Context { return s.ctx },
	}
	if s.opt.proxy == nil { // a proxy's are everybody's
		s.http.ConnState = s.connections.note
	}
	failed := make(chan error, 1)
	go func() { failed <- s.http.Serve(s.listener) }()
	go s.sweep()
	go s.prune()
	var err error
	select {
	case err = <-failed:
	case <-ctx.Done():
	}
	if errors.Is(err, http.ErrServerClosed) {
		err = nil
	}
	return errors.Join(err, s.close())
}

// close ends in order: no new builds, no running ones, no streams. A second one does
// nothing.
func (s *Server) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ctx.Err() != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	for _, j := range s.queue.close(ctx, s.stopping) {
		s.left(j, "the server ended before its turn came")
	}
	s.hooks.close(ctx)
	s.end() // streams and studies end
	s.studies.all.Wait()
	err := s.http.Shutdown(ctx)
	if err != nil {
		err = s.http.Close()
	}
	_ = os.Remove(filepath.Join(s.opt.State, lockName+infoExt))
	return errors.Join(err, s.lock.Close())
}

// sweep takes in what died, now and then: pages that are open want to know.
func (s *Server) sweep() {
	for {
		if _, err := s.store.Sweep(s.ctx); err != nil && s.ctx.Err() == nil {
			s.opt.Warn(err.Error())
		}
		select {
		case <-time.After(5 * time.Second):
		case <-s.ctx.Done():
			return
		}
	}
}
