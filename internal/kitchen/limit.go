package kitchen

import (
	"cmp"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"sync"
)

// limiter bounds what is open at a time: of all clients, and of one.
type limiter struct {
	all, each int
	what      string // "event streams"
	next      string // what a client does that has too many

	mu   sync.Mutex
	open map[string]int
	n    int
}

// take answers how to give back, or whose bound is reached.
func (l *limiter) take(client string) (release func(), err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open[client] >= l.each {
		return nil, fault{http.StatusTooManyRequests, fmt.Sprintf("too many %s: %s has %d, the most for one address", l.what, client, l.each), l.next}
	}
	if l.n >= l.all {
		return nil, fault{http.StatusServiceUnavailable, fmt.Sprintf("too many %s: this server has %d", l.what, l.all), "try again in a minute"}
	}
	if l.open == nil {
		l.open = map[string]int{}
	}
	l.open[client]++
	l.n++
	return sync.OnceFunc(func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.n--
		if l.open[client]--; l.open[client] == 0 {
			delete(l.open, client)
		}
	}), nil
}

func (l *limiter) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.n
}

// connections are those that are open, by address: one client must leave some to the
// others. So many more are there to be told so; further ones are closed.
type connections struct {
	served, told limiter
	open         sync.Map // by remote address: connection
}

type connection struct {
	release func()
	err     error // why it is not served
}

// note is the hook of an http.Server. It is called before a connection is read from.
func (cs *connections) note(c net.Conn, state http.ConnState) {
	at := c.RemoteAddr().String()
	var was any
	switch state {
	case http.StateNew:
		n, err := cs.take(network(at))
		if err != nil {
			_ = c.Close()
			return
		}
		was, _ = cs.open.Swap(at, n) // one that is closed, and this does not know yet
	case http.StateClosed, http.StateHijacked:
		was, _ = cs.open.LoadAndDelete(at)
	}
	if was != nil {
		was.(connection).release()
	}
}

func (cs *connections) take(client string) (connection, error) {
	release, err := cs.served.take(client)
	if err == nil {
		return connection{release, nil}, nil
	}
	release, none := cs.told.take(client)
	return connection{release, err}, none
}

// over is why a request's connection is not served.
func (cs *connections) over(r *http.Request) error {
	if c, ok := cs.open.Load(r.RemoteAddr); ok {
		return c.(connection).err
	}
	return nil
}

// client is whose limits a request counts against: the address, or what the proxy
// that was named says of it.
func (s *Server) client(r *http.Request) string {
	if s.opt.proxy == nil {
		return network(r.RemoteAddr)
	}
	return network(cmp.Or(forwarded(r), r.RemoteAddr))
}

// network is one client's: an address, and of IPv6 what one has whole.
func network(addr string) string {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		host = addr
	}
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return host
	}
	if ip = ip.Unmap(); ip.Is6() {
		if p, err := ip.Prefix(64); err == nil {
			return p.String()
		}
	}
	return ip.String()
}
