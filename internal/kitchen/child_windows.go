package kitchen

import (
	"os"
	"os/exec"
)

// No history is kept on Windows, and so there is no kitchen: this is for the compiler.
func ownSession(*exec.Cmd) {}

func interrupt(pid int) { kill(pid) }

func killAll(pid int, _ string) { kill(pid) }

func kill(pid int) {
	if p, err := os.FindProcess(pid); err == nil {
		_ = p.Kill()
	}
}
