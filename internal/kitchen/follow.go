package kitchen

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/lighter-oci/lighter/internal/history"
)

// maxFollowed is how many pages one stream is for; their names fit into an address.
const maxFollowed = 50

// follower is where one page is, and so what it wants to hear of.
type follower struct {
	build string        // "" is that lists of builds have changed
	state history.State // of the build when the page was made
	after uint64        // Seq of the last event that it has
	ver   int           // of the rendering that it has
}

// followers reads them: "lists", or "BUILD.STATE.AFTER.VER" each.
func followers(of []string) ([]follower, error) {
	if len(of) == 0 || len(of) > maxFollowed {
		return nil, fault{http.StatusBadRequest, fmt.Sprintf("a stream is for 1 to %d pages, not %d", maxFollowed, len(of)), ""}
	}
	list := make([]follower, len(of))
	for i, text := range of {
		if text == "lists" {
			continue
		}
		part := strings.Split(text, ".")
		if len(part) != 4 || part[0] == "" {
			return nil, fault{http.StatusBadRequest, "of=" + clip(text) + ": want lists, or BUILD.STATE.AFTER.VER", ""}
		}
		f := &list[i]
		f.build, f.state = part[0], history.State(part[1])
		f.after, _ = strconv.ParseUint(part[2], 10, 64)
		f.ver, _ = strconv.Atoi(part[3])
	}
	return list, nil
}

// heard is what a page gets at a time.
type heard struct {
	Of   int    `json:"of"`            // which of those that the stream is for
	Is   string `json:"is"`            // "news", "changed", and after "began" or "over" nothing more
	Seq  uint64 `json:"seq,omitempty"` // where the page is now
	News *news  `json:"news,omitempty"`
}

// pageEvents streams to all pages that a browser has open what each wants to hear of.
func (s *Server) pageEvents(w http.ResponseWriter, r *http.Request) {
	list, err := followers(r.URL.Query()["of"])
	if err != nil {
		s.fail(w, r, err)
		return
	}
	st := s.open(w, r)
	if st == nil {
		return
	}
	defer st.close()
	var all sync.WaitGroup
	for i, f := range list {
		all.Go(func() {
			send := func(h heard) error {
				h.Of = i
				return st.send("", 0, h)
			}
			if s.follow(st.ctx, f, send) != nil {
				st.end() // the browser comes back in a second
			}
		})
	}
	all.Wait()
}

// follow tells one page. An error is that it could not be found out what, or told.
func (s *Server) follow(ctx context.Context, f follower, send func(heard) error) error {
	if f.build == "" {
		return s.followLists(ctx, send)
	}
	b, err := s.store.Build(ctx, f.build)
	var none *history.NotFoundError
	switch {
	case errors.As(err, &none), err == nil && b.State.Over() && s.watches.has(b.ID) == nil: // the page was made while it ran
		return send(heard{Is: "over"})
	case err != nil:
		return err
	case b.State == history.Running && f.state == history.Queued:
		return send(heard{Is: "began"})
	}
	watch, leave := s.watches.get(b.ID)
	defer leave()
	if b.State == history.Queued {
		return s.await(ctx, send, watch)
	}
	return s.tell(ctx, send, watch, f)
}

// await tells the page of a build that waits when it does no longer, or in another
// place of the queue.
func (s *Server) await(ctx context.Context, send func(heard) error, watch *watch) error {
	for {
		watch.mu.Lock()
		begun, grown := watch.seq > 0 || watch.over, watch.grown
		watch.mu.Unlock()
		if begun {
			return send(heard{Is: "began"})
		}
		select {
		case <-grown:
		case <-s.watches.next():
			return send(heard{Is: "began"})
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (s *Server) tell(ctx context.Context, send func(heard) error, watch *watch, f follower) error {
	if !watch.catchUp(ctx) {
		return ctx.Err()
	}
	for {
		n, seq, now, grown := watch.since(s, f.after, f.ver)
		sent := time.Now()
		over := n.Over
		n.Over = false
		if !n.empty() {
			if err := send(heard{Is: "news", Seq: seq, News: &n}); err != nil {
				return err
			}
		}
		if over {
			return send(heard{Is: "over"})
		}
		f.after, f.ver = max(f.after, seq), now
		select {
		case <-grown:
		case <-time.After(renderEvery): // times of what runs go on without events
		case <-ctx.Done():
			return ctx.Err()
		}
		if d := gather - time.Since(sent); d > 0 {
			select {
			case <-time.After(d):
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}
}

// followLists tells a page of many builds that it is out of date.
func (s *Server) followLists(ctx context.Context, send func(heard) error) error {
	defer s.watches.look()()
	for {
		grown := s.watches.next()
		select {
		case <-grown:
			if err := send(heard{Is: "changed"}); err != nil {
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		}
		select { // several builds of one click are one change
		case <-time.After(200 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
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
