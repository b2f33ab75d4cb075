package registrytest

import "syscall"

// dieWithParent lets the kernel end the registry where a test binary is killed
// or panics on its time limit and no cleanup runs.
func dieWithParent() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
