//go:build unix && !linux

package group

import (
	"context"
	"errors"
	"os/exec"
	"syscall"
)

// watcher kills the process group that it leads when its standard input ends: that
// is a pipe whose other end the kernel closes, whatever ends this process. A signal
// at the parent's death, which Linux has, would reach one process only.
const watcher = `trap "" HUP INT TERM; read -r _; kill -9 0`

// Run runs a command, which exec.CommandContext made with the same context, in a
// process group of its own. When the context ends the group is interrupted as
// Ctrl-C would, so that compilers take away what they have half made, and what
// is left of it then is killed. Where this process is killed, the group is, too.
func Run(ctx context.Context, cmd *exec.Cmd) (err error) {
	leader := exec.Command("/bin/sh", "-c", watcher)
	leader.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	held, err := leader.StdinPipe()
	if err != nil {
		return err
	}
	if err := leader.Start(); err != nil {
		return errors.Join(err, held.Close())
	}
	// Until it is waited for, its number is nobody else's.
	pid := leader.Process.Pid
	defer func() {
		if ctx.Err() != nil {
			_ = syscall.Kill(-pid, syscall.SIGKILL)
		}
		_ = leader.Process.Kill()
		_ = leader.Wait() // killed
	}()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pgid: pid}
	cmd.Cancel = func() error { return syscall.Kill(-pid, syscall.SIGINT) }
	cmd.WaitDelay = patience
	return cmd.Run()
}

func ownSession(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} }

func interrupt(pid int) { _ = syscall.Kill(-pid, syscall.SIGINT) }

func kill(pid int) { _ = syscall.Kill(-pid, syscall.SIGKILL) }
