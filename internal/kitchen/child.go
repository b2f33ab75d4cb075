package kitchen

import (
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"

	"github.com/lighter-oci/lighter/internal/group"
)

// What a child is told in its environment. It takes these variables out of what it
// hands down.
const (
	IDVariable  = "LIGHTER_BUILD_ID"  // under which it records itself
	HowVariable = "LIGHTER_BUILD_HOW" // kitchen or api
	WhoVariable = "LIGHTER_BUILD_WHO" // wanted it
	tieVariable = "LIGHTER_BUILD_TIED"
)

// grace is how long a child that was asked to stop has before it is killed with
// all that it started: a stop is done within a second.
const grace = 700 * time.Millisecond

// maxSaid bounds what is kept of what a child prints, bytes.
const maxSaid = 64 << 10

// child is one running build: this binary again, in a session of its own.
type child struct {
	*group.Kept
	tie  io.Closer // our end of its standard input
	said *tail
	done chan struct{}
	err  error // how it ended, after done
}

// startChild runs program; out gets what it prints, nil is nowhere. Where this process
// dies, the kernel closes the tie, and the child ends itself.
func startChild(program, dir string, args, env []string, out io.Writer) (*child, error) {
	read, write, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer read.Close()
	c := &child{tie: write, said: &tail{}, done: make(chan struct{})}
	cmd := exec.Command(program, args...)
	cmd.Dir, cmd.Env = dir, env
	cmd.Stdin, cmd.Stdout, cmd.Stderr = read, out, c.said
	// Whoever holds the other end of standard error must not keep a build running.
	cmd.WaitDelay = time.Second
	if c.Kept, err = group.Start(cmd, lastWords); err != nil {
		write.Close()
		return nil, err
	}
	go func() {
		c.err = c.Wait()
		write.Close()
		close(c.done)
	}()
	return c, nil
}

// stop ends the child and everything that it started, and returns when it is gone.
func (c *child) stop() {
	c.Stop(grace)
	<-c.done
}

// words is what the child said last, a line.
func (c *child) words() string {
	lines := strings.Split(strings.TrimSpace(c.said.String()), "\n")
	for i := len(lines) - 1; i >= 0; i-- {
		if rest, ok := strings.CutPrefix(lines[i], "lighter: "); ok {
			return rest
		}
	}
	if last := lines[len(lines)-1]; last != "" {
		return last
	}
	var exit *exec.ExitError
	if errors.As(c.err, &exit) {
		return exit.String()
	}
	return "it ended without a word"
}

// tail keeps the end of what is written to it.
type tail struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n, _ := t.b.Write(p)
	if t.b.Len() > 2*maxSaid {
		t.b.Next(t.b.Len() - maxSaid)
	}
	return n, nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.b.String()
}
