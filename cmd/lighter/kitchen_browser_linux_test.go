package main

import (
	"strings"
	"testing"
	"time"

	"github.com/lighter-oci/lighter/internal/history"
	"github.com/lighter-oci/lighter/internal/registry/registrytest"
)

// What somebody does in a browser: two variants are chosen and built, lines of the
// one come while it runs, until it is stopped; the other is published, and held
// against the release before it.
func TestKitchenInBrowser(t *testing.T) {
	reg := registrytest.Start(t, registrytest.Options{})
	s := newSite(t)
	s.shell("app", `ARG WAIT=true`,
		`RUN echo it has begun; if [ "$WAIT" != true ]; then $WAIT & i=0; while true; do i=$((i+1)); echo "tick $i"; sleep 0.2; done; fi`,
		`RUN echo it is made > /made`)
	s.write("app/lighter.toml", `image = "`+reg.Ref("kitchen/app")+`"
tags = ["{version}"]
version = "1.2.3"
[variants.slow]
args = { WAIT = "`+s.asleep+`" }
`)
	k := s.serve("app")
	b := browse(t, k.url)

	b.open("/")
	b.click(`a[href="/p/app"]`)
	b.until("the project is shown", `location.pathname == "/p/app" && document.readyState == "complete"`)
	b.looks("project")
	b.choose("", "slow")
	b.click(`button[value=build]`)
	b.until("both are in the queue", `location.pathname == "/queue" && document.querySelectorAll("main [href^='/b/']").length >= 1`)
	b.looks("queue")
	slow := s.buildOf(k, "slow")
	plain := s.buildOf(k, "")
	b.stops(k, slow)

	eventually(t, "the other is made", func() bool { return k.build(plain).State == history.Done })
	first := b.publishes(k, "")
	if !tagged(t, reg, "kitchen/app:1.2.3") {
		t.Error("the registry has no kitchen/app:1.2.3")
	}
	second := b.publishes(k, "")
	b.compares(first, second)
}

// choose sets the boxes of the variants, as a mouse does.
func (b *browser) choose(variants ...string) {
	b.t.Helper()
	for i, name := range js[[]string](b, `[...document.querySelectorAll("[name=variant]")].map(e => e.value)`) {
		want := false
		for _, v := range variants {
			want = want || v == name
		}
		box := `[name=variant][value="` + name + `"]`
		if js[bool](b, `document.querySelectorAll("[name=variant]")[%d].checked`, i) != want {
			b.click(box)
		}
	}
}

// buildOf is the last build of a variant.
func (s *site) buildOf(k *dashboard, variant string) string {
	s.t.Helper()
	var list struct{ Builds []history.Build }
	k.ask("GET", "/api/v1/builds", "", &list)
	for _, b := range list.Builds {
		if b.Variant == variant {
			return b.ID
		}
	}
	s.t.Fatalf("no build of variant %q: %+v", variant, list.Builds)
	return ""
}

// stops sees a build's lines come, and ends it.
func (b *browser) stops(k *dashboard, id string) {
	b.t.Helper()
	s := k.s
	b.open("/b/" + id)
	js[bool](b, `window.sameDocument = true`)
	// The highest: a page that comes late begins with a later line.
	const tick = `Math.max(0, ...[...document.querySelectorAll(".lines li")].map(e => Number(e.textContent.match(/^\s*tick (\d+)\s*$/)?.[1] ?? 0)))`
	b.until("it has begun", tick+" > 0")
	b.until("more lines come", tick+" > %d", js[int](b, tick)+10)
	if k.build(id).State != history.Running {
		b.t.Error("its lines came when it had ended")
	}
	if !js[bool](b, `window.sameDocument === true`) {
		b.t.Error("the page was loaded again for them")
	}
	b.until("the step is said to run", `document.querySelector(".step:has(.lines li) .state.running")`)
	if len(running(s.asleep)) == 0 {
		b.t.Error("no process of it is to be seen")
	}
	b.looks("running")
	asked := time.Now()
	b.click(`button.stop`)
	b.until("it is said to be killed", `document.querySelector("h1 .state.killed")`)
	if took := time.Since(asked); took > 3*time.Second {
		b.t.Errorf("that took %s", took)
	}
	eventually(b.t, "its processes are gone", func() bool { return len(running(s.asleep)) == 0 })
	if state := k.build(id).State; state != history.Killed {
		b.t.Errorf("the history says %s", state)
	}
	if shown := js[int](b, `document.querySelectorAll("button.stop").length`); shown != 0 {
		b.t.Error("it can still be stopped")
	}
	b.looks("killed")
}

// publishes makes a release of one variant and answers its ID, on its page.
func (b *browser) publishes(k *dashboard, variant string) string {
	b.t.Helper()
	b.open("/p/app")
	b.choose(variant)
	b.click(`button[value=publish]`)
	b.until("the release has a page", `location.pathname.startsWith("/b/") && document.readyState == "complete"`)
	id := strings.TrimPrefix(js[string](b, `location.pathname`), "/b/")
	b.until("it is published", `document.querySelector("h1 .state.done")`)
	if b := k.build(id); b.Verb != "publish" || b.State != history.Done {
		k.s.t.Errorf("%+v", b)
	}
	return id
}

// compares goes from the page of a build to what differs from the one before.
func (b *browser) compares(first, second string) {
	b.t.Helper()
	b.looks("published")
	b.click(`a[href="/compare?a=` + first + `&b=` + second + `"]`)
	b.until("the comparison is shown", `location.pathname == "/compare" && document.readyState == "complete"`)
	text := b.text("main")
	for _, want := range []string{history.Short(first), history.Short(second), "Steps", "Layers"} {
		if !strings.Contains(text, want) {
			b.t.Errorf("it does not say %q:\n%s", want, text)
		}
	}
	b.looks("compare")
}
