package kitchen

import (
	"net/http"

	"github.com/lighter-oci/lighter/internal/history"
)

// projectLine is a project among others.
type projectLine struct {
	Project
	Last *history.Build
}

// overview is the first page: what there is, what runs, what was.
func (s *Server) overview(w http.ResponseWriter, r *http.Request) {
	var v struct {
		Projects []projectLine
		Busy     []history.Build // running, then waiting in their order
		Recent   []history.Build
	}
	recent, err := s.store.List(r.Context(), history.Filter{Top: true, Limit: 20})
	if err != nil {
		s.fail(w, r, err)
		return
	}
	for _, b := range recent {
		if b.State.Over() {
			v.Recent = append(v.Recent, b)
		}
	}
	if v.Busy, err = s.busy(r); err != nil {
		s.fail(w, r, err)
		return
	}
	for _, p := range s.projects() {
		line := projectLine{Project: p}
		last, err := s.store.List(r.Context(), history.Filter{Dir: p.Dir, Top: true, Limit: 1})
		if err != nil {
			s.fail(w, r, err)
			return
		}
		if len(last) > 0 {
			line.Last = &last[0]
		}
		v.Projects = append(v.Projects, line)
	}
	s.page(w, r, http.StatusOK, "overview", "Overview", v)
}

// busy is what runs, this server's and others', and what waits, in the order in
// which it will start.
func (s *Server) busy(r *http.Request) ([]history.Build, error) {
	list, err := s.store.List(r.Context(), history.Filter{States: []history.State{history.Running, history.Queued}, Top: true, Limit: maxWaiting + 100})
	if err != nil {
		return nil, err
	}
	byID := map[string]history.Build{}
	var busy []history.Build
	for i := len(list) - 1; i >= 0; i-- { // the first began first
		byID[list[i].ID] = list[i]
		if list[i].State == history.Running {
			busy = append(busy, list[i])
		}
	}
	_, waiting := s.queue.order()
	for _, j := range waiting {
		if b, ok := byID[j.id]; ok && b.State == history.Queued {
			busy = append(busy, b)
		}
	}
	return busy, nil
}

func (s *Server) queuePage(w http.ResponseWriter, r *http.Request) {
	busy, err := s.busy(r)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	var v struct {
		Running, Waiting []history.Build
		Limit            int
	}
	v.Limit = s.queue.limit
	for _, b := range busy {
		if b.State == history.Running {
			v.Running = append(v.Running, b)
		} else {
			v.Waiting = append(v.Waiting, b)
		}
	}
	s.page(w, r, http.StatusOK, "queue", "Queue", v)
}
