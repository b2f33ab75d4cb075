package process

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// An open connection keeps an engine, a lease does, and nothing else.
func TestIdle(t *testing.T) {
	state := newState(t)
	lease, err := Connect(context.Background(), engineOptions(state, "-idle", "30ms"))
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(150 * time.Millisecond)
	c, err := net.Dial("unix", lease.Info.Socket)
	if err != nil {
		t.Fatalf("left under a lease: %v", err)
	}
	lease.Close()
	time.Sleep(150 * time.Millisecond)
	if info, err := Status(state); err != nil || !info.Running || info.Stopping {
		t.Errorf("leaves under a connection: %+v, %v", info, err)
	}
	if err := askOn(c, "anybody there"); err != nil {
		t.Errorf("left under a connection: %v", err)
	}
	c.Close()
	eventually(t, "the idle engine leaves", func() bool { return !running(t, state) })
	if _, err := os.Lstat(lease.Info.Socket); !os.IsNotExist(err) {
		t.Errorf("socket left behind: %v", err)
	}
	if b, err := os.ReadFile(filepath.Join(state, lockName)); err != nil || len(b) != 0 {
		t.Errorf("lock file holds %q, %v; want it there and empty", b, err)
	}
}

func TestIdleTimeFromEnvironment(t *testing.T) {
	for in, want := range map[string]time.Duration{"": DefaultIdle, "90s": 90 * time.Second, "0": -1, "-1s": -1} {
		t.Setenv(IdleEnv, in)
		if got, err := (ServeOptions{}).idle(); err != nil || got != want {
			t.Errorf("%s=%q: %v, %v; want %v", IdleEnv, in, got, err, want)
		}
	}
	t.Setenv(IdleEnv, "ten minutes")
	if _, err := (ServeOptions{}).idle(); err == nil || !strings.Contains(err.Error(), IdleEnv) {
		t.Errorf("error %v", err)
	}
	if got, _ := (ServeOptions{Idle: time.Second}).idle(); got != time.Second {
		t.Errorf("the option gives %v", got)
	}
}

// Stop lets work in progress finish and takes no new.
func TestStopIsGraceful(t *testing.T) {
	state := newState(t)
	lease, err := Connect(context.Background(), engineOptions(state))
	if err != nil {
		t.Fatal(err)
	}
	defer lease.Close()
	c, err := net.Dial("unix", lease.Info.Socket)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := askOn(c, "ready"); err != nil {
		t.Fatal(err)
	}
	answered := make(chan error, 1)
	go func() {
		answered <- askOn(c, "sleep 300ms")
		c.Close()
	}()
	stopped := make(chan error, 1)
	go func() {
		_, err := Stop(context.Background(), state, StopOptions{})
		stopped <- err
	}()
	eventually(t, "socket gone", func() bool { _, err := os.Lstat(lease.Info.Socket); return os.IsNotExist(err) })
	if info, err := Status(state); err != nil || !info.Running || !info.Stopping {
		t.Errorf("status %+v, %v; want running and stopping", info, err)
	}
	select {
	case err := <-stopped:
		t.Errorf("Stop did not wait for the work: %v", err)
	case err := <-answered:
		if err != nil {
			t.Errorf("work in progress: %v", err)
		}
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
	if running(t, state) {
		t.Error("still running")
	}
}

// Work that goes on for too long is cut off.
func TestStopCutsOff(t *testing.T) {
	state := newState(t)
	lease, err := Connect(context.Background(), engineOptions(state, "-grace", "100ms"))
	if err != nil {
		t.Fatal(err)
	}
	defer lease.Close()
	c, err := net.Dial("unix", lease.Info.Socket)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := askOn(c, "ready"); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	if _, err := Stop(context.Background(), state, StopOptions{}); err != nil {
		t.Fatal(err)
	}
	if d := time.Since(start); d < 100*time.Millisecond || d > 4*time.Second {
		t.Errorf("took %s, want a little over 100ms", d)
	}
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, io.EOF) && !errors.Is(err, unix.ECONNRESET) {
		t.Errorf("connection: %v, want it closed", err)
	}
}

func TestStopForce(t *testing.T) {
	state := newState(t)
	lease, err := Connect(context.Background(), engineOptions(state))
	if err != nil {
		t.Fatal(err)
	}
	defer lease.Close()
	unix.Kill(lease.Info.PID, unix.SIGSTOP) // as good as hung
	_, err = Stop(context.Background(), state, StopOptions{Timeout: 100 * time.Millisecond})
	if err == nil || !strings.Contains(err.Error(), "--force") {
		t.Fatalf("error %v, want that --force is next", err)
	}
	start := time.Now()
	info, err := Stop(context.Background(), state, StopOptions{Timeout: 100 * time.Millisecond, Force: true})
	if d := time.Since(start); d > 3*time.Second {
		t.Errorf("took %s", d)
	}
	if err != nil || info.PID != lease.Info.PID {
		t.Errorf("%+v, %v", info, err)
	}
	if running(t, state) {
		t.Error("still running")
	}
}

// A server that does not come back does not keep the process for ever.
func TestStopStubbornServer(t *testing.T) {
	state := newState(t)
	lease, err := Connect(context.Background(), engineOptions(state, "-stubborn"))
	if err != nil {
		t.Fatal(err)
	}
	defer lease.Close()
	for range 3 { // stop, cut off, enough
		unix.Kill(lease.Info.PID, unix.SIGTERM)
		time.Sleep(20 * time.Millisecond)
	}
	eventually(t, "gone", func() bool { return !running(t, state) })
}

// Stop is about the engine that it found, not about the next one, which may
// be there before Stop has noticed that the first is gone.
func TestStopWithSuccessor(t *testing.T) {
	state := newState(t)
	if err := use(engineOptions(state)); err != nil {
		t.Fatal(err)
	}
	next := make(chan *Lock)
	go func() {
		for {
			if lock, err := Acquire(state, LockOptions{Serve: true}); err == nil {
				next <- lock
				return
			}
		}
	}()
	if _, err := Stop(context.Background(), state, StopOptions{Timeout: 5 * time.Second, Force: true}); err != nil {
		t.Error(err)
	}
	(<-next).Release()
}

func TestStopNothing(t *testing.T) {
	state := newState(t)
	if info, err := Stop(context.Background(), state, StopOptions{}); err != nil || info.Running {
		t.Errorf("%+v, %v", info, err)
	}
	// A record without a lock: of a killed engine whose pid is ours by now.
	note(state, lockName, fmt.Sprintf(`{"pid":%d,"ticks":%d,"serves":true}`, os.Getpid(), statOf(os.Getpid()).ticks))
	if info, err := Stop(context.Background(), state, StopOptions{}); err != nil || info.Running {
		t.Errorf("%+v, %v", info, err)
	}
}

// An owner whose pid means nothing here, or another process, is left alone.
func TestStopVerifies(t *testing.T) {
	state := newState(t)
	lock, err := Acquire(state, LockOptions{Serve: true})
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Release()
	for _, r := range []record{
		{PID: os.Getpid(), Ticks: statOf(os.Getpid()).ticks + 1, Serves: true}, // a later process of that number
		{PID: 1 << 30, Ticks: 1, Serves: true},                                 // none
		{PID: os.Getpid(), Serves: true},                                       // unknown
	} {
		lock.update(func(have *record) { *have = r })
		if _, err := Stop(context.Background(), state, StopOptions{Timeout: time.Second}); !errors.Is(err, ErrNotVerified) {
			t.Errorf("%+v: error %v, want %v", r, err, ErrNotVerified)
		}
	}
}

func TestAcquire(t *testing.T) {
	state := newState(t)
	lock, err := Acquire(state, LockOptions{Version: "v1"})
	if err != nil {
		t.Fatal(err)
	}
	_, err = Acquire(state, LockOptions{Serve: true})
	var le *LockedError
	if !errors.As(err, &le) || le.Info.PID != os.Getpid() || le.Info.Version != "v1" || le.Info.State != state {
		t.Fatalf("error %v (%+v)", err, le)
	}
	if want := fmt.Sprintf("a command with --engine=inprocess, pid %d, uses %s", os.Getpid(), state); err.Error() != want {
		t.Errorf("error %q, want %q", err, want)
	}
	info, err := Status(state)
	if err != nil || info.RSS < 1<<20 || time.Since(info.Started) > time.Minute {
		t.Errorf("status %+v, %v", info, err)
	}
	if err := lock.Release(); err != nil {
		t.Error(err)
	}
	if err := lock.Release(); err != nil {
		t.Errorf("second release: %v", err)
	}
	again, err := Acquire(state, LockOptions{})
	if err != nil {
		t.Fatal(err)
	}
	again.Release()
}

func TestServeReturnsWithServe(t *testing.T) {
	state := newState(t)
	lock, err := Acquire(state, LockOptions{Serve: true})
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Release()
	broken := errors.New("broken")
	err = Serve(context.Background(), lock, ServeOptions{}, func(_ context.Context, l net.Listener) error { return broken })
	if !errors.Is(err, broken) {
		t.Errorf("error %v, want %v", err, broken)
	}
	var cause error
	ctx, cancel := context.WithCancel(context.Background())
	err = Serve(ctx, lock, ServeOptions{Idle: time.Millisecond}, func(ctx context.Context, l net.Listener) error {
		<-ctx.Done()
		cause = context.Cause(ctx)
		users, err := openLock(state, 0)
		if err != nil {
			return err
		}
		defer users.Close()
		if ok, err := tryLock(users, usersByte, unix.F_RDLCK); ok || err != nil {
			t.Errorf("the idle engine lets users in while it leaves: %v, %v", ok, err)
		}
		return ctx.Err()
	})
	if err != nil || !errors.Is(cause, ErrIdle) {
		t.Errorf("error %v, cause %v; want none, %v", err, cause, ErrIdle)
	}
	cancel()
}
