package process

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Connect returns the use of the engine of opts.State, and starts one where
// none answers: this executable with opts.Args, detached, in a user namespace
// where this process is not root. Commands that race start one engine
// together; one that is about to leave is waited for and followed by a new one.
//
// The engine must call Enter first in main, then Acquire with Serve set, exit
// with ExitLocked where that is a *LockedError, and call Serve.
//
// Errors: *LockedError where a command with an engine in its own process owns
// the state, *Problem where the host refuses an engine, *StartError where one
// died early or does not answer in time, and ctx's own.
func Connect(ctx context.Context, opts Options) (*Lease, error) {
	if opts.Wait == 0 {
		opts.Wait = DefaultWait
	}
	if err := checkStateDir(opts.State); err != nil {
		return nil, err
	}
	c := &connector{opts: opts}
	var err error
	if c.file, err = openLock(opts.State, os.O_CREATE); err != nil {
		return nil, err
	}
	lease, err := c.run(ctx)
	if err != nil {
		c.file.Close()
		return nil, err
	}
	return lease, nil
}

// connector is one call of Connect.
type connector struct {
	opts  Options
	file  *os.File // engine.lock; closing it drops usersByte and starterByte
	child *child   // started by us, and not known to be gone
	user  bool     // we hold usersByte
	asked record   // of the engine of another version that we asked to leave
}

// run looks at the state again and again until there is a lease. All that is
// waited for are other processes, which send no word.
func (c *connector) run(ctx context.Context) (*Lease, error) {
	timed, cancel := context.WithTimeout(ctx, c.opts.Wait)
	defer cancel()
	for p := (pause{}); ; {
		lease, err := c.attempt(timed)
		if err != nil {
			return nil, err
		}
		if lease != nil {
			_, err := tryLock(c.file, starterByte, unix.F_UNLCK)
			return lease, err
		}
		if p.sleep(timed) == nil {
			continue
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return nil, c.timedOut()
	}
}

// attempt looks at the state once and does what is next. No lease and no error
// mean that somebody else has to do something first.
func (c *connector) attempt(ctx context.Context) (*Lease, error) {
	if !c.user {
		// Refused while an engine leaves for idleness.
		ok, err := tryLock(c.file, usersByte, unix.F_RDLCK)
		if err != nil {
			return nil, fmt.Errorf("lock %s: %w", c.file.Name(), err)
		}
		if c.user = ok; !ok {
			return nil, nil
		}
	}
	held, err := locked(c.file, ownerByte)
	if err != nil {
		return nil, err
	}
	if held {
		return c.use(ctx)
	}
	return nil, c.start()
}

// use tries the owner of the state.
func (c *connector) use(ctx context.Context) (*Lease, error) {
	r, ok := readRecord(c.file)
	if !ok || (!r.Serves && !r.alive()) {
		return nil, nil // not written yet: what can be read is a predecessor's
	}
	if !r.Serves {
		return nil, &LockedError{Info: r.info(c.opts.State)}
	}
	if r.Socket == "" || r.Stopping || c.replace(r) {
		return nil, nil
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", r.Socket)
	if err != nil {
		return nil, nil //nolint:nilerr // a predecessor's socket, or one that is just going
	}
	conn.Close()
	// The kernel takes connections for a killed engine until it has closed
	// its socket, which it does at about the time when it drops its lock.
	if r.dying() {
		return nil, nil
	}
	if held, err := locked(c.file, ownerByte); err != nil || !held || !r.still(c.file) {
		return nil, err
	}
	return &Lease{
		Addr:    "unix://" + r.Socket,
		Info:    r.info(c.opts.State),
		Started: c.child != nil,
		release: c.file.Close,
	}, nil
}

// replace asks an engine of another version to leave, one only, and only if
// nobody but us uses it. It reports whether that engine is on its way out.
func (c *connector) replace(r record) bool {
	if c.asked.PID != 0 {
		return r.PID == c.asked.PID && r.Ticks == c.asked.Ticks
	}
	if c.opts.Version == "" || r.Version == c.opts.Version {
		return false
	}
	// Converting our shared lock succeeds only if it is the only one.
	if ok, err := tryLock(c.file, usersByte, unix.F_WRLCK); err != nil || !ok {
		return false
	}
	sent, err := r.signal(unix.SIGTERM)
	if sent = sent && err == nil; sent {
		c.asked = r
	}
	if _, err := tryLock(c.file, usersByte, unix.F_RDLCK); err != nil {
		c.user = false
	}
	return sent
}

// start starts an engine, unless ours or somebody else's is on its way.
func (c *connector) start() error {
	if c.child != nil {
		select {
		case <-c.child.done:
		default:
			return nil
		}
		gone := c.child
		c.child = nil
		// 0: stopped by somebody before we got to it.
		if code := gone.exitCode(); code != ExitLocked && code != 0 {
			return gone.failure()
		}
	}
	ok, err := tryLock(c.file, starterByte, unix.F_WRLCK)
	if err != nil {
		return fmt.Errorf("lock %s: %w", c.file.Name(), err)
	}
	if !ok {
		return nil
	}
	// Another starter may have finished between our two looks.
	if held, err := locked(c.file, ownerByte); err != nil || held {
		return err
	}
	c.child, err = startChild(c.opts)
	return err
}

// timedOut says what was waited for in vain.
func (c *connector) timedOut() error {
	e := &StartError{Log: filepath.Join(c.opts.State, logName)}
	info, err := Status(c.opts.State)
	switch {
	case err != nil:
		return err
	case info.Running && info.Stopping:
		e.Reason = fmt.Sprintf("the one with pid %d is stopping, but still busy after %s", info.PID, c.opts.Wait)
	case info.Running && info.PID != 0 && !info.Serves:
		return &LockedError{Info: info}
	case info.Running:
		e.Reason = fmt.Sprintf("the one with pid %d does not answer within %s", info.PID, c.opts.Wait)
	default:
		e.Reason = fmt.Sprintf("it is not ready after %s", c.opts.Wait)
	}
	if c.child != nil {
		if tail := c.child.lastLines(); tail != "" {
			e.Reason += ": " + tail
		}
	}
	return e
}
