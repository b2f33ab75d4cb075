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
	"sync"
	"time"
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
	ctx context.Context // of the request and its login; ends when nobody takes what is written
	end func()
	w   http.ResponseWriter
	rc  *http.ResponseController

	mu    sync.Mutex
	last  time.Time // when something was written
	beats sync.WaitGroup
}

// open begins a stream, which the caller closes. It is nil where there are too many,
// which is answered, or where nobody listens any more.
func (s *Server) open(w http.ResponseWriter, r *http.Request) *stream {
	release, err := s.streams.take(s.client(r))
	if err != nil {
		s.fail(w, r, err)
		return nil
	}
	ctx, leave := s.door.stay(r)
	st := &stream{ctx: ctx, w: w, rc: http.NewResponseController(w)}
	st.end = func() { leave(); release() }
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("X-Accel-Buffering", "no") // nginx would hold lines back
	_ = st.rc.SetReadDeadline(time.Time{})
	w.WriteHeader(http.StatusOK)
	// Lost ones come back after a second; what they missed is sent then.
	if err := st.write("retry: 1000\n\n"); err != nil {
		st.end()
		return nil
	}
	st.beats.Go(st.beat)
	return st
}

func (st *stream) close() {
	st.end()
	st.beats.Wait()
}

// beat says that a stream without news is there.
func (st *stream) beat() {
	for {
		select {
		case <-time.After(beat):
			st.mu.Lock()
			quiet := time.Since(st.last) >= beat
			st.mu.Unlock()
			if quiet && st.write(": here\n\n") != nil {
				return
			}
		case <-st.ctx.Done():
			return
		}
	}
}

func (st *stream) write(text string) error {
	st.mu.Lock()
	defer st.mu.Unlock()
	if err := st.ctx.Err(); err != nil { // its login may have ended
		return err
	}
	st.last = time.Now()
	_ = st.rc.SetWriteDeadline(st.last.Add(writeWithin))
	_, err := st.w.Write([]byte(text))
	if err == nil {
		err = st.rc.Flush()
	}
	if err != nil {
		st.end()
	}
	return err
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

// lastSeen is where a client stands: what it says of itself when it comes back, or asks
// for.
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
