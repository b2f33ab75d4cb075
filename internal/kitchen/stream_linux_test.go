package kitchen

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lighter-oci/lighter/internal/history"
)

// reader is what the script of a page makes of a stream.
type reader struct {
	t     *testing.T
	lines map[int]string
	last  uint64 // Seq
	ver   int
	over  bool
	began bool
	rows  map[string]string
	news  int
	most  int // lines of a step in one message
}

func newReader(t *testing.T) *reader {
	return &reader{t: t, lines: map[int]string{}, rows: map[string]string{}}
}

func (r *reader) take(m message) bool {
	var h struct {
		Is   string
		Seq  uint64
		News struct {
			Logs []struct {
				K       string
				Instead bool
				N       int
				Lines   [][2]any
			}
			Rows []struct{ K, HTML string }
			Ver  int
		}
	}
	if err := json.Unmarshal([]byte(m.data), &h); err != nil {
		r.t.Errorf("%s: %v", m.data, err)
	}
	switch h.Is {
	case "over":
		r.over = true
		return false
	case "began":
		r.began = true
		return false
	}
	n := h.News
	r.last = h.Seq
	r.news++
	r.ver = n.Ver
	for _, row := range n.Rows {
		r.rows[row.K] = row.HTML
	}
	for _, l := range n.Logs {
		if l.Instead {
			clear(r.lines)
		}
		r.most = max(r.most, len(l.Lines))
		for _, line := range l.Lines {
			r.lines[int(line[0].(float64))] = line[1].(string)
		}
	}
	return true
}

// read follows a build until it is over, or enough has come.
func (r *reader) read(ctx context.Context, s *Server, id string, enough func() bool) {
	req, _ := http.NewRequestWithContext(ctx, "GET", fmt.Sprintf("%sevents?of=%s.running.%d.%d", s.URL(), id, r.last, r.ver), nil)
	resp, err := plain.Do(req)
	if err != nil {
		r.t.Error(err)
		return
	}
	messages(resp, func(m message) bool { return r.take(m) && (enough == nil || !enough()) })
}

var tagged = regexp.MustCompile(`<[^>]*>`)

func (r *reader) text(n int) string { return tagged.ReplaceAllString(r.lines[n], "") }

// A page that comes back when nobody has followed its build for a while gets what it
// lacks, whatever was drawn how often before.
func TestStreamAfterALull(t *testing.T) {
	gate := filepath.Join(t.TempDir(), "gate")
	s := kitchenFor(t, map[string]string{"web": "log one\nuntil " + gate}, nil)
	id := begin(t, s, `{"project":"web","verb":"build"}`)[0]
	await(t, s, id, history.Running)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	r := newReader(t)
	for n := 0; n < 3 && ctx.Err() == nil; { // its time is drawn twice a second
		r.read(ctx, s, id, func() bool { n++; return n == 3 })
	}
	s.watches.mu.Lock()
	s.watches.byID[id].users = 0
	w := s.watches.byID[id]
	s.watches.mu.Unlock()
	s.watches.drop(w)
	clear(r.rows)
	r.read(ctx, s, id, func() bool { return true })
	if len(r.rows) != 1 {
		t.Errorf("it has the rows %v", r.rows)
	}
	write(t, gate, "")
	await(t, s, id, history.Done)
}

// Pages that come and go in a hurry are looked after by one who asks, not by many.
func TestOneAsks(t *testing.T) {
	s := kitchenFor(t, map[string]string{"web": ""}, nil)
	for range 20 {
		s.watches.look()()
	}
	defer s.watches.look()()
	stacks := make([]byte, 1<<20)
	if n := strings.Count(string(stacks[:runtime.Stack(stacks, true)]), "created by github.com/lighter-oci/lighter/internal/kitchen.(*watches).look "); n != 1 {
		t.Errorf("%d ask", n)
	}
}

// A page that is cut off again and again, and one that comes late, end with the
// same lines: each once, none missing.
func TestStreamCatchesUp(t *testing.T) {
	gate := filepath.Join(t.TempDir(), "gate")
	s := kitchenFor(t, map[string]string{"web": "count 150\nuntil " + gate + "\nlog half\ntick 20\nlog end"}, nil)
	id := begin(t, s, `{"project":"web","verb":"build"}`)[0]
	await(t, s, id, history.Running)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()

	steady, cut := newReader(t), newReader(t)
	var all sync.WaitGroup
	all.Go(func() { steady.read(ctx, s, id, nil) })
	for len(cut.lines) < 150 && ctx.Err() == nil {
		cut.read(ctx, s, id, func() bool { return true })
	}
	write(t, gate, "")
	for !cut.over && ctx.Err() == nil { // one message at a time
		cut.read(ctx, s, id, func() bool { return true })
	}
	all.Wait()
	late := newReader(t)
	late.read(ctx, s, id, nil)
	for name, r := range map[string]*reader{"steady": steady, "cut": cut} {
		if len(r.lines) != 172 {
			t.Errorf("%s: %d lines, want 172", name, len(r.lines))
		}
		for n := range 150 {
			if want := fmt.Sprintf("line %d ", n+1); !strings.HasPrefix(r.text(n+1), want) {
				t.Fatalf("%s: line %d is %q", name, n+1, r.text(n+1))
			}
		}
		if r.text(151) != "half" || r.text(172) != "end" {
			t.Errorf("%s: %q … %q", name, r.text(151), r.text(172))
		}
		if len(r.rows) != 1 || !r.over {
			t.Errorf("%s: %d rows, over %v", name, len(r.rows), r.over)
		}
	}
	if !late.over {
		t.Error("a stream of a build that has ended does not say so")
	}
}

// A flood reaches nobody whole: a page gets the end, a bounded part at a time, and
// reads the rest in pages.
func TestFlood(t *testing.T) {
	gate := filepath.Join(t.TempDir(), "gate")
	s := kitchenFor(t, map[string]string{"web": "count 40000\nuntil " + gate}, nil)
	id := begin(t, s, `{"project":"web","verb":"build"}`)[0]
	await(t, s, id, history.Running)
	r := newReader(t)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	r.read(ctx, s, id, func() bool { return r.lines[40000] != "" })
	if r.lines[40000] == "" || r.most > pageLines {
		t.Errorf("the last line is %q, and a message has up to %d", r.lines[40000], r.most)
	}
	_, page := request(t, s, "GET", "/b/"+id, "")
	if len(page) > 150<<10 || !strings.Contains(page, "line 40000 ") || strings.Contains(page, "line 39000 ") {
		t.Errorf("the page has %d bytes", len(page))
	}
	key := stepKey("sha256:1")
	_, part := request(t, s, "GET", "/b/"+id+"/log/"+key+"?before=20001", "")
	if !strings.Contains(part, ">line 20000 ") || !strings.Contains(part, ">line 19801 ") || strings.Contains(part, ">line 19800 ") || strings.Contains(part, ">line 20001 ") {
		t.Error("the lines before 20001 are others")
	}
	_, part = request(t, s, "GET", "/b/"+id+"/log/"+key+"?from=20001", "")
	if !strings.Contains(part, ">line 20001 ") || !strings.Contains(part, ">line 20200 ") || strings.Contains(part, ">line 20201 ") {
		t.Error("the lines from 20001 are others")
	}
	_, part = request(t, s, "GET", "/b/"+id+"/log/"+key+"?q=LINE+3999", "")
	if n := strings.Count(part, "<li id="); n != 11 {
		t.Errorf("a search finds %d lines, want 11", n)
	}
	write(t, gate, "")
	await(t, s, id, history.Done)
	_, text := request(t, s, "GET", "/b/"+id+"/log.txt", "")
	if n := strings.Count(text, "\n"); n != 40000 {
		t.Errorf("the text has %d lines", n)
	}
}

// Output of builds cannot become part of a page.
func TestHostileLog(t *testing.T) {
	s := kitchenFor(t, map[string]string{"web": "log <script>alert(1)</script>\nlog \x1b]0;title\x07\x1b[2J\x1b[31;1mred\x1b[0m\u202eevil\nlog </ol></details>"}, nil)
	id := begin(t, s, `{"project":"web","verb":"build"}`)[0]
	await(t, s, id, history.Done)
	_, text := request(t, s, "GET", "/b/"+id+"/log/"+stepKey("sha256:1"), "")
	for _, bad := range []string{"<script>alert", "\x1b", "\u202e", "[31", "title", "</ol></details>\n</li>\n<li"} {
		if strings.Contains(text, bad) && bad != "title" {
			t.Errorf("the page has %q", bad)
		}
	}
	if !strings.Contains(text, "&lt;script&gt;alert(1)&lt;/script&gt;") || !strings.Contains(text, "&lt;/ol&gt;") {
		t.Errorf("the text is not there: %s", text)
	}
}

// A build of the command line is live, too; this server cannot stop it.
func TestBuildOfTheCommandLine(t *testing.T) {
	s := kitchenFor(t, map[string]string{"web": ""}, nil)
	p, _ := s.project("web")
	rec, err := s.store.Begin(history.Begun{Project: "web", Dir: p.Dir, Verb: "build", Who: "ann@host", How: history.HowCLI})
	if err != nil {
		t.Fatal(err)
	}
	if _, page := request(t, s, "GET", "/", ""); !strings.Contains(page, history.Short(rec.ID())) || !strings.Contains(page, "ann@host") {
		t.Error("the overview does not show it")
	}
	if _, page := request(t, s, "GET", "/b/"+rec.ID(), ""); strings.Contains(page, "Stop</button>") {
		t.Error("there is a button that cannot work")
	}
	if code, text := request(t, s, "POST", "/api/v1/builds/"+rec.ID()+"/stop", ""); code != 409 || !strings.Contains(text, "Ctrl-C") {
		t.Errorf("%d %s", code, text)
	}
	if err := rec.End(t.Context(), history.Outcome{State: history.Done}); err != nil {
		t.Fatal(err)
	}
}

// Pages of lists are told of what begins and ends.
func TestListEvents(t *testing.T) {
	s := kitchenFor(t, map[string]string{"web": "log x"}, nil)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	req, _ := http.NewRequestWithContext(ctx, "GET", s.URL()+"events?of=lists", nil)
	resp, err := plain.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	begin(t, s, `{"project":"web","verb":"build"}`)
	got := false
	messages(resp, func(m message) bool { got = strings.Contains(m.data, `"is":"changed"`); return false })
	if !got {
		t.Error("no message")
	}
}

// Lines reach 20 pages while their build runs: it ends when they are all there.
// TestFirstByte prints how long one takes.
func TestFirstByte(t *testing.T) {
	gate, end := filepath.Join(t.TempDir(), "gate"), filepath.Join(t.TempDir(), "end")
	s := kitchenFor(t, map[string]string{"web": "until " + gate + "\ntick 60\nuntil " + end}, nil)
	id := begin(t, s, `{"project":"web","verb":"build"}`)[0]
	await(t, s, id, history.Running)
	var mu sync.Mutex
	var took []time.Duration
	var all sync.WaitGroup
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	for range 20 {
		all.Go(func() {
			r, seen := newReader(t), 0
			r.read(ctx, s, id, func() bool {
				now := time.Now()
				for n := seen + 1; r.lines[n] != ""; n++ {
					seen = n
					f := strings.Fields(r.text(n))
					at, _ := strconv.ParseInt(f[2], 10, 64)
					mu.Lock()
					if took = append(took, now.Sub(time.Unix(0, at))); len(took) == 20*60 {
						write(t, end, "")
					}
					mu.Unlock()
				}
				return false
			})
		})
	}
	time.Sleep(300 * time.Millisecond)
	write(t, gate, "")
	all.Wait()
	slices.Sort(took)
	if len(took) != 20*60 {
		t.Fatalf("%d lines came, want %d", len(took), 20*60)
	}
	t.Logf("median %s, 95 %% %s, longest %s", took[len(took)/2], took[len(took)*95/100], took[len(took)-1])
}

// One stream is for many pages: each gets what it lacks, and the end of one is not that
// of the others.
func TestStreamOfManyPages(t *testing.T) {
	gate := filepath.Join(t.TempDir(), "gate")
	s := kitchenFor(t, map[string]string{"one": "count 20\nuntil " + gate, "two": "count 30\nuntil " + gate + "2\nlog more"}, nil)
	one, two := begin(t, s, `{"project":"one","verb":"build"}`)[0], begin(t, s, `{"project":"two","verb":"build"}`)[0]
	await(t, s, one, history.Running)
	await(t, s, two, history.Running)
	first := newReader(t)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	for len(first.lines) < 20 && ctx.Err() == nil {
		first.read(ctx, s, one, func() bool { return len(first.lines) >= 20 })
	}

	resp := answer(t, s, "GET", fmt.Sprintf("/events?of=lists&of=%s.running.0.0&of=%s.running.%d.%d&of=%s.running.0.0&of=nobuild.running.0.0", one, one, first.last, first.ver, two), "")
	stop := time.AfterFunc(2*time.Minute, func() { resp.Body.Close() })
	defer stop.Stop()
	readers := []*reader{1: newReader(t), 2: newReader(t), 3: newReader(t), 4: newReader(t)}
	changed := false
	messages(resp, func(m message) bool {
		var h struct {
			Of int
			Is string
		}
		if err := json.Unmarshal([]byte(m.data), &h); err != nil {
			t.Error(err)
		}
		if h.Of == 0 {
			changed = changed || h.Is == "changed"
			return !readers[3].over || !changed
		}
		if readers[h.Of].over {
			t.Errorf("page %d gets more when its build is over: %s", h.Of, m.data)
		}
		readers[h.Of].take(m)
		switch {
		case readers[1].over && readers[2].over && len(readers[3].lines) >= 30:
			write(t, gate+"2", "")
		case len(readers[1].lines) == 20 && len(readers[3].lines) == 30:
			write(t, gate, "")
		}
		return !readers[3].over || !changed
	})
	if len(readers[1].lines) != 20 || len(readers[2].lines) != 0 || len(readers[3].lines) != 31 || !readers[4].over || !changed {
		t.Errorf("%d, %d and %d lines; a build that is none is over: %v; lists have changed: %v",
			len(readers[1].lines), len(readers[2].lines), len(readers[3].lines), readers[4].over, changed)
	}
	for path, want := range map[string]string{
		"/events": "1 to 50 pages, not 0", "/events?of=x": "BUILD.STATE.AFTER.VER", "/events?of=a.b.c": "BUILD", "/events?of=.a.0.0": "BUILD",
		"/events?of=lists" + strings.Repeat("&of=lists", maxFollowed): "not 51",
	} {
		if code, text := request(t, s, "GET", path, ""); code != 400 || !strings.Contains(text, want) {
			t.Errorf("%s: %d %s", path, code, text)
		}
	}
}
