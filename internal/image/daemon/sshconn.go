package daemon

import (
	"context"
	"net"
	"sync"
	"time"
)

// sshDial dials through a command, of which an error of reading tells what it
// printed before it ended, and one of writing only that the pipe is closed.
func sshDial(dial func(ctx context.Context, network, addr string) (net.Conn, error)) func(ctx context.Context, network, addr string) (net.Conn, error) {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := dial(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		return &sshConn{Conn: c, ended: make(chan struct{})}, nil
	}
}

type sshConn struct {
	net.Conn
	once  sync.Once
	ended chan struct{} // closed when why is there
	why   error
}

func (c *sshConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if err != nil {
		c.once.Do(func() {
			c.why = err
			close(c.ended)
		})
	}
	return n, err
}

// Write fails as reading does, which HTTP is doing at the same time.
func (c *sshConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	if err == nil {
		return n, nil
	}
	select {
	case <-c.ended:
		return n, c.why
	case <-time.After(10 * time.Second): // nobody reads
		return n, err
	}
}
