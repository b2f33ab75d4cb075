package buildkit

import (
	"context"
	"io"
	"sync/atomic"
	"time"

	"github.com/moby/buildkit/client"
	digest "github.com/opencontainers/go-digest"

	"github.com/lighter-oci/lighter/internal/engine"
)

// Ran are a build's steps that were not cached, by ID, as events have them, and when
// each began, by the engine's clock.
type Ran map[string]time.Time

// statusTap passes a build's statuses on, and remembers which steps ran. BuildKit
// closes the channel that it writes to; the other end stays open for what
// follows the build.
type statusTap struct {
	in   chan *client.SolveStatus
	ran  Ran
	done chan struct{}
}

func tapStatuses(to chan<- *client.SolveStatus) *statusTap {
	t := &statusTap{in: make(chan *client.SolveStatus, cap(to)), ran: Ran{}, done: make(chan struct{})}
	go func() {
		defer close(t.done)
		for s := range t.in {
			for _, v := range s.Vertexes {
				if v.Started != nil && !v.Cached {
					t.ran[v.Digest.String()] = *v.Started
				}
			}
			to <- s
		}
	}()
	return t
}

// steps are those that ran, when the build has ended.
func (t *statusTap) steps() Ran {
	<-t.done
	return t.ran
}

// shownSave is a save that is one more step of the build: the live view shows how
// much has come.
type shownSave struct {
	engine.Mounts
	show chan<- *client.SolveStatus
}

// savingName is the step's; event.ParseStepName takes it for an export.
const savingName = "sending cache mounts"

// Save implements engine.Mounts.
func (s *shownSave) Save(ctx context.Context, mounts []engine.CacheMount, conn io.ReadWriteCloser) error {
	counted := &countedConn{ReadWriteCloser: conn}
	began := time.Now()
	step := client.Vertex{Digest: digest.FromString(savingName), Name: savingName, Started: &began}
	say := func(ended *time.Time) {
		v := step
		v.Completed = ended
		s.show <- &client.SolveStatus{
			Vertexes: []*client.Vertex{&v},
			Statuses: []*client.VertexStatus{{
				ID: "sent", Vertex: v.Digest, Current: counted.n.Load(), Timestamp: time.Now(), Started: &began, Completed: ended,
			}},
		}
	}
	say(nil)
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for tick := time.NewTicker(500 * time.Millisecond); ; {
			select {
			case <-tick.C:
				say(nil)
			case <-stop:
				tick.Stop()
				return
			}
		}
	}()
	err := s.Mounts.Save(ctx, mounts, counted)
	close(stop)
	<-stopped
	ended := time.Now()
	say(&ended)
	return err
}

// countedConn counts what is read.
type countedConn struct {
	io.ReadWriteCloser
	n atomic.Int64
}

func (c *countedConn) Read(p []byte) (int, error) {
	n, err := c.ReadWriteCloser.Read(p)
	c.n.Add(int64(n))
	return n, err
}
