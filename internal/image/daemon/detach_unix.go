//go:build unix

package daemon

import (
	"os/exec"
	"syscall"
)

// detach keeps a terminal's Ctrl-C from cmd: it ends when we say so, which
// leaves it the time to clean up.
func detach(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
}
