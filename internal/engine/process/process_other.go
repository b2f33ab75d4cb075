//go:build !linux

package process

import (
	"context"
	"net"
)

// Lock is the ownership of a state directory.
type Lock struct{}

// Release does nothing here.
func (*Lock) Release() error { return nil }

// Enter does nothing here.
func Enter() {}

// InUserNamespace is always false here.
func InUserNamespace() bool { return false }

// NeedsUserNamespace is always false here.
func NeedsUserNamespace() bool { return false }

// StateDir returns an UnsupportedError.
func StateDir(string) (string, error) { return "", UnsupportedError{} }

// Acquire returns an UnsupportedError.
func Acquire(string, LockOptions) (*Lock, error) { return nil, UnsupportedError{} }

// Connect returns an UnsupportedError.
func Connect(context.Context, Options) (*Lease, error) { return nil, UnsupportedError{} }

// Serve returns an UnsupportedError.
func Serve(context.Context, *Lock, ServeOptions, func(context.Context, net.Listener) error) error {
	return UnsupportedError{}
}

// Status returns an UnsupportedError.
func Status(string) (Info, error) { return Info{}, UnsupportedError{} }

// Stop returns an UnsupportedError.
func Stop(context.Context, string, StopOptions) (Info, error) { return Info{}, UnsupportedError{} }

// ReexecInUserNamespace returns an UnsupportedError.
func ReexecInUserNamespace([]string) (int, error) { return 1, UnsupportedError{} }

// Check finds nothing here.
func Check() []*Problem { return nil }
