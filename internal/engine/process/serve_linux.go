package process

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"time"

	"golang.org/x/sys/unix"
)

// Reasons why an engine leaves; context.Cause in serve returns one of them.
var (
	ErrIdle    = errors.New("nobody used the engine")
	ErrStopped = errors.New("the engine was asked to stop")
)

// forceWait is how long serve may take to return once its connections were
// closed under it.
const forceWait = 5 * time.Second

// Serve listens for state's clients and calls serve with the listener. It
// returns when serve has returned, for a reason of its own or because the
// context given to it was cancelled:
//
//   - no connection was open and no command held a Lease for Idle,
//   - SIGTERM, SIGINT, or ctx was done.
//
// By then the socket is gone and Accept fails with net.ErrClosed, while open
// connections go on: serve should finish what they ask (as gRPC's GracefulStop
// does) and return. Serve returns once they are closed too; after Grace, or at
// a second signal, it closes them itself.
//
// The error is serve's own; nil where serve failed only because it was
// leaving. The lock must have been taken with LockOptions.Serve, and is still
// held when Serve returns: close what touches the state, then Release it.
func Serve(ctx context.Context, lock *Lock, opts ServeOptions, serve func(context.Context, net.Listener) error) error {
	idle, err := opts.idle()
	if err != nil {
		return err
	}
	grace := opts.Grace
	if grace == 0 {
		grace = DefaultGrace
	}
	sigs := make(chan os.Signal, 2)
	signal.Notify(sigs, unix.SIGTERM, unix.SIGINT)
	defer signal.Stop(sigs)

	l, err := listen(lock, idle)
	if err != nil {
		return err
	}

	inner, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cancel(nil)
	done := make(chan error, 1)
	go func() { done <- serve(inner, l) }()

	var why error
	select {
	case err := <-done:
		_ = l.leave()
		l.closeConns()
		return err
	case <-ctx.Done():
		why = context.Cause(ctx)
	case <-sigs:
		why = ErrStopped
	case <-l.idled:
		why = ErrIdle
	}
	if err := l.leave(); err != nil {
		why = errors.Join(why, err)
	}
	cancel(why)
	return finish(l, done, sigs, grace)
}

// finish waits for serve and for the connections: politely, then closing them.
func finish(l *listener, done <-chan error, sigs <-chan os.Signal, grace time.Duration) error {
	t := time.NewTimer(grace)
	defer t.Stop()
	var result error
	drained, expired := l.drained, t.C
	for forced := false; done != nil || drained != nil; {
		select {
		case err := <-done:
			result, done = leaving(err), nil
			continue
		case <-drained:
			drained = nil
			continue
		case <-sigs:
		case <-expired:
		}
		if forced {
			return fmt.Errorf("the engine did not finish %s after its connections were closed", forceWait)
		}
		forced = true
		l.closeConns()
		t.Reset(forceWait)
	}
	return result
}

// leaving drops the errors that a closed listener or a cancelled context make.
func leaving(err error) error {
	if errors.Is(err, net.ErrClosed) || errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// idle returns the idle time; negative is for ever.
func (o ServeOptions) idle() (time.Duration, error) {
	if o.Idle != 0 {
		return o.Idle, nil
	}
	s := os.Getenv(IdleEnv)
	if s == "" {
		return DefaultIdle, nil
	}
	d, err := time.ParseDuration(s)
	if err != nil {
		return 0, fmt.Errorf("%s=%q: want a duration like 10m, or 0 for ever", IdleEnv, s)
	}
	if d <= 0 {
		return -1, nil
	}
	return d, nil
}
