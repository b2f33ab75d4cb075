package process

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// While an engine decides to leave, it may still take connections: nobody gets
// to use it then.
func TestConnectWaitsForLeavingEngine(t *testing.T) {
	state := newState(t)
	if err := use(engineOptions(state)); err != nil {
		t.Fatal(err)
	}
	f, err := openLock(state, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	eventually(t, "nobody uses it", func() bool { ok, err := tryLock(f, usersByte, unix.F_WRLCK); return ok && err == nil })
	opts := engineOptions(state)
	opts.Wait = 100 * time.Millisecond
	if err := use(opts); err == nil {
		t.Error("used an engine that is about to leave")
	}
	opts.Wait = 0
	used := make(chan error)
	go func() { used <- use(opts) }()
	time.Sleep(50 * time.Millisecond)
	tryLock(f, usersByte, unix.F_UNLCK)
	if err := <-used; err != nil {
		t.Error(err)
	}
}

// A command with an engine of its own is nothing to wait for.
func TestConnectWhileOwned(t *testing.T) {
	state := newState(t)
	owner, stop := startOwner(t, state)
	start := time.Now()
	_, err := Connect(context.Background(), engineOptions(state))
	var le *LockedError
	if !errors.As(err, &le) || le.Info.PID != owner || le.Info.Serves {
		t.Errorf("error %v (%+v), want a LockedError for pid %d", err, le, owner)
	}
	if d := time.Since(start); d > 2*time.Second {
		t.Errorf("took %s", d)
	}
	if _, err := Stop(context.Background(), state, StopOptions{Force: true}); !errors.As(err, &le) {
		t.Errorf("Stop: error %v, want a LockedError: it is not ours to stop", err)
	}
	stop()
	if err := use(engineOptions(state)); err != nil {
		t.Errorf("once it is gone: %v", err)
	}
}

// Between taking the lock and writing its record, a new owner seems to be its
// predecessor. That one may have been nothing to wait for.
func TestConnectDuringTakeover(t *testing.T) {
	state := newState(t)
	owner, _ := startOwner(t, state)
	kill(t, owner)
	f, err := openLock(state, 0)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "lock of the killed owner", func() bool { ok, err := tryLock(f, ownerByte, unix.F_WRLCK); return ok && err == nil })
	used := make(chan error)
	go func() { used <- use(engineOptions(state)) }()
	time.Sleep(50 * time.Millisecond)
	f.Close()
	if err := <-used; err != nil {
		t.Error(err)
	}
}

// startOwner runs ownerRole and returns its pid.
func startOwner(t *testing.T, state string) (pid int, stop func()) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "role-owner", state)
	in, _ := cmd.StdinPipe()
	out, _ := cmd.StdoutPipe()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line := make([]byte, 64)
	n, _ := out.Read(line)
	if string(line[:n]) != "locked\n" {
		t.Fatalf("owner said %q", line[:n])
	}
	stop = sync.OnceFunc(func() {
		in.Close()
		cmd.Wait()
	})
	t.Cleanup(stop)
	return cmd.Process.Pid, stop
}

// An upgrade replaces an engine that nobody uses, and no other.
func TestConnectReplacesOtherVersion(t *testing.T) {
	state := newState(t)
	connect := func(version string) *Lease {
		t.Helper()
		opts := engineOptions(state, "-version", version)
		opts.Version = version
		lease, err := Connect(context.Background(), opts)
		if err != nil {
			t.Fatal(err)
		}
		return lease
	}
	one := connect("1")
	if two := connect("2"); two.Info.PID != one.Info.PID || two.Started {
		t.Errorf("an engine in use was replaced: %+v, then %+v", one.Info, two.Info)
	} else {
		two.Close()
	}
	if err := ask(one.Addr, "still there"); err != nil {
		t.Error(err)
	}
	one.Close()
	two := connect("2")
	defer two.Close()
	if two.Info.Version != "2" || !two.Started {
		t.Errorf("engine of version %q, started %v; want 2, true", two.Info.Version, two.Started)
	}
	if err := ask(two.Addr, "new one"); err != nil {
		t.Error(err)
	}
}
