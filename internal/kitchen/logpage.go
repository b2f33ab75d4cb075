package kitchen

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/lighter-oci/lighter/internal/history"
	"github.com/lighter-oci/lighter/internal/report"
)

// stepOf finds a step by its key.
func (s *Server) stepOf(ctx context.Context, id, key string) (report.Step, error) {
	var rep report.Report
	var err error
	if w := s.watches.has(id); w != nil {
		w.mu.Lock()
		rep = w.fold.Report()
		w.mu.Unlock()
	} else if rep, err = s.store.Report(ctx, id); err != nil {
		return report.Step{}, err
	}
	for _, step := range rep.Steps {
		if stepKey(step.ID) == key {
			return step, nil
		}
	}
	return report.Step{}, fault{http.StatusNotFound, "the build has no step " + clip(key), "its page has them all"}
}

// liveTail is the end of a log that is being followed anyway.
func (s *Server) liveTail(id, step string, want logRange) (logPart, bool) {
	w := s.watches.has(id)
	if w == nil || want != (logRange{}) {
		return logPart{}, false
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	l := w.logs[step]
	if l == nil {
		return logPart{}, false
	}
	return logPart{lines: slices.Clone(l.tail(pageLines)), total: l.total, errorAt: l.errorAt}, true
}

// logView is a part of one step's log.
type logView struct {
	stepView
	Find     string
	Fragment bool
	Prev     int  // the lines before: ?before=
	Next     int  // ?from=
	More     bool // found than are shown
}

// logPage is a page of a log, or, for a script, only its lines.
func (s *Server) logPage(w http.ResponseWriter, r *http.Request) {
	id, q := r.PathValue("id"), r.URL.Query()
	step, err := s.stepOf(r.Context(), id, r.PathValue("step"))
	if err != nil {
		s.fail(w, r, err)
		return
	}
	want := logRange{find: clip(strings.TrimSpace(q.Get("q")))}
	want.before, _ = strconv.Atoi(q.Get("before"))
	want.from, _ = strconv.Atoi(q.Get("from"))
	l, live := s.liveTail(id, step.ID, want)
	if !live {
		l, err = s.readLog(r.Context(), id, step.ID, want)
	}
	if err != nil {
		s.fail(w, r, err)
		return
	}
	v := logView{Find: want.find, stepView: stepView{Step: step, Key: stepKey(step.ID), Build: id, Total: l.total, ErrorAt: l.errorAt, Lines: l.lines}}
	if n := len(l.lines); n > 0 {
		v.First = l.lines[0].N
		if want.find == "" && v.First > 1 {
			v.Prev = v.First
		}
		if last := l.lines[n-1].N; want.find == "" && last < l.total {
			v.Next = last + 1
		}
		v.More = l.more
	}
	if q.Get("fragment") != "" {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = w.Write([]byte(s.partial("lines", v.stepView)))
		return
	}
	s.page(w, r, http.StatusOK, "log", "Log", v)
}

// logText is the log as it came but for escapes: of a step, or of all.
func (s *Server) logText(w http.ResponseWriter, r *http.Request) {
	id, step := r.PathValue("id"), ""
	b, err := s.store.Build(r.Context(), id)
	if err == nil {
		if key := r.URL.Query().Get("step"); key != "" {
			found, failed := s.stepOf(r.Context(), id, key)
			step, err = found.ID, failed
		}
	}
	if err != nil {
		s.fail(w, r, err)
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Content-Disposition", fmt.Sprintf("attachment; filename=%q", "build-"+b.ID+".log"))
	rc := http.NewResponseController(w)
	for line, err := range history.LinesOf(s.store.Log(r.Context(), id, step)) {
		// A large log takes as long as the line needs, while it gets on.
		_ = rc.SetWriteDeadline(time.Now().Add(time.Minute))
		if err != nil {
			fmt.Fprintf(w, "\n[the rest cannot be read: %v]\n", err)
			return
		}
		if _, err := fmt.Fprintln(w, report.CleanLine(string(line.Text))); err != nil {
			return
		}
	}
}
