package group

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// hiding leaves parent, group, session and environment behind, says its number, and
// hears nothing; who started it waits.
const hiding = `env -i "$(command -v setsid)" -f sh -c 'trap "" INT TERM HUP; echo $$; exec sleep 1000 >/dev/null'; `

// What hides ends with the command: it is gone when Run answers.
func TestCancelledHiding(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	r, w := pipe(t)
	cmd := exec.CommandContext(ctx, "sh", "-c", hiding+"sleep 1000")
	cmd.Stdout = w
	ended := make(chan error, 1)
	go func() { ended <- Run(ctx, cmd) }()
	pid := child(t, r)
	cancel()
	if err := <-ended; err == nil {
		t.Error("no error")
	}
	if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
		t.Error("it lives on")
	}
}

// A command that is killed has left nothing on purpose.
func TestCommandKilled(t *testing.T) {
	r, w := pipe(t)
	cmd := exec.CommandContext(t.Context(), "sh", "-c", "n=$("+hiding+"); echo $n; kill -9 $$")
	cmd.Stdout = w
	var exit *exec.ExitError
	if err := Run(t.Context(), cmd); !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Errorf("got %v", err)
	}
	if err := syscall.Kill(child(t, r), 0); !errors.Is(err, syscall.ESRCH) {
		t.Error("it lives on")
	}
}

func TestKilledHiding(t *testing.T) { killed(t, hiding+"sleep 1000") }

// Who starts others faster than they are found is found in the end.
func TestStartsOthers(t *testing.T) {
	r, w := pipe(t)
	file := filepath.Join(t.TempDir(), "runs")
	k, err := Start(&exec.Cmd{Path: "/bin/sh", Args: []string{"sh", "-c", `
		f() { trap "" INT; echo >>"$0"; (f) & }
		f; echo $$; sleep 1000`, file}, Stdout: w}, 0)
	if err != nil {
		t.Fatal(err)
	}
	child(t, r)
	k.Stop(0)
	if err := k.Wait(); err == nil {
		t.Error("no error")
	}
	before, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(50 * time.Millisecond) // in which one that is left would write
	if after, err := os.Stat(file); err != nil || after.Size() != before.Size() {
		t.Errorf("it lives on: %v", err)
	}
}

// What is everybody's stays with a stop, when it is of this program and not merely
// called so.
func TestSpared(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	r, w := pipe(t)
	posing := filepath.Join(t.TempDir(), everybodys)
	if err := os.WriteFile(posing, []byte("echo $$; sleep 1000"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		script string
		stays  bool
	}{{`setsid "$0" ` + everybodys + ` & wait`, true}, {`cd "$1"; setsid sh ` + everybodys + ` & wait`, false}} {
		k, err := start(&exec.Cmd{Path: "/bin/sh", Args: []string{"sh", "-c", tt.script, self, filepath.Dir(posing)}, Stdout: w}, &syscall.SysProcAttr{Setsid: true}, 0, notOurs)
		if err != nil {
			t.Fatal(err)
		}
		pid := child(t, r)
		k.Stop(0)
		_ = k.Wait()
		if alive(pid) != tt.stays {
			t.Errorf("%s: it stays is %t", tt.script, !tt.stays)
		}
	}
}

func TestDoesNotStart(t *testing.T) {
	script := filepath.Join(t.TempDir(), "script")
	if err := os.WriteFile(script, []byte("#!/no/such/interpreter\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := Run(t.Context(), exec.CommandContext(t.Context(), script)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}
