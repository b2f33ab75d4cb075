package buildkit

import (
	"context"
	"fmt"
	"io"
	"sync"

	gateway "github.com/moby/buildkit/frontend/gateway/client"
)

// agentProcess is an agent that runs. It reads what is written to it and the
// other way round.
type agentProcess struct {
	*io.PipeReader // its output
	input          *io.PipeWriter
	ended          chan struct{}
}

// run starts the only process of a container, which ends with it.
func run(ctx context.Context, ctr gateway.Container, args []string) (*agentProcess, error) {
	stdin, input := io.Pipe()
	output, stdout := io.Pipe()
	said := &tail{}
	proc, err := ctr.Start(ctx, gateway.StartRequest{Args: args, Cwd: "/", Stdin: stdin, Stdout: stdout, Stderr: said})
	if err != nil {
		_ = ctr.Release(context.WithoutCancel(ctx))
		return nil, err
	}
	p := &agentProcess{PipeReader: output, input: input, ended: make(chan struct{})}
	go func() {
		defer close(p.ended)
		err := proc.Wait()
		if words := lastLine(said.String()); err != nil && words != "" {
			err = fmt.Errorf("%s (%w)", words, err)
		}
		_ = stdin.CloseWithError(io.ErrClosedPipe)
		_ = stdout.CloseWithError(err) // nil is io.EOF
		_ = ctr.Release(context.WithoutCancel(ctx))
	}()
	return p, nil
}

func (p *agentProcess) Write(b []byte) (int, error) { return p.input.Write(b) }

// Close ends both directions; the agent ends when it sees that.
func (p *agentProcess) Close() error {
	_ = p.input.Close()
	return p.PipeReader.Close()
}

// tail keeps the end of what is written to it.
type tail struct {
	mu sync.Mutex
	b  []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.b = append(t.b, p...)
	t.b = t.b[max(0, len(t.b)-logTail):]
	return len(p), nil
}

func (t *tail) Close() error { return nil }

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.b)
}

// lateAgent starts its agent when somebody has something to say to it, or wants to
// hear something: where there is nothing to restore, no container is made.
type lateAgent struct {
	start func() (*agentProcess, error)
	once  sync.Once
	proc  *agentProcess
	err   error
}

func (l *lateAgent) open() error {
	l.once.Do(func() { l.proc, l.err = l.start() })
	return l.err
}

func (l *lateAgent) Read(b []byte) (int, error) {
	if err := l.open(); err != nil {
		return 0, err
	}
	return l.proc.Read(b)
}

func (l *lateAgent) Write(b []byte) (int, error) {
	if err := l.open(); err != nil {
		return 0, err
	}
	return l.proc.Write(b)
}

// Close may be called repeatedly, and before anything was said.
func (l *lateAgent) Close() error {
	l.once.Do(func() { l.err = io.ErrClosedPipe })
	if l.proc == nil {
		return nil
	}
	return l.proc.Close()
}

// end closes the stream and waits until the container has let go of its mounts.
func (l *lateAgent) end() {
	_ = l.Close()
	if l.proc != nil {
		<-l.proc.ended
	}
}
