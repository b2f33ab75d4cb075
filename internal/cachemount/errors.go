package cachemount

import (
	"errors"
	"fmt"

	"github.com/lighter-oci/lighter/internal/image"
)

// What can be wrong with an artifact or a directory. None of it is a reason for
// a build to fail: the mount is as it was, and the error is the line to show.
var (
	// ErrNone: nothing has been pushed there yet.
	ErrNone = errors.New("there are no cache mounts yet")
	// ErrForeign: what is there is something else, or of a later version.
	ErrForeign = errors.New("these are no cache mounts that this lighter reads")
	// ErrSilent: the place is there, and says nothing.
	ErrSilent = errors.New("the registry has not answered")
	// ErrCorrupt: content is not what its digest, or its own structure, says.
	ErrCorrupt = image.ErrCorrupt
	// ErrMissing: a part of the artifact is not there any more.
	ErrMissing = errors.New("a part of the artifact is missing")
	// ErrFull: the file system of the mount has no room.
	ErrFull = errors.New("no space left for the cache mount")
	// ErrDenied: the agent may not do there what it must.
	ErrDenied = errors.New("permission denied in the cache mount")
	// ErrCut: the stream between the two halves ended.
	ErrCut = errors.New("the connection to the cache mount's directory broke")
	// ErrStopped: the other half gave up, for a reason that it says itself.
	ErrStopped = errors.New("given up by the other side")
	// ErrVersion: the two halves are of different versions.
	ErrVersion = errors.New("engine and client speak different versions about cache mounts")
)

// kindNames are how errors cross the stream.
var kindNames = map[string]error{
	"foreign": ErrForeign, "corrupt": ErrCorrupt, "missing": ErrMissing, "full": ErrFull,
	"denied": ErrDenied, "stopped": ErrStopped, "version": ErrVersion,
}

// failure is an error on the wire.
type failure struct {
	Kind    string `json:"kind,omitempty"`
	Message string `json:"message"`
}

func newFailure(err error) failure {
	f := failure{Message: err.Error()}
	for kind, known := range kindNames {
		if errors.Is(err, known) {
			f.Kind = kind
		}
	}
	return f
}

// error is the failure again, with its kind.
func (f failure) error() error {
	if kind, ok := kindNames[f.Kind]; ok {
		return &remoteError{f.Message, kind}
	}
	return errors.New(f.Message)
}

// remoteError reads as the other side's error did.
type remoteError struct {
	message string
	kind    error
}

func (e *remoteError) Error() string { return e.message }
func (e *remoteError) Unwrap() error { return e.kind }

func corrupt(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrCorrupt, fmt.Errorf(format, args...))
}
