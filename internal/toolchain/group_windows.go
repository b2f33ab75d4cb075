package toolchain

import "os/exec"

// endWithChildren leaves a command to be killed: Windows knows no other way.
func endWithChildren(*exec.Cmd) {}
