package kitchen

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"time"

	"github.com/lighter-oci/lighter/internal/history"
	"github.com/lighter-oci/lighter/internal/report"
)

// studyLimit is how long a study may take: a tune measures for two minutes.
const studyLimit = 5 * time.Minute

// study is something that is found out about an image or a registry, by a child: a
// tune, or a doctor's probe. The last one of each is kept until the server ends.
type study struct {
	Of      string // image or registry
	Began   time.Time
	Running bool
	Error   string
	result  []byte // HTML of a tune, JSON of a doctor
}

// studies are those of this server, one of a kind at a time.
type studies struct {
	mu   sync.Mutex
	last map[string]*study // by kind and subject
	busy map[string]bool   // by kind
	all  sync.WaitGroup
}

func (st *studies) get(kind, of string) *study {
	st.mu.Lock()
	defer st.mu.Unlock()
	if s := st.last[kind+" "+of]; s != nil {
		copied := *s
		return &copied
	}
	return nil
}

// begin runs lighter with args, and keeps what read makes of it.
func (s *Server) study(kind, of string, args []string, read func(out []byte) ([]byte, error)) error {
	st := &s.studies
	st.mu.Lock()
	defer st.mu.Unlock()
	if s.ctx.Err() != nil {
		return errClosing
	}
	if st.busy[kind] {
		return fault{http.StatusConflict, "another " + kind + " is running", "wait until it has ended: two at a time would measure each other"}
	}
	if st.last == nil {
		st.last, st.busy = map[string]*study{}, map[string]bool{}
	}
	now := &study{Of: of, Began: time.Now(), Running: true}
	st.last[kind+" "+of], st.busy[kind] = now, true
	st.all.Go(func() {
		result, err := s.find(args, read)
		st.mu.Lock()
		defer st.mu.Unlock()
		now.Running, now.result, st.busy[kind] = false, result, false
		if err != nil {
			now.Error = err.Error()
		}
		s.watches.changed()
	})
	return nil
}

func (s *Server) find(args []string, read func([]byte) ([]byte, error)) ([]byte, error) {
	ctx, cancel := context.WithTimeout(s.ctx, studyLimit)
	defer cancel()
	env := append(without(s.opt.Env, IDVariable, HowVariable, WhoVariable, tieVariable), tieVariable+"=stdin")
	var out bytes.Buffer
	c, err := startChild(s.opt.Program, s.opt.State, args, env, &out)
	if err != nil {
		return nil, err
	}
	select {
	case <-c.done:
	case <-ctx.Done():
		c.stop()
		return nil, errors.New("it took too long, or the server ended")
	}
	result, err := read(out.Bytes())
	var exit *exec.ExitError
	if err != nil && errors.As(c.err, &exit) {
		return nil, errors.New(c.words())
	}
	return result, err
}

// tunePage shows what the levels are worth on the image of a build.
func (s *Server) tunePage(w http.ResponseWriter, r *http.Request) {
	b, of, err := s.tunable(r)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	s.page(w, r, http.StatusOK, "tune", "Tune", struct {
		Build history.Build
		Of    string
		Study *study
	}{b, of, s.studies.get("tune", of)})
}

// tunable is a build and the name of its image in a registry.
func (s *Server) tunable(r *http.Request) (b history.Build, of string, err error) {
	if b, err = s.store.Build(r.Context(), r.PathValue("id")); err != nil {
		return b, "", err
	}
	if b.State != history.Done || b.Digest == "" || len(b.Names) == 0 {
		return b, "", fault{http.StatusConflict, "this build has pushed no image", "tune one that has"}
	}
	return b, untagged(b.Names[0]) + "@" + b.Digest, nil // its tags may be other images' by now
}

func (s *Server) tune(w http.ResponseWriter, r *http.Request) {
	b, of, err := s.tunable(r)
	if err == nil {
		file := filepath.Join(s.opt.State, "tune-"+b.ID+".html")
		err = s.study("tune", of, []string{"tune", "--html=" + file, "--format=json", "--", "docker://" + of}, func([]byte) ([]byte, error) {
			defer os.Remove(file)
			return os.ReadFile(file)
		})
	}
	if err != nil {
		s.fail(w, r, err)
		return
	}
	http.Redirect(w, r, "/b/"+b.ID+"/tune", http.StatusSeeOther)
}

// tuneReport is the report as the command makes it: one file with its own style, in
// which every text is escaped. It may do nothing but be seen.
func (s *Server) tuneReport(w http.ResponseWriter, r *http.Request) {
	_, of, err := s.tunable(r)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	st := s.studies.get("tune", of)
	if st == nil || st.result == nil {
		s.refuse(w, r, http.StatusNotFound, "there is no report", "let it be made on the page before")
		return
	}
	w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; sandbox; frame-ancestors 'none'")
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_, _ = w.Write(st.result)
}

// probePage shows what a project's registry takes.
func (s *Server) probePage(w http.ResponseWriter, r *http.Request) {
	p, err := s.probed(r)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	v := struct {
		Project
		Study *study
		Found *report.Checkup
	}{Project: p, Study: s.studies.get("probe", p.repository())}
	if v.Study != nil && v.Study.result != nil {
		v.Found = &report.Checkup{}
		if err := json.Unmarshal(v.Study.result, v.Found); err != nil {
			v.Study.Error = err.Error()
		}
	}
	s.page(w, r, http.StatusOK, "probe", "What works", v)
}

func (s *Server) probed(r *http.Request) (Project, error) {
	p, ok := s.project(r.PathValue("project"))
	if !ok {
		return p, s.noProject(r)
	}
	if p.Image == "" {
		return p, fault{http.StatusConflict, p.Slug + " names no image, and so no registry", "say image = \"REGISTRY/NAME\" in its lighter.toml"}
	}
	return p, nil
}

func (s *Server) probe(w http.ResponseWriter, r *http.Request) {
	p, err := s.probed(r)
	if err == nil {
		err = s.study("probe", p.repository(), []string{"doctor", "--format=json", "--", p.repository()}, func(out []byte) ([]byte, error) {
			if !json.Valid(out) || len(out) == 0 {
				return nil, errors.New("the doctor says nothing")
			}
			return out, nil
		})
	}
	if err != nil {
		s.fail(w, r, err)
		return
	}
	http.Redirect(w, r, "/p/"+p.Slug+"/probe", http.StatusSeeOther)
}
