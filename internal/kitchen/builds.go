package kitchen

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/lighter-oci/lighter/internal/history"
)

// begin takes a choice to the queue and answers the IDs of its builds.
func (s *Server) begin(p Project, c Choice, who, how string) ([]string, error) {
	if err := c.check(p); err != nil {
		return nil, err
	}
	jobs := c.jobs(p)
	var ids []string
	for i, j := range jobs {
		j.who, j.how, j.asked = who, how, time.Now()
		b := history.Begun{Project: filepath.Base(p.Dir), Dir: p.Dir, Verb: c.Verb, Platforms: c.Platforms, Who: who, How: how}
		if len(j.choice.Variants) == 1 {
			b.Variant = j.choice.Variants[0]
		}
		ticket, err := s.store.Queue(b)
		if err != nil {
			for _, j := range jobs[:i] {
				s.left(j, "the others could not be queued")
			}
			return nil, err
		}
		j.ticket, j.id = ticket, ticket.ID()
		ids = append(ids, j.id)
	}
	if err := s.queue.add(jobs); err != nil {
		for _, j := range jobs {
			s.left(j, err.Error())
		}
		return nil, err
	}
	s.watches.changed()
	return ids, nil
}

// start runs a job's child.
func (s *Server) start(j *job) (*child, error) {
	env := append(without(s.opt.Env, IDVariable, HowVariable, WhoVariable, tieVariable),
		IDVariable+"="+j.id, HowVariable+"="+j.how, WhoVariable+"="+j.who, tieVariable+"=stdin")
	args := j.args
	if j.choice.Verb == "pack" && !j.choice.Push { // a pack must go somewhere, as a build need not
		args = append(slices.Clone(args), `--output=type=oci,"dest=`+strings.ReplaceAll(s.tried(j), `"`, `""`)+`"`)
	}
	c, err := startChild(s.opt.Program, j.dir, args, env, nil)
	s.watches.changed()
	return c, err
}

// tried is where the image of a pack that is not pushed is, until the pack has ended.
func (s *Server) tried(j *job) string { return filepath.Join(s.opt.State, triedDir, j.id+".tar") }

// triedDir is emptied by the next server: this one may be killed.
const triedDir = "tried"

// ended gives the ticket back. A child that got as far as its journal has said
// there how it ended; of another the server says it.
func (s *Server) ended(j *job, stopped bool, err error) {
	o := history.Outcome{State: history.Failed}
	switch {
	case err != nil:
		o.Error = "cannot start: " + err.Error()
	case stopped:
		o.State, o.Error = history.Killed, "stopped before it began"
	case j.child != nil && j.child.err == nil:
		o.State = history.Done
	case j.child != nil:
		o.Error = j.child.words()
	}
	_ = os.Remove(s.tried(j)) // where there is one
	s.leave(j, o)
	// A child that was killed could not take its journal in.
	if _, err := s.store.Sweep(s.ctx); err != nil {
		s.opt.Warn(err.Error())
	}
	s.finished(j)
	s.watches.changed()
}

// left ends a job that never ran.
func (s *Server) left(j *job, why string) {
	s.leave(j, history.Outcome{State: history.Killed, Error: why})
	s.finished(j)
	s.watches.changed()
}

func (s *Server) leave(j *job, o history.Outcome) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := j.ticket.Leave(ctx, o); err != nil {
		s.opt.Warn(err.Error())
	}
}

// stopping notes that what happens to a build is meant.
func (s *Server) stopping(j *job) {
	if err := s.store.Stopping(j.id); err != nil {
		s.opt.Warn(err.Error())
	}
}

// stop ends a build of this server; it is gone when stop returns.
func (s *Server) stop(id string) error {
	j, removed := s.queue.cancel(id, s.stopping)
	switch {
	case j == nil:
		return fault{code: 409, what: "this build is not one that this server runs", next: "one of the command line is stopped where it was started, with Ctrl-C"}
	case removed:
		s.left(j, "taken out of the queue")
	}
	s.watches.changed()
	return nil
}

// finished counts a build, and tells the webhooks.
func (s *Server) finished(j *job) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	b, err := s.store.Build(ctx, j.id)
	if err != nil {
		s.opt.Warn(fmt.Sprintf("build %s: %v", history.Short(j.id), err))
		return
	}
	s.counts.add(b)
	s.hooks.send(b, s.URL()+"b/"+b.ID)
}

func without(env []string, names ...string) []string {
	return slices.DeleteFunc(slices.Clone(env), func(kv string) bool {
		name, _, _ := strings.Cut(kv, "=")
		return slices.Contains(names, name)
	})
}
