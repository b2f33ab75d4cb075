package kitchen

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/lighter-oci/lighter/internal/history"
)

// maxWaiting bounds the queue: more is a script that has gone wrong.
const maxWaiting = 200

// job is one build of this server, from the click to its end.
type job struct {
	id      string
	project string // slug
	dir     string
	args    []string
	choice  Choice
	who     string
	how     string
	asked   time.Time

	ticket *history.Ticket
	child  *child        // once it runs; set under the queue's mu
	stop   bool          // somebody wants it gone; set under the queue's mu
	done   chan struct{} // closed when the history knows how it ended
}

// queue starts jobs, so many at a time, each project in its turn.
type queue struct {
	limit int
	start func(*job) (*child, error)
	// ended is called when the child is gone, with whether somebody wanted it gone,
	// and what it could not even start with.
	ended func(j *job, stopped bool, err error)

	mu      sync.Mutex
	waiting []*job // in the order of asking
	running []*job
	turns   map[string]int // of a project: the number of the start that was its last
	started int
	closed  bool
	all     sync.WaitGroup
}

var (
	errQueueFull = errors.New("the queue is full")
	errClosing   = errors.New("the server is ending")
)

// add takes jobs in, all or none.
func (q *queue) add(jobs []*job) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return errClosing
	}
	if len(q.waiting)+len(jobs) > maxWaiting {
		return fmt.Errorf("%w: %d builds are waiting", errQueueFull, len(q.waiting))
	}
	q.waiting = append(q.waiting, jobs...)
	q.fill()
	return nil
}

// fill starts what there is room for. The caller holds mu.
func (q *queue) fill() {
	for !q.closed && len(q.running) < q.limit && len(q.waiting) > 0 {
		i := next(q.waiting, q.turns)
		j := q.waiting[i]
		q.waiting = slices.Delete(q.waiting, i, i+1)
		q.running = append(q.running, j)
		q.started++
		q.turns[j.project] = q.started
		q.all.Go(func() { q.run(j) })
	}
}

// next is whose turn it is: of the project that was served longest ago, the job
// that was asked for first.
func next(waiting []*job, turns map[string]int) int {
	best := 0
	for i, j := range waiting {
		if turns[j.project] < turns[waiting[best].project] {
			best = i
		}
	}
	return best
}

func (q *queue) run(j *job) {
	c, err := q.start(j)
	if err == nil {
		q.mu.Lock()
		j.child = c
		stop := j.stop
		q.mu.Unlock()
		if stop { // while it was being started
			c.stop()
		}
		<-c.done
	}
	q.mu.Lock()
	stopped := j.stop
	q.mu.Unlock()
	q.ended(j, stopped, err)
	close(j.done)
	q.mu.Lock()
	defer q.mu.Unlock()
	q.running = slices.DeleteFunc(q.running, func(o *job) bool { return o == j })
	q.fill()
}

// order is the running and the waiting jobs, those in the order in which they
// will start.
func (q *queue) order() (running, waiting []*job) {
	q.mu.Lock()
	defer q.mu.Unlock()
	running = slices.Clone(q.running)
	rest, turns := slices.Clone(q.waiting), maps.Clone(q.turns)
	for n := q.started + 1; len(rest) > 0; n++ {
		i := next(rest, turns)
		turns[rest[i].project] = n
		waiting = append(waiting, rest[i])
		rest = slices.Delete(rest, i, i+1)
	}
	return running, waiting
}

// find is the job of an ID, and whether it waits.
func (q *queue) find(id string) (j *job, waits bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, j := range q.waiting {
		if j.id == id {
			return j, true
		}
	}
	for _, j := range q.running {
		if j.id == id {
			return j, false
		}
	}
	return nil, false
}

// cancel ends a job: a waiting one leaves the queue, a running one is stopped, and
// gone when this returns. It is false where the queue has none of that ID.
func (q *queue) cancel(id string, stopping func(*job)) (was *job, removed bool) {
	q.mu.Lock()
	for i, j := range q.waiting {
		if j.id == id {
			q.waiting = slices.Delete(q.waiting, i, i+1)
			q.mu.Unlock()
			return j, true
		}
	}
	i := slices.IndexFunc(q.running, func(j *job) bool { return j.id == id })
	if i < 0 {
		q.mu.Unlock()
		return nil, false
	}
	j := q.running[i]
	j.stop = true
	c := j.child
	q.mu.Unlock()
	stopping(j)
	if c != nil {
		c.stop()
	}
	<-j.done
	return j, false
}

// close stops everything, and returns when it is gone. What waited is answered.
func (q *queue) close(ctx context.Context, stopping func(*job)) (left []*job) {
	q.mu.Lock()
	q.closed = true
	left, q.waiting = q.waiting, nil
	running := slices.Clone(q.running)
	for _, j := range running {
		j.stop = true
	}
	q.mu.Unlock()
	var all sync.WaitGroup
	for _, j := range running {
		all.Go(func() {
			stopping(j)
			q.mu.Lock()
			c := j.child
			q.mu.Unlock()
			if c != nil {
				c.stop()
			}
		})
	}
	all.Wait()
	done := make(chan struct{})
	go func() { q.all.Wait(); close(done) }()
	select {
	case <-done:
	case <-ctx.Done():
	}
	return left
}
