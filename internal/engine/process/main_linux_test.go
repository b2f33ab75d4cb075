package process

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

// TestMain makes the test binary also the program under test: an engine that
// echoes lines, clients of it, and whatever the tests of namespaces need.
func TestMain(m *testing.M) {
	Enter()
	if len(os.Args) > 1 {
		if role, ok := roles()[os.Args[1]]; ok {
			os.Exit(role(os.Args[2:]))
		}
	}
	// Without it, a program that was built for coverage complains on stderr.
	cover, err := os.MkdirTemp("/tmp", "lighter-test-")
	if err == nil {
		err = errors.Join(os.Chmod(cover, 0o777), os.Setenv("GOCOVERDIR", cover))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	madeUsers.dirs = append(madeUsers.dirs, cover)
	code := m.Run()
	if err := removeUsers(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	if err := goleak.Find(); code == 0 && err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func roles() map[string]func([]string) int {
	return map[string]func([]string) int{
		"role-engine":   engineRole,
		"role-client":   clientRole,
		"role-owner":    ownerRole,
		"role-stop":     stopRole,
		"role-reexec":   reexecRole,
		"role-inside":   insideRole,
		"role-check":    checkRole,
		"role-nonew":    noNewPrivsRole,
		"role-nocap":    noCapRole,
		"role-limit":    limitRole,
		"role-statedir": stateDirRole,
	}
}

// engineRole is an engine: role-engine [flags] STATE. It leaves lines in
// STATE/history, and STATE/overlap where two engines ran at once, found out
// with a lock of another kind than those under test.
func engineRole(args []string) int {
	fs := flag.NewFlagSet("engine", flag.ExitOnError)
	idle := fs.Duration("idle", 0, "")
	grace := fs.Duration("grace", 0, "")
	late := fs.Duration("late", 0, "time before taking the lock")
	boot := fs.Duration("boot", 0, "time before listening")
	fail := fs.String("fail", "", "print and exit 3")
	version := fs.String("version", "", "")
	stubborn := fs.Bool("stubborn", false, "never finish")
	inside := fs.Bool("inside", false, "write what insideRole finds into STATE/inside")
	fs.Parse(args)
	state := fs.Arg(0)
	if *fail != "" {
		fmt.Fprint(os.Stderr, *fail)
		return 3
	}
	note(state, "history", "try "+strconv.Itoa(os.Getpid()))
	time.Sleep(*late)
	lock, err := Acquire(state, LockOptions{Serve: true, Version: *version})
	if le := (*LockedError)(nil); errors.As(err, &le) {
		note(state, "history", "lost "+strconv.Itoa(os.Getpid()))
		return ExitLocked
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 4
	}
	defer lock.Release()
	alive, err := os.OpenFile(filepath.Join(state, "alive"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 4
	}
	if unix.Flock(int(alive.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil {
		note(state, "overlap", "two engines at once")
		return 5
	}
	defer alive.Close() // before the lock goes
	note(state, "history", "start "+strconv.Itoa(os.Getpid()))
	if *inside {
		insideRole([]string{filepath.Join(state, "inside")})
	}
	time.Sleep(*boot)
	err = Serve(context.Background(), lock, ServeOptions{Idle: *idle, Grace: *grace}, func(ctx context.Context, l net.Listener) error {
		if *stubborn {
			select {}
		}
		return echo(l)
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 6
	}
	note(state, "history", "end "+strconv.Itoa(os.Getpid()))
	return 0
}

// note appends a line to a file of the state directory.
func note(state, name, line string) {
	f, err := os.OpenFile(filepath.Join(state, name), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		panic(err)
	}
	defer f.Close()
	fmt.Fprintln(f, line)
}

// echo answers each line with itself, "sleep D" after that time.
func echo(l net.Listener) error {
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer c.Close()
			sc := bufio.NewScanner(c)
			for sc.Scan() {
				if d, ok := strings.CutPrefix(sc.Text(), "sleep "); ok {
					d, _ := time.ParseDuration(d)
					time.Sleep(d)
				}
				fmt.Fprintln(c, sc.Text())
			}
		}()
	}
}

// ask sends a line to an engine and wants it back.
func ask(addr, line string) error {
	c, err := net.Dial("unix", strings.TrimPrefix(addr, "unix://"))
	if err != nil {
		return err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(20 * time.Second))
	return askOn(c, line)
}

func askOn(c net.Conn, line string) error {
	if _, err := fmt.Fprintln(c, line); err != nil {
		return err
	}
	got, err := bufio.NewReader(c).ReadString('\n')
	if err != nil {
		return fmt.Errorf("answer to %q: %w", line, err)
	}
	if got != line+"\n" {
		return fmt.Errorf("answer %q to %q", got, line)
	}
	return nil
}

// use is what a command does: connect, ask, give back.
func use(opts Options) error {
	lease, err := Connect(context.Background(), opts)
	if err != nil {
		return err
	}
	defer lease.Close()
	return ask(lease.Addr, "hello "+strconv.Itoa(rand.Int()))
}

// clientRole is a command: role-client STATE [engine flags].
func clientRole(args []string) int {
	if err := use(engineOptions(args[0], args[1:]...)); err != nil {
		fmt.Println(err)
		if h, ok := errors.AsType[interface {
			error
			Hint() string
		}](err); ok {
			fmt.Println(h.Hint())
		}
		return 1
	}
	return 0
}

// ownerRole is a command with an engine of its own: it holds STATE until its
// stdin ends.
func ownerRole(args []string) int {
	lock, err := Acquire(args[0], LockOptions{})
	if err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Println("locked")
	io.Copy(io.Discard, os.Stdin)
	lock.Release()
	return 0
}

// stopRole is `engine stop`: role-stop STATE.
func stopRole(args []string) int {
	if _, err := Stop(context.Background(), args[0], StopOptions{}); err != nil {
		fmt.Println(err)
		return 1
	}
	return 0
}

func engineOptions(state string, flags ...string) Options {
	return Options{State: state, Args: append(append([]string{"role-engine"}, flags...), state)}
}

// newState returns a state directory whose engine is gone when the test is.
func newState(t *testing.T) string {
	t.Helper()
	state, err := StateDir(filepath.Join(t.TempDir(), "state"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if _, err := Stop(context.Background(), state, StopOptions{Timeout: 5 * time.Second, Force: true}); err != nil {
			t.Errorf("clean up: %v", err)
		}
		if b, err := os.ReadFile(filepath.Join(state, "overlap")); err == nil {
			t.Errorf("%s", b)
		}
	})
	return state
}

// starts counts the engines that got as far as owning the state.
func starts(state string) int { return count(state, "start ") }

// count counts what engines noted.
func count(state, what string) int {
	b, _ := os.ReadFile(filepath.Join(state, "history"))
	return strings.Count(string(b), what)
}

// eventually waits for something that another process does.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	for p := (pause{}); !ok(); {
		if p.sleep(ctx) != nil {
			t.Fatalf("still not: %s", what)
		}
	}
}

func running(t *testing.T, state string) bool {
	t.Helper()
	info, err := Status(state)
	if err != nil {
		t.Fatal(err)
	}
	return info.Running
}

// kill is kill -9. Until the kernel gets to it, the process's socket takes
// connections, and no client can tell.
func kill(t *testing.T, pid int) {
	t.Helper()
	unix.Kill(pid, unix.SIGKILL)
	eventually(t, "killed process gone", func() bool {
		st := statOf(pid)
		return st.ticks == 0 || st.ended()
	})
}
