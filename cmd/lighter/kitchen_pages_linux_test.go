package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/lighter-oci/lighter/internal/history"
)

// mostBytes is what a page may weigh with all that it loads, as transferred.
const mostBytes = 150_000

// Every page in every state, for those who see it well and those who do not, on a
// desk and a phone, light and dark, with a keyboard, and without scripts.
func TestKitchenPages(t *testing.T) {
	s := newSite(t)
	s.shell("app", `ARG WAIT=true`, `RUN echo it has begun; $WAIT`,
		`RUN for i in $(seq 500); do printf '\033[3%dm%d\033[0m of a long log, with a line that a phone cannot show without a break\n' $((i%8)) $i; done; seq 100000 > /numbers`)
	s.write("app/lighter.toml", "image = \"localhost:1/app\"\ntags = [\"{version}\"]\nversion = \"1.2.3\"\nplatforms = [\"linux/amd64\", \"linux/arm64\"]\n[variants.slow]\nargs = { WAIT = \""+s.asleep+"\" }\n")
	s.shell("failing", `RUN echo compiling; sleep 4; echo 'main.c:12:5: error: expected ; before }'; echo '<b>no tag</b>'; exit 3`)
	s.write("broken/lighter.toml", "image = \"a/b\"\ntags = [\n")
	k := s.serve("--builds", "1", "app", "failing", "broken")
	b := browse(t, k.url)
	check := b.checks()

	for name, path := range map[string]string{"empty": "/", "empty queue": "/queue", "empty history": "/history", "project": "/p/app", "broken": "/p/broken"} {
		check(name, path)
	}
	one := `"platforms":["linux/amd64"],`
	failed := k.begin(`{"project":"failing","verb":"build"}`)[0]
	first := k.begin(`{"project":"app",` + one + `"verb":"build","variants":[""]}`)[0]
	second := k.begin(`{"project":"app",` + one + `"verb":"build","variants":[""]}`)[0]
	slow := k.begin(`{"project":"app",` + one + `"verb":"build","variants":["slow"]}`)[0]
	waiting := k.begin(`{"project":"app",` + one + `"verb":"build","variants":[""]}`)[0]
	k.live(slow, "it has begun")
	if state := k.build(first).State; state != history.Done {
		t.Fatalf("the first is %s: %s", state, k.build(first).Error)
	}
	for _, p := range [][2]string{
		{"running", "/b/" + slow}, {"waiting", "/b/" + waiting}, {"queue", "/queue"}, {"overview", "/"}, {"failed", "/b/" + failed}, {"done", "/b/" + second},
		{"compare", "/compare?a=" + first + "&b=" + second}, {"history", "/history"}, {"found nothing", "/history?q=nothing-is-like-that"},
		{"used project", "/p/app"}, {"no such build", "/b/none"}, {"no such page", "/none"},
	} {
		check(p[0], p[1])
	}
	b.open("/b/" + second)
	check("log", strings.TrimPrefix(js[string](b, `[...document.querySelectorAll(".step")].at(-1).querySelector(".full").href`), k.url))

	t.Run("disconnected", func(t *testing.T) {
		b.open("/b/" + slow)
		b.until("it is connected", `document.querySelector(".lines li")`)
		if err := k.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		<-k.done
		b.until("it says that it is disconnected", `!document.getElementById("connection").hidden`)
		b.sound(t, "disconnected")
	})
	k = s.serve("app")
	b.base = k.url
	check("interrupted", "/b/"+slow)
	check("tune", "/b/"+first+"/tune")
	check("probe", "/p/app/probe")
	t.Run("without scripts", func(t *testing.T) { b.scriptless(k) })
	s.write("kitchen.toml", `token-hash = "sha256:`+strings.Repeat("0", 64)+`"`)
	s.env = append(s.env, history.Variable+"="+filepath.Join(s.dir, "other"))
	b.base = s.serve("--config", "kitchen.toml", "app").url
	check("login", "/login")
}

// checks opens pages, one way after another.
func (b *browser) checks() func(name, path string) {
	return func(name, path string) {
		b.t.Run(name, func(t *testing.T) {
			b.weigh(t, path)
			b.sound(t, name)
			b.tabs(t)
		})
	}
}

// sound runs testdata/checks.js on what is shown.
func (b *browser) sound(t *testing.T, name string) {
	t.Helper()
	script, err := os.ReadFile("testdata/checks.js")
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []screen{phone, desk} {
		for _, scheme := range []string{"dark", "light"} {
			b.prefers("prefers-color-scheme", scheme, "prefers-reduced-motion", "reduce")
			b.size(s)
			// Texts of pictures are looked for by place.
			b.size(screen{s.name, s.width, js[int64](b, `document.documentElement.scrollHeight`)})
			js[any](b, `new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done(true))))`)
			wrong := js[[]string](b, "(%s)()", script)
			for _, w := range wrong[:min(len(wrong), 12)] {
				t.Errorf("%s, %s: %s", s.name, scheme, w)
			}
			if len(wrong) > 0 {
				b.shoot("wrong-" + strings.ReplaceAll(name, " ", "-") + "-" + s.name + "-" + scheme)
			}
		}
	}
	b.size(desk)
}

// weigh opens a page with nothing of it at hand, and adds up what comes.
func (b *browser) weigh(t *testing.T, path string) {
	t.Helper()
	act(b, "no cache", chromedp.Func(func(ctx context.Context, _ *chromedp.Target) error {
		_, err := chromedp.Call(ctx, network.SetCacheDisabled, network.SetCacheDisabledParams{CacheDisabled: true})
		return err
	}))
	b.open(path)
	n := js[float64](b, `["navigation", "resource"].flatMap(kind => performance.getEntriesByType(kind)).reduce((sum, e) => sum + e.transferSize, 0)`)
	t.Logf("%s: %.0f bytes", path, n)
	if n < 1000 || n > mostBytes {
		t.Errorf("it weighs %.0f bytes", n)
	}
}

// tabs goes through the page with the Tab key: in the order of the page, and where
// one is can be seen. What is drawn anew meanwhile keeps the focus; where a timeline
// that grows joins bars of short steps meanwhile, that one move is not counted.
func (b *browser) tabs(t *testing.T) {
	t.Helper()
	b.do("start at the top", `document.activeElement.blur(); getSelection().removeAllRanges(); scrollTo(0, 0);
		window.stops = () => [...document.querySelectorAll("a[href],button,input:not([type=hidden]),select,summary,[tabindex='0']")]
			.filter(e => e.checkVisibility({ visibilityProperty: true }) && !(e.type === "radio" && !e.checked))`)
	for range 60 {
		b.do("where it is", `window.was = { n: stops().length, next: stops().indexOf(document.activeElement) + 1 }`)
		act(b, "tab", chromedp.KeyEvent(kb.Tab))
		at := js[struct {
			I, N, Next int
			Joined     bool
			Seen       bool
			What       string
		}](b, `(() => { const e = document.activeElement, s = getComputedStyle(e);
			const drawn = e.closest("svg") && [...e.children].some(c => parseFloat(getComputedStyle(c).strokeWidth) >= 2.5);
			return { I: stops().indexOf(e), N: stops().length, Next: was.next, Joined: was.n !== stops().length, Seen: Boolean(s.outlineStyle !== "none" && parseFloat(s.outlineWidth) >= 2 || drawn), What: e.outerHTML.slice(0, 120) }; })()`)
		if !at.Seen {
			t.Errorf("that the focus is here is not to be seen: %s", at.What)
		}
		if at.I != at.Next && !at.Joined {
			t.Fatalf("Tab goes to %d instead of %d of %d: %s", at.I, at.Next, at.N, at.What)
		}
		if at.I+1 >= at.N {
			return
		}
	}
	t.Fatal("Tab does not come to the end of the page")
}

func (b *browser) do(what, script string) {
	b.t.Helper()
	act(b, what, chromedp.Evaluate[chromedp.Void](script))
}

// scriptless builds, and reads the log, in a browser that runs no scripts.
func (b *browser) scriptless(k *dashboard) {
	b.t.Helper()
	off := func(off bool) {
		act(b, "scripts", chromedp.Func(func(ctx context.Context, _ *chromedp.Target) error {
			_, err := chromedp.Call(ctx, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: off})
			return err
		}))
	}
	off(true)
	defer off(false)
	b.open("/p/app")
	b.click(`[name=platform][value="linux/arm64"]`)
	b.click(`button[value=build]`)
	b.until("the build has a page", `location.pathname.startsWith("/b/")`)
	eventually(b.t, "it is made", func() bool {
		return k.build(strings.TrimPrefix(js[string](b, `location.pathname`), "/b/")).State == history.Done
	})
	act(b, "reload", chromedp.Reload())
	b.until("it is said to be done", `document.querySelector("h1 .state.done")`)
	b.click(`.step:last-child summary`)
	b.click(`.step:last-child .full`)
	b.until("its log is shown", `document.body.innerText.includes("of a long log")`)
}
