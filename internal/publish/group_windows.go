package publish

import (
	"os/exec"
	"time"
)

// endWithChildren has a command that is cancelled not wait for what it started.
func endWithChildren(cmd *exec.Cmd) { cmd.WaitDelay = 5 * time.Second }
