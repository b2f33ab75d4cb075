package process

import (
	"errors"
	"os"
	"os/exec"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"
)

// ReexecInUserNamespace runs this program with args (without the program's
// name) in a user and mount namespace of its own, on our stdin, stdout and
// stderr, in our directory and with our environment. It passes signals on and
// returns the exit code: 128 and the signal's number where one ended it.
//
// The error is a *Problem where the host refuses namespaces.
func ReexecInUserNamespace(args []string) (int, error) {
	cmd := exec.Command(selfPath(), args...)
	cmd.Args[0] = os.Args[0]
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr

	sigs := make(chan os.Signal, 16)
	signal.Notify(sigs, unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGQUIT, unix.SIGUSR1, unix.SIGUSR2, unix.SIGWINCH)
	defer signal.Stop(sigs)

	tie, err := startInNamespace(cmd, modeBound)
	if sig := killedBy(err); sig != 0 {
		return 128 + int(sig), nil
	}
	if err != nil {
		return 1, err
	}
	defer tie.Close()
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	for {
		select {
		case sig := <-sigs:
			if !fromTerminal(sig) {
				cmd.Process.Signal(sig)
			}
		case err := <-done:
			return exitCode(err)
		}
	}
}

func exitCode(err error) (int, error) {
	var ee *exec.ExitError
	switch {
	case err == nil:
		return 0, nil
	case killedBy(err) != 0:
		return 128 + int(killedBy(err)), nil
	case errors.As(err, &ee):
		return ee.ExitCode(), nil
	}
	return 1, err
}

// killedBy returns the signal that ended a command, or 0.
func killedBy(err error) syscall.Signal {
	var ee *exec.ExitError
	if !errors.As(err, &ee) {
		return 0
	}
	if ws, ok := ee.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		return ws.Signal()
	}
	return 0
}

// fromTerminal reports whether the child has had the signal already: a
// terminal sends its signals to the whole foreground group. Passing those on
// would make one Ctrl-C two, and a second Ctrl-C means "now".
func fromTerminal(sig os.Signal) bool {
	switch sig {
	case unix.SIGINT, unix.SIGQUIT, unix.SIGWINCH:
	default:
		return false
	}
	tty, err := os.OpenFile("/dev/tty", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return false
	}
	defer tty.Close()
	group, err := unix.IoctlGetInt(int(tty.Fd()), unix.TIOCGPGRP)
	return err == nil && group == unix.Getpgrp()
}
