//go:build unix

package toolchain

import (
	"os/exec"
	"syscall"
)

// endWithChildren has a command that is cancelled end with all that it started,
// interrupted as Ctrl-C would: compilers take away what they have half made.
func endWithChildren(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGINT) }
}
