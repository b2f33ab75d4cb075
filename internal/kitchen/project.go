package kitchen

import (
	"cmp"
	"context"
	"errors"
	"html/template"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/lighter-oci/lighter/internal/history"
	"github.com/lighter-oci/lighter/internal/registry"
)

// account is a credential that a push will use, without its value.
type account struct {
	Registry string `json:"registry"`
	Account  string `json:"account,omitempty"`
	Source   string `json:"source,omitempty"`
	Problem  string `json:"problem,omitempty"`
}

// repository is a project's image without its tag.
func (p Project) repository() string { return untagged(p.Image) }

func untagged(name string) string {
	if i := strings.LastIndexByte(name, ':'); i > strings.LastIndexByte(name, '/') {
		return name[:i]
	}
	return name
}

// accounts names the credentials for a project's image.
func (s *Server) accounts(ctx context.Context, p Project) []account {
	if p.Image == "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	name := p.repository()
	host, _, ok := strings.Cut(name, "/")
	if !ok || !strings.ContainsAny(host, ".:") && host != "localhost" {
		name = "docker.io/" + name
		host = "docker.io"
	}
	cred, err := registry.Credentials{}.Lookup(ctx, name)
	a := account{Registry: host}
	switch {
	case err != nil:
		a.Problem = err.Error()
	case !cred.Found() && onThisMachine(host): // where registries ask for none
	case !cred.Found():
		a.Problem = "no credential: pushes go without one; `docker login " + host + "` makes one"
	default:
		a.Account, a.Source = cmp.Or(cred.Account, "identity token"), cred.Source
	}
	return []account{a}
}

// onThisMachine tells whether a registry, HOST[:PORT], is one of this machine.
func onThisMachine(registry string) bool {
	host, _, err := net.SplitHostPort(registry)
	if err != nil {
		host = registry
	}
	return loopback(host)
}

// projectView is a project's page.
type projectView struct {
	Project
	Bump      string
	Bumps     []string
	Plan      *Plan
	PlanError string
	Accounts  []account
	Builds    []history.Build
	Trends    []template.HTML
	TrendOf   string
}

func (s *Server) projectPage(w http.ResponseWriter, r *http.Request) {
	p, ok := s.project(r.PathValue("project"))
	if !ok {
		s.fail(w, r, s.noProject(r))
		return
	}
	v := projectView{Project: p, Bumps: bumps, Bump: r.URL.Query().Get("bump")}
	if !slices.Contains(bumps, v.Bump) {
		v.Bump = ""
	}
	var err error
	if v.Builds, err = s.store.List(r.Context(), history.Filter{Dir: p.Dir, Top: true, Limit: 20}); err != nil {
		s.fail(w, r, err)
		return
	}
	if p.Can("publish") {
		if v.Plan, err = s.plan(r.Context(), p, v.Bump); err != nil {
			v.PlanError = err.Error()
		}
	}
	if v.TrendOf, v.Trends, err = s.trends(r.Context(), p, v.Builds); err != nil {
		s.fail(w, r, err)
		return
	}
	v.Accounts = s.accounts(r.Context(), p)
	s.page(w, r, http.StatusOK, "project", p.Slug, v)
}

func (s *Server) noProject(r *http.Request) error {
	return fault{http.StatusNotFound, "there is no project " + clip(r.PathValue("project")), "the overview has those that this server was pointed at"}
}

// buildChosen takes the form of a project's page.
func (s *Server) buildChosen(w http.ResponseWriter, r *http.Request) {
	p, ok := s.project(r.PathValue("project"))
	if !ok {
		s.fail(w, r, s.noProject(r))
		return
	}
	var large *http.MaxBytesError
	if err := r.ParseForm(); errors.As(err, &large) {
		s.fail(w, r, err)
		return
	} else if err != nil {
		s.fail(w, r, fault{http.StatusBadRequest, "the form cannot be read", "reload the project's page, and choose anew"})
		return
	}
	form := r.PostForm
	c := Choice{
		Verb: form.Get("verb"), Variants: form["variant"], Platforms: form["platform"],
		Push: form.Get("push") == "on", Bump: form.Get("bump"),
	}
	if c.Verb != "publish" {
		c.Bump = ""
	}
	ids, err := s.begin(p, c, s.asker(r), history.HowKitchen)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	to := "/queue"
	if len(ids) == 1 {
		to = "/b/" + ids[0]
	}
	http.Redirect(w, r, to, http.StatusSeeOther)
}

// asker is who builds, as the history says it: the account of this machine, and
// who has logged in.
func (s *Server) asker(r *http.Request) string {
	if who, _ := s.door.who(r); who != "" && who != "token" {
		return who + " by " + history.Who()
	}
	return history.Who()
}
