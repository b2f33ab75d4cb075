package kitchen

import (
	"net/http"
	"time"
)

// routes are all addresses of the server.
func (s *Server) routes() http.Handler {
	mux := http.NewServeMux()
	page := func(pattern string, h http.HandlerFunc) { mux.Handle(pattern, s.bounded(h)) }

	page("GET /{$}", s.overview)
	page("GET /p/{project}", s.projectPage)
	page("POST /p/{project}/builds", s.buildChosen)
	page("GET /b/{id}", s.buildPage)
	page("POST /b/{id}/stop", s.stopBuild)
	page("GET /b/{id}/log/{step}", s.logPage)
	page("GET /b/{id}/log.txt", s.logText)
	page("GET /b/{id}/tune", s.tunePage)
	page("POST /b/{id}/tune", s.tune)
	page("GET /b/{id}/tune.html", s.tuneReport)
	page("GET /p/{project}/probe", s.probePage)
	page("POST /p/{project}/probe", s.probe)
	page("GET /history", s.historyPage)
	page("GET /compare", s.comparePage)
	page("GET /queue", s.queuePage)
	page("GET /login", s.loginPage)
	page("POST /login", s.logIn)
	page("POST /logout", s.logOut)
	page("GET /assets/{name}", s.asset)
	page("GET /metrics", s.metrics)
	mux.HandleFunc("GET /events", s.pageEvents)

	s.apiRoutes(mux, page)
	page("/", func(w http.ResponseWriter, r *http.Request) {
		s.refuse(w, r, http.StatusNotFound, "there is no page "+clip(r.URL.Path), "the overview has them all")
	})
	return s.guard(s.admit(mux))
}

// bounded is for what is answered at once: so many at a time, and each within a
// time. Streams have bounds of their own.
func (s *Server) bounded(h http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		release, err := s.requests.take(s.client(r))
		if err != nil {
			s.fail(w, r, err)
			return
		}
		defer release()
		_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(time.Minute))
		h(w, r)
	})
}
