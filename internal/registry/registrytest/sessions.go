package registrytest

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
)

// KeepSessions makes uploads through the proxy such that they can be gone on
// with after a broken connection, as in registries that keep an upload's offset
// themselves. Debian's docker-registry does not: the offset travels in the query
// of its Location, and an upload that has more bytes than that is thrown away
// (distribution 2.8.2, registry/handlers/blobupload.go, ResumeBlobUpload). So the
// proxy keeps the last query to itself and ends a request upstream where its
// client broke off.
func (f *Faulty) KeepSessions() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.sessions = &sessions{states: map[string]*session{}}
}

// sessions are a registry's uploads, by the path of their Location.
type sessions struct {
	mu     sync.Mutex
	states map[string]*session
}

type session struct {
	mu    sync.Mutex // held while a request changes the upload
	query string
}

func (s *sessions) find(path string) *session {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.states[path]
}

// serve passes a request on with its upload's query, one after the other.
func (s *sessions) serve(next http.Handler, w http.ResponseWriter, r *http.Request) {
	state := s.find(r.URL.Path)
	if state == nil {
		next.ServeHTTP(w, r)
		return
	}
	state.mu.Lock()
	defer state.mu.Unlock()
	query := []string{state.query}
	if r.URL.RawQuery != "" {
		query = append(query, r.URL.RawQuery)
	}
	r = r.WithContext(context.WithoutCancel(r.Context()))
	r.URL.RawQuery = strings.Join(query, "&")
	if r.Method == http.MethodPatch {
		r.Body = endedBody{r.Body}
	}
	next.ServeHTTP(w, r)
}

// keep takes the query out of a response's Location. Whoever holds the upload's
// lock is the request that is answered.
func (s *sessions) keep(resp *http.Response) {
	location, err := url.Parse(resp.Header.Get("Location"))
	if err != nil || !strings.Contains(location.Path, "/blobs/uploads/") {
		return
	}
	state := s.find(location.Path)
	if state == nil {
		state = &session{}
		s.mu.Lock()
		s.states[location.Path] = state
		s.mu.Unlock()
	}
	state.query, location.RawQuery = location.RawQuery, ""
	resp.Header.Set("Location", location.String())
}

// endedBody ends where its client is gone.
type endedBody struct{ io.ReadCloser }

func (b endedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = io.EOF
	}
	return n, err
}
