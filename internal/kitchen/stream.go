package kitchen

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/lighter-oci/lighter/internal/history"
)

const (
	// gather is how long lines are collected before they are sent together: an eye
	// sees no difference, and a fast build makes 25 messages a second, not 10,000.
	gather = 40 * time.Millisecond
	// beat is how often a stream without news says that it is there.
	beat = 15 * time.Second
	// writeWithin is how long a client may take to take a message.
	writeWithin = 10 * time.Second
)

// stream is one open event stream (HTML standard, server-sent events).
type stream struct {
	w  http.ResponseWriter
	rc *http.ResponseController
}

// open begins a stream. It is nil where there are too many, which is answered, or
// where nobody listens any more.
func (s *Server) open(w http.ResponseWriter, r *http.Request) (_ *stream, release func()) {
	if release = s.streams.take(s.client(r)); release == nil {
		w.Header().Set("Retry-After", "10")
		s.fail(w, r, fault{http.StatusTooManyRequests, "too many open streams", "close some pages of this server"})
		return nil, nil
	}
	st := &stream{w, http.NewResponseController(w)}
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("X-Accel-Buffering", "no") // nginx would hold lines back
	_ = st.rc.SetReadDeadline(time.Time{})
	w.WriteHeader(http.StatusOK)
	// Lost ones come back after a second; what they missed is sent then.
	if err := st.write("retry: 1000\n\n"); err != nil {
		release()
		return nil, nil
	}
	return st, release
}

func (st *stream) write(text string) error {
	_ = st.rc.SetWriteDeadline(time.Now().Add(writeWithin))
	if _, err := st.w.Write([]byte(text)); err != nil {
		return err
	}
	return st.rc.Flush()
}

// send is one message; JSON has no line breaks in it.
func (st *stream) send(event string, id uint64, v any) error {
	var data bytes.Buffer
	enc := json.NewEncoder(&data)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return err
	}
	text := ""
	if event != "" {
		text = "event: " + event + "\n"
	}
	if id > 0 {
		text += fmt.Sprintf("id: %d\n", id)
	}
	return st.write(text + "data: " + data.String() + "\n")
}

// lastSeen is where a client stands: what its browser says of itself when it comes
// back, or what the page that opens a stream was made from.
func lastSeen(r *http.Request) uint64 {
	n, err := strconv.ParseUint(r.Header.Get("Last-Event-ID"), 10, 64)
	if err != nil {
		n, _ = strconv.ParseUint(r.URL.Query().Get("after"), 10, 64)
	}
	return n
}

// news is what a page of a build gets at a time. Lines and rows have names, so that
// one that comes twice is one all the same.
type news struct {
	Logs    []logNews `json:"logs,omitempty"`
	Rows    []row     `json:"rows,omitempty"`
	Order   []string  `json:"order,omitempty"` // of all rows, where there are new ones
	Head    string    `json:"head,omitempty"`
	Picture string    `json:"picture,omitempty"`
	Extra   string    `json:"extra,omitempty"`
	Ver     int       `json:"ver"`
	Over    bool      `json:"-"`
}

type logNews struct {
	Key     string   `json:"k"`
	Instead bool     `json:"instead,omitempty"` // of all that the page has
	Total   int      `json:"n"`
	ErrorAt int      `json:"err,omitempty"`
	Lines   [][2]any `json:"lines"` // number and HTML
}

func (n news) empty() bool {
	return len(n.Logs) == 0 && len(n.Rows) == 0 && n.Head == "" && n.Picture == "" && n.Extra == "" && !n.Over
}

// since collects what a page that has seen the event after and the rendering ver
// lacks, and answers where it stands then, and what to wait for.
func (w *watch) since(s *Server, after uint64, ver int) (n news, seq uint64, now int, grown <-chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.render(s, time.Now())
	if ver > w.version { // of a time when the clock was ahead
		ver = 0
	}
	for _, l := range w.logs {
		lines, instead := l.since(after)
		if len(lines) == 0 {
			continue
		}
		ln := logNews{Key: l.key, Instead: instead, Total: l.total, ErrorAt: l.errorAt}
		for _, line := range lines {
			ln.Lines = append(ln.Lines, [2]any{line.N, line.HTML})
		}
		n.Logs = append(n.Logs, ln)
	}
	slices.SortFunc(n.Logs, func(a, b logNews) int { return strings.Compare(a.Key, b.Key) })
	for _, r := range w.rows {
		if r.ver > ver {
			n.Rows = append(n.Rows, r)
		}
	}
	if len(n.Rows) > 0 {
		for _, r := range w.rows {
			n.Order = append(n.Order, r.Key)
		}
	}
	if w.head.ver > ver {
		n.Head = w.head.html
	}
	if w.picture.ver > ver {
		n.Picture = w.picture.html
	}
	if w.extra.ver > ver {
		n.Extra = w.extra.html
	}
	n.Over, n.Ver = w.over, w.version
	return n, w.seq, w.version, w.grown
}

// buildEvents streams what happens in a build to its page.
func (s *Server) buildEvents(w http.ResponseWriter, r *http.Request) {
	b, err := s.store.Build(r.Context(), r.PathValue("id"))
	if err != nil {
		s.fail(w, r, err)
		return
	}
	st, release := s.open(w, r)
	if st == nil {
		return
	}
	defer release()
	if b.State.Over() && s.watches.has(b.ID) == nil { // the page was made while it ran
		_ = st.send("over", 0, true)
		return
	}
	if b.State == history.Running && r.URL.Query().Get("state") == string(history.Queued) {
		_ = st.send("began", 0, true)
		return
	}
	watch, leave := s.watches.get(b.ID)
	defer leave()
	ver, _ := strconv.Atoi(r.URL.Query().Get("ver"))
	if b.State == history.Queued {
		s.await(r.Context(), st, watch)
		return
	}
	s.tell(r.Context(), st, watch, lastSeen(r), ver)
}

// await tells the page of a build that waits when it does no longer.
func (s *Server) await(ctx context.Context, st *stream, watch *watch) {
	for last := time.Now(); ; {
		watch.mu.Lock()
		begun, grown := watch.seq > 0 || watch.over, watch.grown
		watch.mu.Unlock()
		if begun {
			_ = st.send("began", 0, true)
			return
		}
		if time.Since(last) > beat {
			if last = time.Now(); st.write(": here\n\n") != nil {
				return
			}
		}
		select {
		case <-grown:
		case <-s.watches.next(): // places in the queue have changed
			if st.send("began", 0, true) != nil {
				return
			}
		case <-time.After(beat):
		case <-ctx.Done():
			return
		}
	}
}

func (s *Server) tell(ctx context.Context, st *stream, watch *watch, after uint64, ver int) {
	if !watch.catchUp(ctx) {
		return
	}
	last := time.Now()
	for {
		n, seq, now, grown := watch.since(s, after, ver)
		sent := time.Now()
		switch {
		case n.Over:
			n.Over = false
			if !n.empty() && st.send("", seq, n) != nil {
				return
			}
			_ = st.send("over", seq, true)
			return
		case !n.empty():
			if st.send("", seq, n) != nil {
				return
			}
			last = sent
		case sent.Sub(last) > beat:
			if st.write(": here\n\n") != nil {
				return
			}
			last = sent
		}
		after, ver = max(after, seq), now
		select {
		case <-grown:
		case <-time.After(renderEvery): // times of what runs go on without events
		case <-ctx.Done():
			return
		}
		if d := gather - time.Since(sent); d > 0 {
			select {
			case <-time.After(d):
			case <-ctx.Done():
				return
			}
		}
	}
}

// listEvents tells pages of many builds that they are out of date.
func (s *Server) listEvents(w http.ResponseWriter, r *http.Request) {
	st, release := s.open(w, r)
	if st == nil {
		return
	}
	defer release()
	defer s.watches.look()()
	last := time.Now()
	for {
		grown := s.watches.next()
		select {
		case <-grown:
			if st.send("changed", 0, true) != nil {
				return
			}
			last = time.Now()
		case <-time.After(beat):
			if time.Since(last) > beat && st.write(": here\n\n") != nil {
				return
			}
		case <-r.Context().Done():
			return
		}
		select { // several builds of one click are one change
		case <-time.After(200 * time.Millisecond):
		case <-r.Context().Done():
			return
		}
	}
}

// look has builds of the command line noticed while some page shows lists.
func (ws *watches) look() (leave func()) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	ws.looks++
	if !ws.polls { // the last one's may not have noticed yet that nobody looked
		ws.polls = true
		go ws.poll()
	}
	return func() {
		ws.mu.Lock()
		defer ws.mu.Unlock()
		ws.looks--
	}
}

func (ws *watches) poll() {
	was := ""
	for first := true; ; first = false {
		list, err := ws.s.store.List(ws.s.ctx, history.Filter{Limit: 30})
		now := ""
		for _, b := range list {
			now += b.ID + string(b.State) + " "
		}
		if err == nil && now != was && !first {
			ws.changed()
		}
		was = now
		select {
		case <-time.After(time.Second):
		case <-ws.s.ctx.Done():
			return
		}
		ws.mu.Lock()
		if ws.looks == 0 {
			ws.polls = false
			ws.mu.Unlock()
			return
		}
		ws.mu.Unlock()
	}
}
