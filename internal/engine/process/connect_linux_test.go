package process

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Engines that leave after a millisecond, and commands that arrive at just
// that moment: every one is served, and never do two engines run.
func TestConnectAgainstIdleExit(t *testing.T) {
	state := newState(t)
	opts := engineOptions(state, "-idle", "1ms")
	end := time.Now().Add(4 * time.Second)
	var wg sync.WaitGroup
	served := make([]int, 6)
	for i := range served {
		wg.Go(func() {
			for time.Now().Before(end) {
				if err := use(opts); err != nil {
					t.Errorf("client %d: %v", i, err)
					return
				}
				served[i]++
				time.Sleep(time.Duration(rand.IntN(8000)) * time.Microsecond)
			}
		})
	}
	wg.Wait()
	total := 0
	for _, n := range served {
		total += n
	}
	n := starts(state)
	t.Logf("%d uses, %d engines", total, n)
	if n < 5 {
		t.Errorf("only %d engines: the race was not run", n)
	}
}

// A client alone meets the exit of the engine at every phase of it.
func TestConnectAtEveryPhaseOfIdleExit(t *testing.T) {
	state := newState(t)
	opts := engineOptions(state, "-idle", "2ms")
	for i := range 60 {
		if err := use(opts); err != nil {
			t.Fatalf("use %d: %v", i, err)
		}
		time.Sleep(time.Duration(i) * 100 * time.Microsecond)
	}
	if n := starts(state); n < 5 {
		t.Errorf("only %d engines: the race was not run", n)
	}
}

// Commands that start at once on a cold state start one engine.
func TestConnectColdStart(t *testing.T) {
	state := newState(t)
	var wg sync.WaitGroup
	for range 12 {
		wg.Go(func() {
			out, err := exec.Command(os.Args[0], "role-client", state, "-late", "100ms", "-boot", "50ms").CombinedOutput()
			if err != nil {
				t.Errorf("client: %v: %s", err, out)
			}
		})
	}
	wg.Wait()
	if n := count(state, "try "); n != 1 {
		t.Errorf("%d engines were started, want 1", n)
	}
}

// An engine that lost the state to another is no failure, even if that other
// is gone by the time we look.
func TestConnectLosesRace(t *testing.T) {
	state := newState(t)
	done := make(chan error, 1)
	go func() { done <- use(engineOptions(state, "-late", "50ms")) }()
	eventually(t, "engine started", func() bool { return count(state, "try ") == 1 })
	lock, err := Acquire(state, LockOptions{Serve: true})
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "engine lost", func() bool { return count(state, "lost ") == 1 })
	time.Sleep(20 * time.Millisecond)
	lock.Release()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if n := count(state, "try "); n != 2 {
		t.Errorf("%d engines were started, want 2", n)
	}
}

// Engines started by hand at the same time: one owns the state, the others
// leave with the code for it.
func TestEnginesByHand(t *testing.T) {
	state := newState(t)
	var cmds []*exec.Cmd
	for range 5 {
		cmd := exec.Command(os.Args[0], "role-engine", state)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		cmds = append(cmds, cmd)
	}
	if err := use(engineOptions(state)); err != nil {
		t.Error(err)
	}
	info, err := Status(state)
	if err != nil {
		t.Fatal(err)
	}
	// The losers first: one that is slow to start would win once the state is free.
	owner := -1
	for i, cmd := range cmds {
		if cmd.Process.Pid == info.PID {
			owner = i
			continue
		}
		cmd.Wait()
		if code := cmd.ProcessState.ExitCode(); code != ExitLocked {
			t.Errorf("loser: exit code %d, want %d", code, ExitLocked)
		}
	}
	if _, err := Stop(context.Background(), state, StopOptions{}); err != nil {
		t.Fatal(err)
	}
	if owner >= 0 { // else Connect's own engine won
		if err := cmds[owner].Wait(); err != nil {
			t.Errorf("owner: %v", err)
		}
	}
}

// kill -9 at any moment, starting included, leaves nothing in the way.
func TestConnectAfterKill(t *testing.T) {
	state := newState(t)
	opts := engineOptions(state, "-boot", "10ms")
	for i := range 25 {
		var done = make(chan error, 1)
		go func() { done <- use(opts) }()
		time.Sleep(time.Duration(rand.IntN(40)) * time.Millisecond)
		if info, err := Status(state); err != nil {
			t.Fatal(err)
		} else if info.PID != 0 {
			kill(t, info.PID)
		}
		<-done // may well have failed: its engine was shot
		if err := use(opts); err != nil {
			t.Fatalf("after kill %d: %v", i, err)
		}
	}
}

// A socket without an engine behind it, and a record of one, are no engine.
func TestConnectStaleSocket(t *testing.T) {
	state := newState(t)
	if err := use(engineOptions(state)); err != nil {
		t.Fatal(err)
	}
	info, err := Status(state)
	if err != nil {
		t.Fatal(err)
	}
	kill(t, info.PID)
	if _, err := os.Lstat(info.Socket); err != nil {
		t.Fatalf("no stale socket to test with: %v", err)
	}
	if err := use(engineOptions(state)); err != nil {
		t.Error(err)
	}
}

func TestConnectEarlyDeath(t *testing.T) {
	state := newState(t)
	os.WriteFile(filepath.Join(state, logName), []byte("an older engine's words\n"), 0o600)
	start := time.Now()
	_, err := Connect(context.Background(), engineOptions(state, "-fail", "\nwarming up\n\x1b[31mbolt: no space left on device\x1b[0m\n\n"))
	var se *StartError
	if !errors.As(err, &se) {
		t.Fatalf("error %v, want a StartError", err)
	}
	want := "start the engine: it ended with exit code 3: warming up; [31mbolt: no space left on device[0m"
	if err.Error() != want {
		t.Errorf("error %q\nwant  %q", err, want)
	}
	if want := "the engine's log is " + filepath.Join(state, logName); se.Hint() != want {
		t.Errorf("hint %q, want %q", se.Hint(), want)
	}
	if d := time.Since(start); d > 5*time.Second {
		t.Errorf("noticed only after %s", d)
	}
}

func TestConnectTimesOut(t *testing.T) {
	state := newState(t)
	opts := engineOptions(state, "-boot", "1h")
	opts.Wait = 300 * time.Millisecond
	_, err := Connect(context.Background(), opts)
	var se *StartError
	if !errors.As(err, &se) || !strings.Contains(err.Error(), "does not answer within 300ms") {
		t.Errorf("error %v, want that it does not answer", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Connect(ctx, opts); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want %v", err, context.Canceled)
	}
	info, _ := Status(state)
	unix.Kill(info.PID, unix.SIGKILL) // it has no SIGTERM handler yet, but why wait
}

func TestLogIsPutAside(t *testing.T) {
	state := newState(t)
	log := filepath.Join(state, logName)
	big := bytes.Repeat([]byte("x"), maxLog+1)
	if err := os.WriteFile(log, big, 0o600); err != nil {
		t.Fatal(err)
	}
	os.WriteFile(log+oldSuffix, []byte("oldest"), 0o600)
	if err := use(engineOptions(state)); err != nil {
		t.Fatal(err)
	}
	if b, _ := os.ReadFile(log + oldSuffix); !bytes.Equal(b, big) {
		t.Errorf("old log has %d bytes, want %d", len(b), len(big))
	}
	if fi, err := os.Stat(log); err != nil || fi.Size() > 1000 {
		t.Errorf("new log: %v, %v", fi, err)
	}
}

// The engine must not keep the terminal, the directory or the session of the
// command that happened to start it.
func TestEngineIsDetached(t *testing.T) {
	state := newState(t)
	lease, err := Connect(context.Background(), engineOptions(state))
	if err != nil {
		t.Fatal(err)
	}
	defer lease.Close()
	pid := lease.Info.PID
	if sid, err := unix.Getsid(pid); err != nil || sid != pid {
		t.Errorf("session %d, %v; want its own, %d", sid, err, pid)
	}
	proc := filepath.Join("/proc", strconv.Itoa(pid))
	for link, want := range map[string]string{
		"cwd": "/", "fd/0": "/dev/null", "fd/1": filepath.Join(state, logName), "fd/2": filepath.Join(state, logName),
	} {
		if got, err := os.Readlink(filepath.Join(proc, link)); err != nil || got != want {
			t.Errorf("%s is %q, %v; want %q", link, got, err, want)
		}
	}
}

// A state directory too deep for sun_path still gets a socket.
func TestLongStatePath(t *testing.T) {
	state, err := StateDir(filepath.Join(t.TempDir(), strings.Repeat("d", 120)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { Stop(context.Background(), state, StopOptions{Force: true}) })
	runtime := t.TempDir()
	os.Chmod(runtime, 0o700)
	t.Setenv("XDG_RUNTIME_DIR", runtime)
	lease, err := Connect(context.Background(), engineOptions(state))
	if err != nil {
		t.Fatal(err)
	}
	defer lease.Close()
	if dir := filepath.Dir(lease.Info.Socket); dir != filepath.Join(runtime, "lighter") {
		t.Errorf("socket in %s", dir)
	}
	// Another session, without that variable, finds the same engine.
	t.Setenv("XDG_RUNTIME_DIR", "")
	again, err := Connect(context.Background(), engineOptions(state))
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if again.Info.PID != lease.Info.PID {
		t.Errorf("pid %d, want %d", again.Info.PID, lease.Info.PID)
	}
	if path, err := socketPath(state); err != nil || filepath.Dir(path) != tmpDir() || len(path) > maxSocketPath {
		t.Errorf("socketPath without XDG_RUNTIME_DIR: %q, %v", path, err)
	}
	if err := ask(again.Addr, "through the hashed name"); err != nil {
		t.Error(err)
	}
}
