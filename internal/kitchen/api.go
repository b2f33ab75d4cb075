package kitchen

import (
	_ "embed" // the description
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"slices"
	"strings"

	"github.com/lighter-oci/lighter/internal/history"
	"github.com/lighter-oci/lighter/internal/report"
)

//go:embed openapi.json
var openAPI []byte

// answers are what is asked for as JSON; openapi.json describes them.
func (s *Server) answers() map[string]func(*http.Request) (any, error) {
	return map[string]func(*http.Request) (any, error){
		"GET /api/v1/projects":                s.apiProjects,
		"GET /api/v1/projects/{project}":      s.apiProject,
		"GET /api/v1/projects/{project}/plan": s.apiPlan,
		"GET /api/v1/builds":                  s.apiBuilds,
		"POST /api/v1/builds":                 s.apiBegin,
		"GET /api/v1/builds/{id}":             s.apiBuild,
		"GET /api/v1/builds/{id}/report":      s.apiReport,
		"POST /api/v1/builds/{id}/stop":       s.apiStop,
		"GET /api/v1/queue":                   s.apiQueue,
		"GET /api/v1/compare":                 s.apiCompare,
	}
}

// apiRoutes are the addresses for programs.
func (s *Server) apiRoutes(mux *http.ServeMux, page func(string, http.HandlerFunc)) {
	page("GET /api/openapi.json", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(openAPI)
	})
	for pattern, h := range s.answers() {
		page(pattern, func(w http.ResponseWriter, r *http.Request) {
			v, err := h(r)
			if err != nil {
				s.fail(w, r, err)
				return
			}
			w.Header().Set("Content-Type", "application/json")
			if r.Method == http.MethodPost {
				w.WriteHeader(http.StatusAccepted)
			}
			_ = json.NewEncoder(w).Encode(v)
		})
	}
	page("GET /api/v1/builds/{id}/log", s.logText)
	mux.HandleFunc("GET /api/v1/builds/{id}/events", s.apiEvents)
}

func (s *Server) apiProjects(*http.Request) (any, error) {
	return struct {
		Projects []Project `json:"projects"`
	}{s.projects()}, nil
}

func (s *Server) apiProject(r *http.Request) (any, error) {
	p, ok := s.project(r.PathValue("project"))
	if !ok {
		return nil, s.noProject(r)
	}
	accounts := s.accounts(r.Context(), p)
	if accounts == nil {
		accounts = []account{}
	}
	return struct {
		Project
		Accounts []account `json:"accounts"`
	}{p, accounts}, nil
}

func (s *Server) apiPlan(r *http.Request) (any, error) {
	p, ok := s.project(r.PathValue("project"))
	if !ok {
		return nil, s.noProject(r)
	}
	bump := r.URL.Query().Get("bump")
	if err := (Choice{Verb: "publish", Bump: bump}).check(p); err != nil {
		return nil, err
	}
	plan, err := s.plan(r.Context(), p, bump)
	if err != nil {
		return nil, fault{http.StatusUnprocessableEntity, err.Error(), "mend the project, or choose another bump"}
	}
	return plan, nil
}

func (s *Server) apiBuilds(r *http.Request) (any, error) {
	builds, err := s.store.List(r.Context(), s.filterOf(r.URL.Query()))
	if builds == nil {
		builds = []history.Build{}
	}
	return struct {
		Builds []history.Build `json:"builds"`
	}{builds}, err
}

func (s *Server) apiBegin(r *http.Request) (any, error) {
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		return nil, fault{http.StatusUnsupportedMediaType, "the body is not said to be JSON", "send it with Content-Type: application/json"}
	}
	var asked struct {
		Project string `json:"project"`
		Choice
	}
	dec := json.NewDecoder(r.Body)
	dec.DisallowUnknownFields()
	err := dec.Decode(&asked)
	if err == nil && dec.More() {
		err = errors.New("more than one value")
	}
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return nil, err
	case errors.Is(err, io.EOF):
		return nil, fault{http.StatusBadRequest, "the body is empty", "say {\"project\": …, \"verb\": …}"}
	case err != nil:
		return nil, fault{http.StatusBadRequest, "the body is not what it should be: " + strings.TrimPrefix(err.Error(), "json: "), "look at /api/openapi.json, which describes it"}
	}
	p, ok := s.project(asked.Project)
	if !ok {
		return nil, fault{http.StatusNotFound, "there is no project " + clip(asked.Project), "GET /api/v1/projects lists them"}
	}
	ids, err := s.begin(p, asked.Choice, s.asker(r), history.HowAPI)
	return struct {
		IDs []string `json:"ids"`
	}{ids}, err
}

func (s *Server) apiBuild(r *http.Request) (any, error) {
	return s.store.Build(r.Context(), r.PathValue("id"))
}

func (s *Server) apiReport(r *http.Request) (any, error) {
	rep, err := s.store.Report(r.Context(), r.PathValue("id"))
	if err == nil && rep.Steps == nil { // lists are never null
		rep = new(report.Build).Report()
	}
	return rep, err
}

func (s *Server) apiStop(r *http.Request) (any, error) {
	b, err := s.store.Build(r.Context(), r.PathValue("id"))
	if err == nil && !b.State.Over() {
		if err = s.stop(b.ID); err == nil {
			b, err = s.store.Build(r.Context(), b.ID)
		}
	}
	return b, err
}

func (s *Server) apiQueue(r *http.Request) (any, error) {
	busy, err := s.busy(r)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(busy, func(b history.Build) bool { return b.State == history.Queued })
	if i < 0 {
		i = len(busy)
	}
	return struct {
		Limit   int             `json:"limit"`
		Running []history.Build `json:"running"`
		Waiting []history.Build `json:"waiting"`
	}{s.queue.limit, append([]history.Build{}, busy[:i]...), append([]history.Build{}, busy[i:]...)}, nil
}

// apiEvents streams the events of a build as they were recorded, those to come
// included. The id of each is its Seq.
func (s *Server) apiEvents(w http.ResponseWriter, r *http.Request) {
	b, err := s.store.Build(r.Context(), r.PathValue("id"))
	if err != nil {
		s.fail(w, r, err)
		return
	}
	st := s.open(w, r)
	if st == nil {
		return
	}
	defer st.close()
	for e, err := range s.store.Follow(st.ctx, b.ID, lastSeen(r)) {
		if err != nil {
			_ = st.send("failed", 0, err.Error())
			return
		}
		if st.send("", e.Seq, e) != nil {
			return
		}
	}
	_ = st.send("over", 0, true) // where somebody still listens
}
