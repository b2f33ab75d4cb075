package group

import (
	"context"
	"os"
	"os/exec"
)

// Run runs a command, which exec.CommandContext made with the same context. When
// the context ends the command is killed, and what it started not waited for:
// Windows knows no other way.
func Run(_ context.Context, cmd *exec.Cmd) error {
	cmd.WaitDelay = patience
	return cmd.Run()
}

func ownSession(*exec.Cmd) {}

func interrupt(pid int) { kill(pid) }

func kill(pid int) {
	if p, err := os.FindProcess(pid); err == nil {
		_ = p.Kill()
	}
}
