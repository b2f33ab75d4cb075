package group

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Run runs a command, which exec.CommandContext made with the same context, in a
// process group of its own. When the context ends the group is interrupted as
// Ctrl-C would, so that compilers take away what they have half made, and what
// is left of all that came of the command is killed then. Where this process is
// killed, that is, too. What a command that ends by itself leaves behind stays.
func Run(ctx context.Context, cmd *exec.Cmd) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	k, err := start(cmd, &syscall.SysProcAttr{Setpgid: true}, 0, notOurs)
	if err != nil {
		return err
	}
	stopped := make(chan struct{})
	forget := context.AfterFunc(ctx, func() { k.Stop(patience); close(stopped) })
	err = k.Wait()
	if !forget() {
		<-stopped
		err = cmp.Or(err, ctx.Err())
	}
	return err
}

// Kept is a command in a session of its own.
type Kept struct {
	keeper *exec.Cmd
	word   io.WriteCloser // to the keeper
	ended  chan struct{}  // the command has, or its keeper

	mu       sync.Mutex
	stopping bool
	over     bool // the keeper's number may soon be another's
}

// Start starts a command of this program, or of a newer one that has taken its place,
// in a session of its own. Where this process is killed, the command has lastWords to
// end; then all that came of it is killed. Its context is not looked at, nor are its
// ExtraFiles.
func Start(cmd *exec.Cmd, lastWords time.Duration) (*Kept, error) {
	return start(cmd, &syscall.SysProcAttr{Setsid: true}, lastWords, ours)
}

func start(cmd *exec.Cmd, attr *syscall.SysProcAttr, lastWords time.Duration, whose string) (*Kept, error) {
	if cmd.Err != nil {
		return nil, cmd.Err
	}
	wordR, word, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer wordR.Close()
	news, newsW, err := os.Pipe()
	if err != nil {
		return nil, errors.Join(err, word.Close())
	}
	defer newsW.Close()
	k := &Kept{word: word, ended: make(chan struct{})}
	k.keeper = &exec.Cmd{
		Path: selfExe, Args: append([]string{"lighter", keepFlag, lastWords.String(), whose, cmd.Path}, cmd.Args...), Env: cmd.Env, Dir: cmd.Dir,
		Stdin: cmd.Stdin, Stdout: cmd.Stdout, Stderr: cmd.Stderr, ExtraFiles: []*os.File{wordR, newsW},
		SysProcAttr: attr, WaitDelay: cmp.Or(cmd.WaitDelay, patience),
	}
	if err := k.keeper.Start(); err != nil {
		return nil, errors.Join(err, word.Close(), news.Close())
	}
	newsW.Close()
	lines := bufio.NewReader(news)
	said, _ := lines.ReadString('\n')
	if said = strings.TrimSpace(said); said != newsStarted {
		err := errors.Join(k.keeper.Wait(), word.Close(), news.Close())
		if no, bad := strconv.Atoi(said); bad == nil {
			return nil, &os.PathError{Op: "fork/exec", Path: cmd.Path, Err: syscall.Errno(no)}
		}
		return nil, fmt.Errorf("%s: its keeper ended: %w", cmd.Path, err)
	}
	go func() {
		_, _ = lines.ReadString('\n') // that the command has ended, or the keeper has
		news.Close()
		close(k.ended)
	}()
	return k, nil
}

// Ended is closed when the command itself has ended.
func (k *Kept) Ended() <-chan struct{} { return k.ended }

// Stop interrupts the command's group, and after grace, or when the command has ended
// by itself, kills all that came of it. Wait returns when it is gone.
func (k *Kept) Stop(grace time.Duration) {
	k.mu.Lock()
	k.stopping = true
	if !k.over {
		_ = syscall.Kill(-k.keeper.Process.Pid, syscall.SIGINT)
	}
	k.mu.Unlock()
	select {
	case <-k.ended:
	case <-time.After(grace):
	}
	k.tell(wordKill)
}

// Wait answers how the command ended, as exec does. What it has left behind stays
// where nobody stopped it.
func (k *Kept) Wait() error {
	<-k.ended
	k.mu.Lock()
	k.over = true
	if !k.stopping {
		k.tell(wordLeave)
	}
	k.mu.Unlock()
	err := k.keeper.Wait()
	k.word.Close()
	return err
}

func (k *Kept) tell(word byte) { _, _ = k.word.Write([]byte{word}) }

// EndOwn is for a command that was started by Start, whose starter has died, and that
// has had its last words: its keeper ends it and all that came of it.
func EndOwn() {}
