// Package process owns the life of the engine as a process: one state
// directory has at most one owner (Acquire), a command finds or starts the
// engine that serves it (Connect), the engine listens and leaves when nobody
// uses it (Serve), and an ordinary user gets the namespace an engine needs
// (Enter, ReexecInUserNamespace).
//
// It never knows what is served on the socket, and never prints.
//
// Everything hangs on locks of one file, STATE/engine.lock, which is never
// unlinked. The kernel drops a dead process's locks, so that no kill leaves
// anything to clean up. They are open file description locks (fcntl(2),
// F_OFD_SETLK) on three of its bytes:
//
//   - the owner's: exclusive, held by the one process that touches the state;
//   - the users': shared, held by every command between Connect and
//     Lease.Close; an engine that wants to leave for idleness takes it
//     exclusively first, so that it cannot leave under somebody who has just
//     arrived;
//   - the starter's: exclusive, held by the one command that starts an engine.
//
// What the file says (owner's pid, socket, version; JSON) is for messages and
// for finding the socket, and counts only while the owner's byte is locked.
package process

import (
	"errors"
	"fmt"
	"time"
)

const (
	// StateEnv names the state directory where no flag does.
	StateEnv = "LIGHTER_STATE"
	// IdleEnv is how long an engine stays without work: a Go duration, "0" or
	// less for ever.
	IdleEnv = "LIGHTER_ENGINE_IDLE"

	// DefaultIdle is how long an engine stays when nothing says otherwise.
	DefaultIdle = 10 * time.Minute
	// DefaultWait is how long Connect waits for an engine to answer.
	DefaultWait = 30 * time.Second
	// DefaultGrace is how long an engine lets open connections finish once it
	// was asked to stop.
	DefaultGrace = 10 * time.Second

	// ExitLocked is the exit code of an engine that found its state owned by
	// another process (sysexits' EX_TEMPFAIL). Connect takes it for "somebody
	// else was faster", not for a failure.
	ExitLocked = 75
)

// LockOptions say who takes the state. The zero value is a command that keeps
// the engine in its own process and listens nowhere.
type LockOptions struct {
	Serve   bool   // Serve will be called: commands wait for the socket rather than give up
	Version string // of the owner, for Status and for Options.Version
}

// Options say which engine Connect wants. State and Args are required.
type Options struct {
	State   string        // as StateDir returned it
	Args    []string      // arguments that make this executable the engine of State
	Env     []string      // "KEY=value", on top of this process's own
	Version string        // an unused engine of another version is replaced; "" takes any
	Wait    time.Duration // until the engine answers; 0 is DefaultWait
}

// Lease is the use of a running engine: it does not leave for idleness before
// Close, or before the process that holds the lease is gone.
type Lease struct {
	Addr    string // "unix:///path/engine.sock"
	Info    Info   // of the engine
	Started bool   // by this call
	release func() error
}

// Close gives the engine back. The second call does nothing.
func (l *Lease) Close() error {
	if l == nil || l.release == nil {
		return nil
	}
	release := l.release
	l.release = nil
	return release()
}

// ServeOptions say how long an engine stays. The zero value is the default.
type ServeOptions struct {
	Idle  time.Duration // 0 is $LIGHTER_ENGINE_IDLE or else DefaultIdle; negative is for ever
	Grace time.Duration // open connections may finish this long after a stop; 0 is DefaultGrace
}

// StopOptions say how patient Stop is. The zero value waits.
type StopOptions struct {
	Timeout time.Duration // until the state is free; 0 is 30 s
	Force   bool          // kill what is not gone after Timeout
}

// Info is what is known about the owner of a state directory.
type Info struct {
	State    string    `json:"state"`
	Running  bool      `json:"running"`          // somebody holds the lock; all below is empty otherwise
	PID      int       `json:"pid,omitempty"`    // in the namespace it was started in
	Serves   bool      `json:"serves,omitempty"` // an engine; false is a command with --engine=inprocess
	Started  time.Time `json:"started,omitzero"`
	Version  string    `json:"version,omitempty"`
	Socket   string    `json:"socket,omitempty"`   // path; "" until the engine listens
	Stopping bool      `json:"stopping,omitempty"` // it takes no new work and is about to leave
	RSS      int64     `json:"rss,omitempty"`      // bytes; 0 where it cannot be read
	Log      string    `json:"log,omitempty"`      // path of the engine's log, where there is one
}

// LockedError says that another process owns the state directory.
type LockedError struct {
	Info Info
}

func (e *LockedError) Error() string {
	switch {
	case e.Info.PID == 0:
		return fmt.Sprintf("another process uses %s", e.Info.State)
	case e.Info.Serves:
		return fmt.Sprintf("the engine with pid %d uses %s", e.Info.PID, e.Info.State)
	}
	return fmt.Sprintf("a command with --engine=inprocess, pid %d, uses %s", e.Info.PID, e.Info.State)
}

// Hint is the user's next step.
func (e *LockedError) Hint() string {
	if e.Info.PID != 0 && !e.Info.Serves {
		return fmt.Sprintf("wait for pid %d to end, or give this command another directory with --state", e.Info.PID)
	}
	return "drop --engine=inprocess to share it, or run `lighter engine stop`"
}

// StartError says that an engine could not be started or did not answer.
type StartError struct {
	Reason string // one line
	Log    string // path of the engine's log
}

func (e *StartError) Error() string { return "start the engine: " + e.Reason }

// Hint is the user's next step.
func (e *StartError) Hint() string { return "the engine's log is " + e.Log }

// StateError says that a directory cannot be used for state.
type StateError struct {
	Dir    string
	Reason string
	Fix    string
}

func (e *StateError) Error() string { return fmt.Sprintf("state directory %s: %s", e.Dir, e.Reason) }

// Hint is the user's next step.
func (e *StateError) Hint() string { return e.Fix }

// ProblemKind tells problems of the host apart.
type ProblemKind string

// What can keep an engine from running on a host.
const (
	NoUidmap       ProblemKind = "no-uidmap"       // newuidmap or newgidmap missing or not setuid
	NoSubordinate  ProblemKind = "no-subordinate"  // no line for the user in /etc/subuid or /etc/subgid
	NoAccount      ProblemKind = "no-account"      // the uid has no name, and newuidmap wants one
	UsernsDisabled ProblemKind = "userns-disabled" // by sysctl or by the container we are in
	UsernsLimit    ProblemKind = "userns-limit"    // user.max_user_namespaces or max_mnt_namespaces reached
	AppArmor       ProblemKind = "apparmor"        // Ubuntu 23.10 and later
	NoCapability   ProblemKind = "no-capability"   // root in a container without CAP_SYS_ADMIN
	MappingRefused ProblemKind = "mapping-refused" // newuidmap or newgidmap said no
	NoNewPrivs     ProblemKind = "no-new-privs"    // setuid programs do not work here
)

// Problem is something about the host that keeps an engine from running.
type Problem struct {
	Kind ProblemKind
	Text string // one line
	Fix  string // what to do; several lines where a file has to be written
}

func (p *Problem) Error() string { return p.Text }

// Hint is the user's next step.
func (p *Problem) Hint() string { return p.Fix }

// UnsupportedError says that this operating system runs no engine.
type UnsupportedError struct{}

func (UnsupportedError) Error() string { return "the embedded engine runs on Linux" }

// Hint is the user's next step.
func (UnsupportedError) Hint() string { return "use --engine=ADDRESS of a BuildKit" }

// ErrNotVerified is returned by Stop for an owner whose pid is not visible
// here, as with a state directory shared between containers.
var ErrNotVerified = errors.New("the owner of the state directory runs in another container or PID namespace; stop it there")
