// Package publish is the conductor of a release: checks, every variant's
// content, and only when all of it is there the tags.
package publish

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"runtime"
	"sync"
	"time"

	"github.com/lighter-oci/lighter/internal/group"
)

// Check is a command that must succeed before anything is published.
type Check struct {
	Name    string
	Command []string
	Dir     string
}

// Checked is how a check ended.
type Checked struct {
	Name   string
	Took   time.Duration
	Err    error  // nil where it succeeded
	Output []byte // what it printed, the last maxOutput bytes; nil where it succeeded
}

// maxOutput bounds what is kept of a check's output, bytes.
const maxOutput = 64 << 10

// CheckError is a release that its checks stop.
type CheckError struct{ Failed []Checked }

func (e *CheckError) Error() string {
	if len(e.Failed) == 1 {
		return fmt.Sprintf("check %s failed: %v", e.Failed[0].Name, e.Failed[0].Err)
	}
	return fmt.Sprintf("%d checks failed, the first: %s: %v", len(e.Failed), e.Failed[0].Name, e.Failed[0].Err)
}

// Hint is the next step.
func (e *CheckError) Hint() string {
	return "nothing was pushed; mend it, or leave checks out with --skip-checks"
}

// Run runs checks, as many at a time as there are cores, and tells of each when it
// begins and when it ends. All run to their end, so that one knows all that fails;
// the error is a *CheckError, or the context's.
func Run(ctx context.Context, checks []Check, begun func(Check), done func(Checked)) error {
	turns := make(chan struct{}, runtime.GOMAXPROCS(0))
	var (
		all    sync.WaitGroup
		mu     sync.Mutex
		failed CheckError
	)
	for _, c := range checks {
		all.Go(func() {
			turns <- struct{}{}
			defer func() { <-turns }()
			mu.Lock()
			if ctx.Err() == nil {
				begun(c)
			}
			mu.Unlock()
			got := c.run(ctx)
			mu.Lock()
			defer mu.Unlock()
			if got.Err != nil {
				failed.Failed = append(failed.Failed, got)
			}
			if ctx.Err() == nil {
				done(got)
			}
		})
	}
	all.Wait()
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case len(failed.Failed) > 0:
		return &failed
	}
	return nil
}

func (c Check) run(ctx context.Context) Checked {
	began := time.Now()
	if err := ctx.Err(); err != nil {
		return Checked{Name: c.Name, Err: err}
	}
	cmd := exec.CommandContext(ctx, c.Command[0], c.Command[1:]...)
	var said tail
	cmd.Dir, cmd.Stdout, cmd.Stderr = c.Dir, &said, &said
	err := group.Run(ctx, cmd)
	got := Checked{Name: c.Name, Took: time.Since(began), Err: err}
	var exit *exec.ExitError
	if errors.As(err, &exit) || err == nil {
		if err != nil {
			got.Output = said.bytes()
		}
		return got
	}
	got.Err = fmt.Errorf("it cannot run: %w", err)
	return got
}

// tail keeps the end of what is written to it.
type tail struct{ b bytes.Buffer }

func (t *tail) Write(p []byte) (int, error) {
	n, _ := t.b.Write(p)
	if t.b.Len() > 2*maxOutput {
		t.b.Next(t.b.Len() - maxOutput)
	}
	return n, nil
}

func (t *tail) bytes() []byte {
	b := t.b.Bytes()
	return b[max(0, len(b)-maxOutput):]
}
