package kitchen

import (
	"bytes"
	"context"
	"fmt"
	"hash/fnv"
	"html/template"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/lighter-oci/lighter/internal/event"
	"github.com/lighter-oci/lighter/internal/history"
	"github.com/lighter-oci/lighter/internal/report"
)

const (
	// renderEvery bounds how often what is made of the whole build is made anew.
	renderEvery = 500 * time.Millisecond
	// linger is how long a build is followed when nobody looks any more: a reload
	// finds it as it was.
	linger = 30 * time.Second
)

// watches are the builds that somebody looks at, each followed once, and what the
// pages of many builds wait for.
type watches struct {
	s *Server

	mu    sync.Mutex
	byID  map[string]*watch
	grown chan struct{} // closed when any build begins or ends
	looks int           // pages that want to know that
	polls bool          // somebody asks for them
}

func (ws *watches) init(s *Server) {
	ws.s, ws.byID, ws.grown = s, map[string]*watch{}, make(chan struct{})
}

// changed wakes the pages of many builds.
func (ws *watches) changed() {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	close(ws.grown)
	ws.grown = make(chan struct{})
}

func (ws *watches) next() <-chan struct{} {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	return ws.grown
}

// get follows a build, or answers who does already; release says that one looks
// no longer.
func (ws *watches) get(id string) (w *watch, release func()) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	w = ws.byID[id]
	if w == nil {
		ctx, cancel := context.WithCancel(ws.s.ctx)
		w = &watch{id: id, logs: map[string]*stepLog{}, grown: make(chan struct{}), cancel: cancel, caught: make(chan struct{}), version: int(time.Now().UnixMilli())}
		ws.byID[id] = w
		go w.follow(ctx, ws.s.store)
	}
	w.users++
	return w, sync.OnceFunc(func() {
		ws.mu.Lock()
		defer ws.mu.Unlock()
		if w.users--; w.users == 0 {
			time.AfterFunc(linger, func() { ws.drop(w) })
		}
	})
}

// has is who follows a build already; nil is nobody.
func (ws *watches) has(id string) *watch {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	return ws.byID[id]
}

func (ws *watches) drop(w *watch) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	if w.users == 0 && ws.byID[w.id] == w {
		delete(ws.byID, w.id)
		w.cancel()
	}
}

// watch is one build as it is now: the fold of its events, the ends of its logs,
// and what pages show of that.
type watch struct {
	id     string
	users  int // under watches' mu
	cancel context.CancelFunc
	caught chan struct{} // closed when what was there at first has been read

	mu    sync.Mutex
	seq   uint64 // of the last event
	fold  report.Build
	logs  map[string]*stepLog // by the ID of a step
	grown chan struct{}       // closed at the next change
	over  bool

	dirty    bool // since rendered
	rendered time.Time
	version  int // of what is rendered; larger than any of an earlier watch of this build
	rows     []row
	head     part
	picture  part
	extra    part // layers, warnings
}

// row is one step as it is shown.
type row struct {
	Key  string `json:"k"`
	HTML string `json:"html"`
	Open bool   `json:"open,omitempty"` // there is something to see
	ver  int
}

// part is a piece of a page.
type part struct {
	html string
	ver  int
}

// stepKey is a step's name in addresses and IDs of a page.
func stepKey(id string) string {
	h := fnv.New64a()
	_, _ = h.Write([]byte(id))
	return fmt.Sprintf("%012x", h.Sum64()>>16)
}

func (w *watch) follow(ctx context.Context, store *history.Store) {
	began := time.Now()
	quiet := time.AfterFunc(50*time.Millisecond, func() { w.catch() })
	defer w.catch()
	for e, err := range store.Follow(ctx, w.id, 0) {
		if err != nil {
			break
		}
		quiet.Reset(50 * time.Millisecond)
		w.add(e)
		if e.Time.After(began) { // of a build that is never quiet
			w.catch()
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.over, w.dirty = true, true
	w.wake()
}

func (w *watch) catch() {
	w.mu.Lock()
	defer w.mu.Unlock()
	select {
	case <-w.caught:
	default:
		close(w.caught)
	}
}

// catchUp waits until the watch knows what there was: a page shows where a build is,
// not how it got there. It is false where ctx ends first.
func (w *watch) catchUp(ctx context.Context) bool {
	select {
	case <-w.caught:
	case <-time.After(2 * time.Second):
	case <-ctx.Done():
		return false
	}
	return true
}

func (w *watch) add(e event.Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.seq = e.Seq
	if e.Log != nil {
		l := w.logs[e.Log.Step]
		if l == nil {
			l = &stepLog{key: stepKey(e.Log.Step)}
			w.logs[e.Log.Step] = l
		}
		l.add(e.Seq, *e.Log)
	} else {
		w.fold.Add(e)
		w.dirty = true
	}
	w.wake()
}

// wake lets readers look again. The caller holds mu.
func (w *watch) wake() {
	close(w.grown)
	w.grown = make(chan struct{})
}

// render makes what is shown of the whole build, where something has changed and
// the last time is long enough ago. The caller holds mu.
func (w *watch) render(s *Server, now time.Time) {
	running := !w.over
	if !(w.dirty || running && now.Sub(w.rendered) > 2*renderEvery) || now.Sub(w.rendered) < renderEvery && !w.over {
		return
	}
	w.dirty, w.rendered = false, now
	w.version++
	var when time.Time
	if running { // time goes on where nothing happens
		when = now
		w.fold.Add(event.Event{Time: now})
	}
	rep := w.fold.Report()
	w.head.set(s.partial("head", headOf(rep, running)), w.version)
	w.picture.set(timeline(rep, when), w.version)
	w.extra.set(s.partial("extra", rep), w.version)
	old := map[string]row{}
	for _, r := range w.rows {
		old[r.Key] = r
	}
	w.rows = w.rows[:0:0]
	for _, step := range rep.Steps {
		r := row{Key: stepKey(step.ID), ver: w.version}
		view := stepView{Step: step, Key: r.Key, Build: w.id}
		if l := w.logs[step.ID]; l != nil {
			view.Total, view.ErrorAt = l.total, l.errorAt
		}
		r.HTML, r.Open = s.partial("step", view), view.Open()
		if was, ok := old[r.Key]; ok && was.HTML == r.HTML {
			r.ver = was.ver
		}
		w.rows = append(w.rows, r)
	}
}

// timeline draws a build; the steps of the page are where its bars lead. Every text in
// the picture is escaped.
func timeline(rep report.Report, now time.Time) string {
	if len(rep.Steps) == 0 {
		return ""
	}
	return report.Timeline{Now: now, Link: "#step-"}.SVG(&rep)
}

func (p *part) set(html string, ver int) {
	if html != p.html {
		p.html, p.ver = html, ver
	}
}

// stepView is one step for the template.
type stepView struct {
	report.Step
	N          int // from 1, in the order of the report
	Key, Build string
	Total      int // lines
	ErrorAt    int // the first line that looks like an error; 0 is none
	First      int // the number of the first of Lines
	Lines      []logLine
}

// Open tells whether the log is shown without being asked for.
func (v stepView) Open() bool { return v.State == report.Running || v.State == report.Failed }

// HasLog tells whether the step may have said something.
func (v stepView) HasLog() bool { return v.Total > 0 || v.Kind == event.StepInstruction }

// partial renders one of the partials of the pages.
func (s *Server) partial(name string, data any) string {
	var b bytes.Buffer
	if err := s.pages["build"].ExecuteTemplate(&b, name, data); err != nil {
		s.opt.Warn(err.Error())
	}
	return strings.Map(seen, b.String())
}

// state is everything at one moment, for a page.
func (w *watch) state(s *Server, into *buildView) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.rendered = time.Time{}
	w.dirty = true
	w.render(s, time.Now())
	rep := w.fold.Report()
	for i, step := range rep.Steps {
		v := stepView{Step: step, N: i + 1, Key: stepKey(step.ID), Build: w.id}
		if l := w.logs[step.ID]; l != nil {
			v.Total, v.ErrorAt = l.total, l.errorAt
			if v.Open() && len(l.lines) > 0 {
				v.Lines = slices.Clone(l.tail(pageLines))
				v.First = v.Lines[0].N
			}
		}
		into.Steps = append(into.Steps, v)
	}
	// All are rendered by templates, or by report.
	into.Head, into.Picture, into.Extra = template.HTML(w.head.html), template.HTML(w.picture.html), template.HTML(w.extra.html)
	into.After, into.Ver = w.seq, w.version
}
