package kitchen

import (
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/lighter-oci/lighter/internal/history"
)

// pageBuilds is how many builds a page of the history has.
const pageBuilds = 50

// states are those that one can ask for.
var states = []string{"queued", "running", "done", "failed", "killed", "interrupted"}

// filterOf reads what a request asks of the history; what is unknown asks for nothing.
func (s *Server) filterOf(q url.Values) history.Filter {
	f := history.Filter{
		Project: clip(q.Get("project")), Variant: clip(q.Get("variant")), Verb: clip(q.Get("verb")),
		Text: clip(strings.TrimSpace(q.Get("q"))), Limit: pageBuilds, Top: q.Get("parts") == "",
	}
	for _, p := range s.places {
		if p.slug == f.Project {
			f.Project, f.Dir = "", p.real()
		}
	}
	for _, state := range q["state"] {
		if slices.Contains(states, state) {
			f.States = append(f.States, history.State(state))
		}
	}
	if before := q.Get("before"); history.ValidID(before) {
		f.Before = before
	}
	return f
}

func (s *Server) historyPage(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	f := s.filterOf(q)
	f.Limit++ // one more tells whether there is a next page
	builds, err := s.store.List(r.Context(), f)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	v := struct {
		Q, Project, State, Verb string
		Projects, States, Verbs []string
		Builds                  []history.Build
		Filtered                bool
		Next                    string
	}{
		Q: f.Text, Project: q.Get("project"), State: q.Get("state"), Verb: f.Verb, States: states,
		Verbs: []string{"build", "pack", "publish", "convert"}, Builds: builds,
	}
	v.Filtered = f.Text != "" || q.Get("project") != "" || f.Verb != "" || len(f.States) > 0
	for _, p := range s.places {
		v.Projects = append(v.Projects, p.slug)
	}
	if len(builds) > pageBuilds {
		v.Builds = builds[:pageBuilds]
		q.Set("before", v.Builds[pageBuilds-1].ID)
		v.Next = "/history?" + q.Encode()
	}
	s.page(w, r, http.StatusOK, "history", "History", v)
}
