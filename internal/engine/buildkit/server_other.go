//go:build !linux

package buildkit

import (
	"context"
	"errors"
	"net"
)

// Server is the embedded engine, which only Linux can run.
type Server struct{}

// NewServer says so.
func NewServer(Config) (*Server, error) {
	return nil, &hintError{err: errors.New("the embedded engine runs on Linux"), hint: "use --engine=ADDRESS of a BuildKit"}
}

// Serve is never reached.
func (*Server) Serve(net.Listener) error { return nil }

// Stop is never reached.
func (*Server) Stop(context.Context) error { return nil }

// UseTempDir does nothing: there is no engine that could leave something.
func UseTempDir(string) error { return nil }
