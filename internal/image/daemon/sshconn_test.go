package daemon

import (
	"context"
	"errors"
	"net"
	"testing"
)

// Whoever writes into a command that has ended learns what reading tells,
// whichever of the two is first.
func TestSSHConn(t *testing.T) {
	for range 100 {
		near, far := net.Pipe()
		why := errors.New("far: no route")
		dial := sshDial(func(context.Context, string, string) (net.Conn, error) { return talking{near, why}, nil })
		c, err := dial(t.Context(), "", "")
		if err != nil {
			t.Fatal(err)
		}
		read := make(chan error)
		go func() {
			_, err := c.Read(make([]byte, 1))
			read <- err
		}()
		_ = far.Close()
		if _, err := c.Write([]byte("x")); !errors.Is(err, why) {
			t.Fatalf("write: %v", err)
		}
		if err := <-read; !errors.Is(err, why) {
			t.Fatalf("read: %v", err)
		}
	}
}

// talking is a connection whose reader knows why it ended.
type talking struct {
	net.Conn
	why error
}

func (c talking) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if err != nil {
		err = c.why
	}
	return n, err
}
