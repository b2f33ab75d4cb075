package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
)

// browser is a tab of a Chromium.
type browser struct {
	t    *testing.T
	ctx  context.Context
	base string // what addresses begin with
	dir  string // of screenshots
}

type screen struct {
	name          string
	width, height int64
}

var (
	desk  = screen{"desk", 1280, 800}
	phone = screen{"phone", 390, 844}
)

// browse opens one. Screenshots go to $LIGHTER_SCREENSHOTS, or to where `go test
// -artifacts` keeps what a test makes.
func browse(t *testing.T, base string) *browser {
	t.Helper()
	b := &browser{t: t, base: base, dir: os.Getenv("LIGHTER_SCREENSHOTS")}
	if b.dir == "" {
		b.dir = t.ArtifactDir()
	}
	if err := os.MkdirAll(b.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	home, err := os.MkdirTemp("", "chromium-")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := chromedp.NewExecAllocator(context.Background(), append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath("chromium"),
		chromedp.NoSandbox, // Chromium has none for root
		chromedp.UserDataDir(home),
	)...)
	b.ctx, _ = chromedp.NewContext(ctx)
	t.Cleanup(func() {
		_ = chromedp.Cancel(b.ctx)
		cancel()
		// Its processes write for a moment after it has ended.
		eventually(t, "Chromium's directory is gone", func() bool { return os.RemoveAll(home) == nil })
	})
	// The browser lives as long as the context of the first action.
	if err := chromedp.Do(b.ctx, chromedp.Navigate("about:blank")); err != nil {
		t.Fatalf("chromium: %v", err)
	}
	b.size(desk)
	return b
}

// act runs an action, in patience, and answers its value.
func act[T any](b *browser, what string, a chromedp.Action[T]) T {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	v, err := chromedp.Run(ctx, a)
	if err != nil {
		b.t.Fatalf("%s: %v", what, err)
	}
	return v
}

// js evaluates an expression, and waits for what it promises.
func js[T any](b *browser, format string, args ...any) T {
	b.t.Helper()
	expression := fmt.Sprintf(format, args...)
	return act(b, fmt.Sprintf("%.200s", expression), chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
}

func (b *browser) open(path string) {
	b.t.Helper()
	act(b, "open "+path, chromedp.Navigate(b.base+path))
}

// click clicks on the first element that a CSS selector finds, as a mouse does.
func (b *browser) click(selector string) {
	b.t.Helper()
	act(b, "click "+selector, chromedp.Click(chromedp.CSS(selector), chromedp.NodeVisible))
}

func (b *browser) size(s screen) {
	b.t.Helper()
	options := []chromedp.EmulateViewportOption{}
	if s == phone {
		options = append(options, chromedp.EmulateMobile, chromedp.EmulateTouch)
	}
	act(b, s.name, chromedp.EmulateViewport(s.width, s.height, options...))
}

// prefers is what the page hears of its reader's wishes: "prefers-color-scheme", "dark".
func (b *browser) prefers(pairs ...string) {
	b.t.Helper()
	var features []*emulation.MediaFeature
	for i := 0; i < len(pairs); i += 2 {
		features = append(features, &emulation.MediaFeature{Name: pairs[i], Value: pairs[i+1]})
	}
	act(b, "media", chromedp.Func(func(ctx context.Context, _ *chromedp.Target) error {
		_, err := chromedp.Call(ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: features})
		return err
	}))
}

// until waits for an expression to be true, over reloads of the page.
func (b *browser) until(what, format string, args ...any) {
	b.t.Helper()
	expression := fmt.Sprintf("Boolean("+format+")", args...)
	for end := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		ctx, cancel := context.WithTimeout(b.ctx, patience)
		yes, err := chromedp.Run(ctx, chromedp.Evaluate[bool](expression))
		cancel()
		if err == nil && yes {
			return
		}
		if time.Now().After(end) {
			b.shoot("failed")
			b.t.Fatalf("still not so: %s (%v) on\n%s", what, err, js[string](b, "location + '\\n' + document.body.innerText"))
		}
	}
}

// text is what an element says.
func (b *browser) text(selector string) string {
	b.t.Helper()
	return js[string](b, "document.querySelector(%s)?.innerText ?? ''", quoted(selector))
}

func quoted(s string) string {
	q, _ := json.Marshal(s)
	return string(q)
}

// shoot writes a screenshot of the whole page.
func (b *browser) shoot(name string) {
	b.t.Helper()
	// What is out of sight is not drawn: the window is made as high as the page.
	at := js[struct{ W, H int64 }](b, `({W: innerWidth, H: document.documentElement.scrollHeight})`)
	act(b, "height", chromedp.EmulateViewport(at.W, at.H))
	act(b, "drawn", chromedp.Sleep(100*time.Millisecond))
	png := act(b, "screenshot", chromedp.FullScreenshot(100))
	if err := os.WriteFile(filepath.Join(b.dir, name+".png"), png, 0o644); err != nil {
		b.t.Fatal(err)
	}
}

// looks writes screenshots of the page on a desk and a phone, light and dark.
func (b *browser) looks(name string) {
	b.t.Helper()
	for _, s := range []screen{phone, desk} {
		for _, scheme := range []string{"dark", "light"} {
			b.prefers("prefers-color-scheme", scheme)
			b.size(s)
			b.shoot(name + "-" + s.name + "-" + scheme)
		}
	}
}
