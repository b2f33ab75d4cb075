//go:build unix

package group

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// stubborn starts a child that no interruption ends, says its number, and waits.
const stubborn = `trap "" INT TERM; sleep 1000 >/dev/null & echo $!; wait`

// everybodys is the first argument of what nobody's end ends.
const everybodys = "everybodys"

func TestMain(m *testing.M) {
	Enter(func(args []string) bool { return len(args) > 1 && args[1] == everybodys })
	switch {
	case len(os.Args) > 1 && os.Args[1] == everybodys:
		fmt.Println(os.Getpid())
		time.Sleep(1000 * time.Second)
	case os.Getenv("GROUP_TEST_CHILD") == "":
		os.Exit(m.Run())
	}
	ctx := context.Background()
	cmd := exec.CommandContext(ctx, "sh", "-c", os.Getenv("GROUP_TEST_CHILD"))
	cmd.Stdout = os.Stdout
	_ = Run(ctx, cmd)
}

// child reads the number of a stubborn command's child.
func child(t *testing.T, said *os.File) int {
	t.Helper()
	line, err := bufio.NewReader(said).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if alive(pid) {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	})
	return pid
}

// alive is not so for what is dead and waits for somebody to ask.
func alive(pid int) bool {
	out, err := exec.Command("ps", "-o", "stat=", "-p", strconv.Itoa(pid)).Output()
	return err == nil && !strings.HasPrefix(strings.TrimSpace(string(out)), "Z")
}

func gone(t *testing.T, pid int) {
	t.Helper()
	for end := time.Now().Add(2 * time.Minute); alive(pid); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("process %d lives on", pid)
		}
	}
}

func pipe(t *testing.T) (r, w *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = r.Close(), w.Close() })
	return r, w
}

// A process that is killed takes with it what its commands have started.
func TestKilled(t *testing.T) { killed(t, stubborn) }

func killed(t *testing.T, script string) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	r, w := pipe(t)
	cmd := exec.Command(self)
	cmd.Env, cmd.Stdout = append(os.Environ(), "GROUP_TEST_CHILD="+script), w
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = w.Close()
	pid := child(t, r)
	if !alive(pid) {
		t.Fatal("it ended before")
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	gone(t, pid)
}

// A command that is cancelled ends, with a child that wants to hear nothing.
func TestCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	r, w := pipe(t)
	cmd := exec.CommandContext(ctx, "sh", "-c", stubborn)
	cmd.Stdout = w
	ended := make(chan error, 1)
	go func() { ended <- Run(ctx, cmd) }()
	pid := child(t, r)
	cancel()
	if err := <-ended; err == nil {
		t.Error("no error")
	}
	gone(t, pid)
}

// What a command leaves behind on purpose stays: a compiler's server.
func TestServerStays(t *testing.T) {
	r, w := pipe(t)
	cmd := exec.CommandContext(t.Context(), "sh", "-c", `sleep 1000 >/dev/null 2>&1 & echo $!`)
	cmd.Stdout = w
	if err := Run(t.Context(), cmd); err != nil {
		t.Fatal(err)
	}
	if pid := child(t, r); !alive(pid) {
		t.Error("it was ended")
	}
}

// How a command fails is what exec says.
func TestFails(t *testing.T) {
	var exit *exec.ExitError
	if err := Run(t.Context(), exec.CommandContext(t.Context(), "sh", "-c", "exit 4")); !errors.As(err, &exit) || exit.ExitCode() != 4 {
		t.Errorf("got %v", err)
	}
	if err := Run(t.Context(), exec.CommandContext(t.Context(), "no-such-program-anywhere")); !errors.Is(err, exec.ErrNotFound) {
		t.Errorf("got %v", err)
	}
}
