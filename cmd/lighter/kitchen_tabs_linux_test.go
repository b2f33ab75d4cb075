package main

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"

	"github.com/lighter-oci/lighter/internal/history"
)

// Ten pages of a running build that are all in sight, in windows of their own, have
// each of its lines once, and leave room for another page: those that came late,
// were loaded again, or were cut off, too.
func TestKitchenTabs(t *testing.T) {
	for name, script := range map[string]string{
		"a worker for all": "",
		"without workers":  "delete window.SharedWorker", // as Chrome on Android
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t)
			s.shell("app", `RUN echo it has begun; i=0; while true; do i=$((i+1)); echo "tick $i"; sleep 0.2; done`)
			line := cutter(t)
			s.write("kitchen.toml", fmt.Sprintf("hosts = [%q]\n", line.addr()))
			k := s.serve("--config", "kitchen.toml", "app")
			line.leadsTo(k.url)
			id := k.begin(`{"project":"app","verb":"build"}`)[0]
			k.live(id, "tick 1")
			first := browse(t, "http://"+line.addr())
			tabs := []*browser{first}
			many := 10
			if script != "" {
				many = 3 // a stream each
			}
			for len(tabs) < many {
				tabs = append(tabs, first.another(script))
			}
			first.before(script)
			for _, b := range tabs {
				b.open("/b/" + id)
			}
			for _, b := range tabs {
				b.ticks(40)
			}
			other := first.another(script)
			other.open("/history")
			other.until("another page is shown", `document.querySelector("table.builds")`)
			if n := line.count(); script == "" && n > 6 {
				t.Errorf("%d connections are open", n)
			}

			act(tabs[1], "reload", chromedp.Reload())
			lines := func() int { return js[int](first, `document.querySelectorAll(".lines li").length`) }
			tabs[1].ticks(lines() + 10) // and has no other reason to ask anew than this:
			line.cut()
			n := lines()
			for _, b := range tabs {
				b.ticks(n + 40)
				b.until("it is connected", `document.getElementById("connection").hidden`)
			}
			if other.until("the list is live", `document.querySelector(".state.running")`); k.ask("POST", "/api/v1/builds/"+id+"/stop", "", nil) != 202 {
				t.Error("it cannot be stopped")
			}
			for _, b := range tabs {
				b.until("it is said to be killed", `document.querySelector("h1 .state.killed")`)
			}
			if state := k.build(id).State; state != history.Killed {
				t.Errorf("it is %s", state)
			}
		})
	}
}

// another opens a window beside this one, in which a script runs before a page's own.
func (b *browser) another(script string) *browser {
	b.t.Helper()
	n := &browser{t: b.t, base: b.base, dir: b.dir}
	ctx, cancel := chromedp.NewContext(b.ctx)
	b.t.Cleanup(cancel)
	n.ctx = ctx
	if err := chromedp.Do(ctx, chromedp.Navigate("about:blank")); err != nil {
		b.t.Fatal(err)
	}
	n.before(script)
	return n
}

func (b *browser) before(script string) {
	b.t.Helper()
	act(b, "script", chromedp.Func(func(ctx context.Context, _ *chromedp.Target) error {
		_, err := chromedp.Call(ctx, page.AddScriptToEvaluateOnNewDocument, page.AddScriptToEvaluateOnNewDocumentParams{Source: script})
		return err
	}))
}

// ticks waits for so many lines, and wants each once and none missing.
func (b *browser) ticks(n int) {
	b.t.Helper()
	b.until("the page is in sight", `document.visibilityState == "visible"`)
	b.until(fmt.Sprintf("it has tick %d", n), `[...document.querySelectorAll(".lines li")].some(e => e.textContent == "tick %d")`, n)
	// A page that is loaded late begins with the last 200.
	if wrong := js[string](b, `(() => { const all = [...document.querySelectorAll(".lines li")].filter(e => e.textContent.startsWith("tick"));
		return all.find((e, i) => e.value !== all[0].value + i || e.textContent !== "tick " + (e.value - 1))?.outerHTML ?? ""; })()`); wrong != "" {
		b.t.Errorf("in the place of another line there is %q", wrong)
	}
}

// severed is a line to a server that can be cut.
type severed struct {
	l  net.Listener
	mu sync.Mutex
	to string
	on map[net.Conn]net.Conn
}

func cutter(t *testing.T) *severed {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &severed{l: l, on: map[net.Conn]net.Conn{}}
	t.Cleanup(func() { l.Close(); s.cut() })
	go func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			go s.join(in)
		}
	}()
	return s
}

func (s *severed) addr() string { return s.l.Addr().String() }

func (s *severed) leadsTo(url string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.to = url[len("http://"):]
}

func (s *severed) join(in net.Conn) {
	defer in.Close()
	s.mu.Lock()
	to := s.to
	s.mu.Unlock()
	out, err := net.Dial("tcp", to)
	if err != nil {
		return
	}
	defer out.Close()
	s.mu.Lock()
	s.on[in] = out
	s.mu.Unlock()
	go func() { _, _ = io.Copy(out, in); in.Close(); out.Close() }()
	_, _ = io.Copy(in, out)
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.on, in)
}

func (s *severed) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.on)
}

// cut ends all connections there are; new ones can be made.
func (s *severed) cut() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for in, out := range s.on {
		in.Close()
		out.Close()
	}
}

// Who logs out in one window is told so in the others, which hear nothing more until
// somebody logs in; and a page that gets no stream says why.
func TestKitchenLogsOut(t *testing.T) {
	s := newSite(t)
	s.shell("app", `RUN true`)
	const token = "a token of some length"
	s.write("kitchen.toml", fmt.Sprintf("token-hash = \"sha256:%x\"\n", sha256.Sum256([]byte(token))))
	k := s.serve("--config", "kitchen.toml", "app")
	b := browse(t, k.url)
	login := func(b *browser) {
		b.open("/login")
		act(b, "token", chromedp.SendKeys(chromedp.CSS("[name=secret]"), token))
		b.click(`form.login button`)
		b.until("the overview is shown", `document.querySelector("table.projects")`)
	}
	login(b)
	streams := func() float64 {
		req, _ := http.NewRequest("GET", k.url+"/metrics", nil)
		req.Header.Set("Authorization", "Bearer "+token)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		text, _ := io.ReadAll(resp.Body)
		var n float64
		if _, after, ok := strings.Cut(string(text), "\nlighter_kitchen_streams_open "); ok {
			_, _ = fmt.Sscan(after, &n)
		}
		return n
	}
	eventually(t, "it has a stream", func() bool { return streams() == 1 })
	other := b.another("")
	other.open("/queue")
	other.click(`form[action="/logout"] button`)
	b.until("it says that it is logged out", `document.getElementById("connection").checkVisibility() && document.getElementById("connection").innerText.includes("logged out")`)
	if n := streams(); n != 0 {
		t.Errorf("%v streams go on", n)
	}
	login(other)
	b.until("it goes on", `document.getElementById("connection").hidden`)

	for range 63 {
		req, _ := http.NewRequest("GET", k.url+"/events?of=lists", nil)
		req.Header.Set("Authorization", "Bearer "+token)
		resp, err := http.DefaultClient.Do(req)
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Fatalf("%v %v", resp, err)
		}
		defer resp.Body.Close()
	}
	third := b.another("delete window.SharedWorker")
	third.open("/queue")
	third.until("it says why it hears nothing", `document.getElementById("connection").innerText.includes("too many event streams: 127.0.0.1 has 64")`)
}
