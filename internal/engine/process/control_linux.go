package process

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Status returns who owns state, without disturbing it. Nobody is not an
// error: Info.Running is false then.
func Status(state string) (Info, error) {
	f, err := openLock(state, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return Info{State: state}, nil
	}
	if err != nil {
		return Info{State: state}, err
	}
	defer f.Close()
	// The owner may be writing its record, so look a few times.
	for try := 0; ; try++ {
		held, err := locked(f, ownerByte)
		if err != nil || !held {
			return Info{State: state}, err
		}
		if r, ok := readRecord(f); ok {
			return r.info(state), nil
		}
		if try == 20 {
			return Info{State: state, Running: true}, nil
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// Stop asks the engine of state to finish and waits until it has let go of it.
// It returns what it stopped; Info.Running is false where there was nothing.
// Errors: *LockedError where a command with an engine in its own process owns
// the state (that is not for us to stop), ErrNotVerified, or that the engine
// was still there after the timeout.
func Stop(ctx context.Context, state string, opts StopOptions) (Info, error) {
	if opts.Timeout == 0 {
		opts.Timeout = 30 * time.Second
	}
	info, err := Status(state)
	if err != nil || !info.Running {
		return info, err
	}
	if info.PID != 0 && !info.Serves {
		return info, &LockedError{Info: info}
	}
	f, err := openLock(state, 0)
	if err != nil {
		return info, err
	}
	defer f.Close()
	owner, err := signalOwner(f, unix.SIGTERM)
	if err != nil {
		return info, fmt.Errorf("stop the engine of %s: %w", state, err)
	}
	if err := waitGone(ctx, f, owner, opts.Timeout); err == nil || ctx.Err() != nil {
		return info, err
	}
	if !opts.Force {
		return info, fmt.Errorf("the engine with pid %d is still busy %s after it was asked to stop; --force kills it", owner.PID, opts.Timeout)
	}
	if _, err := owner.signal(unix.SIGKILL); err != nil {
		return info, fmt.Errorf("kill the engine of %s: %w", state, err)
	}
	return info, waitGone(ctx, f, owner, 10*time.Second)
}

// signalOwner signals the process that owns the state and returns its record.
// A state that is free by now is success.
func signalOwner(f *os.File, sig unix.Signal) (record, error) {
	// A new owner may not have written its record yet: look a few times.
	for try := 0; ; try++ {
		held, err := locked(f, ownerByte)
		if err != nil || !held {
			return record{}, err
		}
		if r, ok := readRecord(f); ok {
			if sent, err := r.signal(sig); sent || err != nil {
				return r, err
			}
		}
		if try == 20 {
			return record{}, ErrNotVerified
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// signal signals the process that wrote the record, if it is still there.
// os.FindProcess holds a pidfd, so that after the check the signal cannot
// reach another process that got the number meanwhile.
func (r record) signal(sig unix.Signal) (sent bool, err error) {
	p, err := os.FindProcess(r.PID)
	if err != nil {
		return false, err
	}
	defer p.Release()
	if !r.alive() {
		return false, nil
	}
	if err := p.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return false, fmt.Errorf("signal pid %d: %w", r.PID, err)
	}
	return true, nil
}

// waitGone waits until that owner owns the state no more. Another one may by
// then: commands start engines whenever they need one.
func waitGone(ctx context.Context, f *os.File, owner record, timeout time.Duration) error {
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, fmt.Errorf("pid %d is not gone after %s", owner.PID, timeout))
	defer cancel()
	for p := (pause{}); ; {
		held, err := locked(f, ownerByte)
		if err != nil || !held {
			return err
		}
		if now, ok := readRecord(f); ok && (now.PID != owner.PID || now.Ticks != owner.Ticks) {
			return nil
		}
		if err := p.sleep(ctx); err != nil {
			return err
		}
	}
}

// pause is the waiting between two looks at something that sends no word: a
// lock or a socket of another process. It grows from 1 ms to 50 ms.
type pause struct{ d time.Duration }

func (p *pause) sleep(ctx context.Context) error {
	p.d = min(max(2*p.d, time.Millisecond), 50*time.Millisecond)
	t := time.NewTimer(p.d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
