package buildkit

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"path"
	"strconv"
	"sync"

	"github.com/containerd/platforms"
	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/client/llb"
	gateway "github.com/moby/buildkit/frontend/gateway/client"
	"github.com/moby/buildkit/solver/pb"
	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/lighter-oci/lighter/internal/engine"
	"github.com/lighter-oci/lighter/internal/event"
)

// agents run beside the cache mounts of a BuildKit that has none of its own, each
// in a container with the same mounts that a step has.
type agents struct {
	platform string // of the engine
	files    agentFS
	command  []string
	err      error // why there are none

	gw   gateway.Client
	once sync.Once
	root gateway.Reference // the agent's files, there
}

// localAgent is the agent's files in a session.
const localAgent = event.MountAgent

// recordsDir is where agents remember mounts by.
const recordsDir = "/" + agentDir + "/records"

// agents finds the agent for the engine's machine.
func (c *Client) agents(workers []*client.WorkerInfo) *agents {
	a := &agents{}
	var on []ocispecs.Platform
	for _, w := range workers {
		on = append(on, w.Platforms...)
	}
	if len(on) == 0 {
		a.err = fmt.Errorf("the BuildKit at %s has no worker", c.addr)
		return a
	}
	a.platform = platforms.Format(platforms.Normalize(on[0]))
	a.files, a.command, a.err = c.opt.Agent.files(on)
	return a
}

// start brings the agent there, and makes one container of it with all of uses, and
// more mounts. Where there is one, it is seen at the path that its step has, so that BuildKit
// describes it as it does for the step.
func (a *agents) start(ctx context.Context, uses []mountUse, more ...gateway.Mount) (*agentProcess, error) {
	if a.err != nil {
		return nil, a.err
	}
	a.once.Do(func() { a.root, a.err = a.send(ctx) })
	if a.err != nil {
		return nil, fmt.Errorf("bring the agent there: %w", a.err)
	}
	mounts := append([]gateway.Mount{
		{Dest: pb.RootMount, Ref: a.root},
		{Dest: recordsDir, MountType: pb.MountType_CACHE, CacheOpt: &pb.CacheOpt{ID: recordsID}},
	}, more...)
	list := make([]agentMount, len(uses))
	for i, u := range uses {
		m := gateway.Mount{Dest: u.mount.Dest, Selector: u.mount.Selector, MountType: pb.MountType_CACHE, CacheOpt: u.mount.CacheOpt}
		if len(uses) > 1 {
			m.Dest = "/mounts/" + strconv.Itoa(i)
		}
		if u.from != nil {
			base, err := a.gw.Solve(ctx, gateway.SolveRequest{Definition: u.from})
			if err != nil {
				return nil, err
			}
			m.Ref = base.Ref
		}
		mounts = append(mounts, m)
		name := digest.FromString(u.dir() + "\x00" + u.mount.Selector).Encoded()
		list[i] = agentMount{u.CacheMount, engine.MountDir{Dir: m.Dest, Record: path.Join(recordsDir, name)}}
	}
	about, err := json.Marshal(list)
	if err != nil {
		return nil, err
	}
	ctr, err := a.gw.NewContainer(ctx, gateway.NewContainerRequest{Mounts: mounts, NetMode: pb.NetMode_NONE})
	if err != nil {
		return nil, err
	}
	return run(ctx, ctr, append(a.command[:len(a.command):len(a.command)], string(about)))
}

// send brings the agent's files there; BuildKit keeps them for the next time.
func (a *agents) send(ctx context.Context) (gateway.Reference, error) {
	def, err := llb.Local(localAgent, llb.SharedKeyHint(localAgent), llb.WithCustomName("[internal] load agent for cache mounts")).Marshal(ctx)
	if err != nil {
		return nil, err
	}
	res, err := a.gw.Solve(ctx, gateway.SolveRequest{Definition: def.ToPB(), Evaluate: true})
	if err != nil {
		return nil, err
	}
	return res.SingleRef()
}

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
