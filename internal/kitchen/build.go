package kitchen

import (
	"html/template"
	"net/http"
	"strings"
	"time"

	"github.com/lighter-oci/lighter/internal/history"
	"github.com/lighter-oci/lighter/internal/report"
)

// headView is the first line of a build: how long, how much from the cache, how
// many bytes moved, what was slowest.
type headView struct {
	report.Summary
	Running bool
}

func headOf(rep report.Report, running bool) headView { return headView{rep.Summary, running} }

// buildView is a build's page.
type buildView struct {
	history.Build
	Slug    string // of its project, where this server has it
	Pushes  bool   // an image of it is in a registry
	Live    bool
	Mine    bool // this server can stop it
	After   uint64
	Ver     int
	Place   int // in the queue, from 1
	Head    template.HTML
	Picture template.HTML
	Steps   []stepView
	Extra   template.HTML // layers, proofs, findings, warnings
	Parts   []history.Build
	Before  *history.Build // the last one like this that ended well
	Error   int            // which step has the first error, from 1
}

func (s *Server) buildPage(w http.ResponseWriter, r *http.Request) {
	b, err := s.store.Build(r.Context(), r.PathValue("id"))
	if err != nil {
		s.fail(w, r, err)
		return
	}
	v := buildView{Build: b, Live: !b.State.Over()}
	if v.Parts, err = s.store.List(r.Context(), history.Filter{Parent: b.ID, Limit: 200}); err != nil {
		s.fail(w, r, err)
		return
	}
	if v.Live {
		s.liveView(r, &v)
	} else if err := s.endedView(r, &v); err != nil {
		s.fail(w, r, err)
		return
	}
	for i, step := range v.Steps {
		if step.State == report.Failed && v.Error == 0 {
			v.Error = i + 1
		}
	}
	if before, err := s.store.Previous(r.Context(), b); err == nil {
		v.Before = &before
	}
	for _, p := range s.places {
		if p.real() == b.Dir {
			v.Slug = p.slug
		}
	}
	s.page(w, r, http.StatusOK, "build", b.Project+" "+history.Short(b.ID), v)
}

// liveView is how far a build is.
func (s *Server) liveView(r *http.Request, v *buildView) {
	j, waits := s.queue.find(v.ID)
	v.Mine = j != nil
	if waits {
		_, waiting := s.queue.order()
		for i, o := range waiting {
			if o == j {
				v.Place = i + 1
			}
		}
	}
	watch, leave := s.watches.get(v.ID)
	defer leave()
	if watch.catchUp(r.Context()) {
		watch.state(s, v)
	}
}

// endedView is what the history has. Logs come when they are asked for, but that
// of what failed.
func (s *Server) endedView(r *http.Request, v *buildView) error {
	rep, err := s.store.Report(r.Context(), v.ID)
	if err != nil {
		return err
	}
	v.Pushes = len(rep.Proofs) > 0
	v.Extra = template.HTML(s.partial("extra", rep))
	head := headOf(rep, false)
	history.SumUp(&head.Summary, v.Parts)
	v.Head = template.HTML(s.partial("head", head))
	v.Picture = template.HTML(timeline(rep, time.Time{})) // every text in it is escaped
	for i, step := range rep.Steps {
		sv := stepView{Step: step, N: i + 1, Key: stepKey(step.ID), Build: v.ID}
		if step.State == report.Failed {
			l, err := s.readLog(r.Context(), v.ID, step.ID, logRange{})
			if err != nil {
				return err
			}
			sv.Total, sv.ErrorAt, sv.Lines = l.total, l.errorAt, l.lines
			if len(l.lines) > 0 {
				sv.First = l.lines[0].N
			}
		}
		v.Steps = append(v.Steps, sv)
	}
	return nil
}

func (s *Server) stopBuild(w http.ResponseWriter, r *http.Request) {
	id := r.PathValue("id")
	b, err := s.store.Build(r.Context(), id)
	if err == nil && !b.State.Over() {
		err = s.stop(id)
	}
	if err != nil {
		s.fail(w, r, err)
		return
	}
	to := "/b/" + id
	if strings.HasPrefix(r.PostFormValue("back"), "/queue") {
		to = "/queue"
	}
	http.Redirect(w, r, to, http.StatusSeeOther)
}
