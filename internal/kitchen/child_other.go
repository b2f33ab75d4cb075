//go:build unix && !linux

package kitchen

import (
	"os/exec"
	"syscall"
)

func ownSession(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} }

func interrupt(pid int) { _ = syscall.Kill(-pid, syscall.SIGINT) }

func killAll(session int, _ string) { _ = syscall.Kill(-session, syscall.SIGKILL) }
