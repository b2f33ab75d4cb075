//go:build !linux

package group

import (
	"os"
	"os/exec"
	"time"
)

// Enter is for Linux.
func Enter(func(args []string) bool) {}

// Kept is a command in a session of its own.
type Kept struct {
	cmd   *exec.Cmd
	ended chan struct{}
	err   error // after ended
}

// Start starts a command in a session of its own.
func Start(cmd *exec.Cmd, _ time.Duration) (*Kept, error) {
	ownSession(cmd)
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	k := &Kept{cmd: cmd, ended: make(chan struct{})}
	go func() {
		k.err = cmd.Wait()
		close(k.ended)
	}()
	return k, nil
}

// Ended is closed when the command has ended.
func (k *Kept) Ended() <-chan struct{} { return k.ended }

// Stop interrupts the command's session, and after grace kills what is left in it.
func (k *Kept) Stop(grace time.Duration) {
	interrupt(k.cmd.Process.Pid)
	select {
	case <-k.ended:
	case <-time.After(grace):
	}
	kill(k.cmd.Process.Pid)
}

// Wait answers how the command ended.
func (k *Kept) Wait() error {
	<-k.ended
	return k.err
}

// EndOwn is for a command that was started by Start, whose starter has died, and that
// has had its last words: it ends its session, itself included.
func EndOwn() { kill(os.Getpid()) }
