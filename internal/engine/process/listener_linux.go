package process

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"sync"
	"time"
)

// listener counts its live connections and says on idled when there was none,
// and no user, for the idle time.
type listener struct {
	net.Listener
	lock  *Lock
	path  string
	idle  time.Duration // negative: for ever
	idled chan struct{} // closed once

	mu      sync.Mutex
	conns   map[*conn]struct{}
	timer   *time.Timer   // nil where idle is negative
	left    bool          // no connection is taken any more
	drained chan struct{} // closed once left and without connections
}

// listen makes the socket and tells clients about it. What lies at the path
// is left over from a killed engine: the lock is ours.
func listen(lock *Lock, idle time.Duration) (*listener, error) {
	path, err := socketPath(lock.State)
	if err != nil {
		return nil, err
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("remove the old socket: %w", err)
	}
	nl, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("listen for clients: %w", err)
	}
	nl.(*net.UnixListener).SetUnlinkOnClose(false) // leave does, in its order
	l := &listener{
		Listener: nl,
		lock:     lock,
		path:     path,
		idle:     idle,
		idled:    make(chan struct{}),
		conns:    map[*conn]struct{}{},
		drained:  make(chan struct{}),
	}
	err = os.Chmod(path, 0o600)
	if err == nil {
		err = lock.update(func(r *record) { r.Socket, r.Serves = path, true })
	}
	if err != nil {
		return nil, errors.Join(err, nl.Close(), os.Remove(path))
	}
	if idle >= 0 {
		l.mu.Lock()
		l.timer = time.AfterFunc(idle, l.expire)
		l.mu.Unlock()
	}
	return l, nil
}

// Accept returns the next connection, counted until it is closed.
func (l *listener) Accept() (net.Conn, error) {
	nc, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c := &conn{Conn: nc, l: l}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.left {
		nc.Close()
		return nil, net.ErrClosed
	}
	l.conns[c] = struct{}{}
	return c, nil
}

// Close stops listening; Serve cleans up behind it.
func (l *listener) Close() error { return l.Listener.Close() }

// expire runs when the idle time is over. The end of a connection that came in
// between starts it anew, and so do users that have none.
func (l *listener) expire() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.left || len(l.conns) > 0 {
		return
	}
	if !l.lock.claimUsers() {
		l.timer.Reset(l.idle)
		return
	}
	l.leaveLocked()
	close(l.idled)
}

// leaveLocked takes no more connections from here on.
func (l *listener) leaveLocked() {
	if l.left {
		return
	}
	l.left = true
	if len(l.conns) == 0 {
		close(l.drained)
	}
}

// leave takes the socket away and stops listening, in this order, so that
// clients find no socket rather than a dead one. The second call does nothing.
func (l *listener) leave() error {
	l.mu.Lock()
	if l.timer != nil {
		l.timer.Stop()
	}
	l.leaveLocked()
	gone := l.path == ""
	path := l.path
	l.path = ""
	l.mu.Unlock()
	if gone {
		return nil
	}
	err := l.lock.update(func(r *record) { r.Stopping = true })
	if e := os.Remove(path); !errors.Is(e, fs.ErrNotExist) {
		err = errors.Join(err, e)
	}
	if e := l.Listener.Close(); !errors.Is(e, net.ErrClosed) {
		err = errors.Join(err, e)
	}
	return err
}

// closeConns ends every connection that is still open.
func (l *listener) closeConns() {
	l.mu.Lock()
	open := make([]*conn, 0, len(l.conns))
	for c := range l.conns {
		open = append(open, c)
	}
	l.mu.Unlock()
	for _, c := range open {
		c.Close()
	}
}

// conn is a counted connection.
type conn struct {
	net.Conn
	l    *listener
	once sync.Once
}

// Close closes the connection and starts the idle time where it was the last.
func (c *conn) Close() error {
	err := c.Conn.Close()
	c.once.Do(func() {
		l := c.l
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.conns, c)
		switch {
		case len(l.conns) > 0:
		case l.left:
			close(l.drained)
		case l.timer != nil:
			l.timer.Reset(l.idle)
		}
	})
	return err
}
