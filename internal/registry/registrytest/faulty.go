package registrytest

import (
	"bufio"
	"context"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"
)

// Fault decides what happens to one request. It answers true where it has
// answered the request itself; false lets the request through to the registry.
type Fault func(w http.ResponseWriter, r *http.Request) bool

// Faulty is a real reverse proxy in front of a registry.
type Faulty struct {
	Addr string // host:port

	mu       sync.Mutex
	fault    Fault
	rewrite  func(*http.Response) error
	requests []string
	received int64     // bytes of request bodies
	sessions *sessions // nil where the registry's own are passed on
}

// NewFaulty starts a proxy without faults in front of s, until the test ends.
// It speaks plain HTTP on its own side.
func NewFaulty(t testing.TB, s *Server) *Faulty {
	t.Helper()
	target, err := url.Parse(s.URL())
	if err != nil {
		t.Fatal(err)
	}
	f := &Faulty{}
	transport := &http.Transport{} // no proxies, and connections that end with the test
	proxy := &httputil.ReverseProxy{
		Transport:     transport,
		FlushInterval: -1,                         // what was sent before a fault arrives before it
		ErrorLog:      log.New(io.Discard, "", 0), // broken bodies are what it is for
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			r.Out.Host = r.In.Host // so that Location headers lead back here
		},
		ModifyResponse: func(resp *http.Response) error {
			f.mu.Lock()
			rewrite, sessions := f.rewrite, f.sessions
			f.mu.Unlock()
			if sessions != nil {
				sessions.keep(resp)
			}
			if rewrite != nil {
				if err := rewrite(resp); err != nil {
					return err
				}
			}
			if change, ok := resp.Request.Context().Value(answerKey{}).(func(*http.Response) error); ok {
				return change(resp)
			}
			return nil
		},
	}
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		w := &takeable{ResponseWriter: rw}
		f.mu.Lock()
		f.requests = append(f.requests, r.Method+" "+r.URL.Path)
		fault, sessions := f.fault, f.sessions
		f.mu.Unlock()
		if r.Body != http.NoBody {
			r.Body = &counted{r.Body, f}
		}
		switch {
		case fault != nil && fault(w, r):
		case sessions != nil:
			sessions.serve(proxy, w, r)
		default:
			proxy.ServeHTTP(w, r)
		}
	}))
	srv.Config.ErrorLog = proxy.ErrorLog // of faults that take a connection away
	srv.Start()
	t.Cleanup(func() {
		srv.CloseClientConnections()
		srv.Close()
		transport.CloseIdleConnections()
	})
	f.Addr = strings.TrimPrefix(srv.URL, "http://")
	return f
}

// Ref is a reference through the proxy.
func (f *Faulty) Ref(name string) string { return f.Addr + "/" + name }

// Set installs a fault and forgets the requests seen; nil lets all through.
func (f *Faulty) Set(fault Fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fault, f.requests, f.received = fault, nil, 0
}

// Rewrite installs a change of the registry's responses; nil takes it away.
func (f *Faulty) Rewrite(rewrite func(*http.Response) error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.rewrite, f.requests = rewrite, nil
}

// Requests answers "METHOD /path" of everything since the last Set or Rewrite.
func (f *Faulty) Requests() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]string(nil), f.requests...)
}

// Count answers how many of those start with method and contain part.
func (f *Faulty) Count(method, part string) int {
	n := 0
	for _, r := range f.Requests() {
		if strings.HasPrefix(r, method+" ") && strings.Contains(r, part) {
			n++
		}
	}
	return n
}

// Received answers how many bytes of request bodies came in since the last Set.
func (f *Faulty) Received() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.received
}

// counted is a request's body that the proxy counts.
type counted struct {
	io.ReadCloser
	f *Faulty
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.ReadCloser.Read(p)
	c.f.mu.Lock()
	defer c.f.mu.Unlock()
	c.f.received += int64(n)
	return n, err
}

// After strikes a request when n bytes of its body have been passed on.
func After(r *http.Request, n int64, fault func()) {
	r.Body = &struckBody{r.Body, n, fault}
}

// Answer changes the registry's response to one request that is let through. An
// error of change is a response that gets lost.
func Answer(r *http.Request, change func(*http.Response) error) {
	*r = *r.WithContext(context.WithValue(r.Context(), answerKey{}, change))
}

type answerKey struct{}

// AnswerAfter strikes a response when n bytes of its body have been passed on.
func AnswerAfter(resp *http.Response, n int64, fault func()) {
	resp.Body = &struckBody{resp.Body, n, fault}
}

type struckBody struct {
	io.ReadCloser
	left  int64
	fault func()
}

func (b *struckBody) Read(p []byte) (int, error) {
	if b.left == 0 {
		if b.fault != nil {
			b.fault()
			b.fault = nil
		}
		return 0, io.ErrUnexpectedEOF
	}
	n, err := b.ReadCloser.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	return n, err
}

// takeable is a response whose connection a fault may take away while the proxy
// is at work on it.
type takeable struct {
	http.ResponseWriter
	mu   sync.Mutex // the proxy flushes from a goroutine of its own
	gone bool
}

func (w *takeable) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	conn, buffered, err := http.NewResponseController(w.ResponseWriter).Hijack()
	w.gone = w.gone || err == nil
	return conn, buffered, err
}

func (w *takeable) WriteHeader(status int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.gone {
		w.ResponseWriter.WriteHeader(status)
	}
}

func (w *takeable) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.gone {
		return 0, http.ErrHijacked
	}
	return w.ResponseWriter.Write(p)
}

func (w *takeable) FlushError() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.gone {
		return http.ErrHijacked
	}
	return http.NewResponseController(w.ResponseWriter).Flush()
}

// Reset closes the connection of a request with a TCP reset, as a load
// balancer does that loses its peer.
func Reset(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close()
}

// Times answers a fault that strikes the first n requests to paths that
// contain part, and lets everything else through.
func Times(n int, part string, fault func(w http.ResponseWriter, r *http.Request)) Fault {
	var mu sync.Mutex
	return func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.Contains(r.URL.Path, part) {
			return false
		}
		mu.Lock()
		defer mu.Unlock()
		if n == 0 {
			return false
		}
		n--
		fault(w, r)
		return true
	}
}
