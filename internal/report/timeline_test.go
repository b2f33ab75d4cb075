package report_test

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/lighter-oci/lighter/internal/event"
	"github.com/lighter-oci/lighter/internal/report"
)

func TestTimelineGolden(t *testing.T) {
	for _, name := range []string{"cold", "warm", "fail", "multi", "pull"} {
		r := report.Of(slices.Values(recorded(t, name)))
		svg := report.Timeline{}.SVG(&r)
		tidy(t, svg, bars(t, svg))
		golden(t, name+".svg", []byte(svg))
	}
	events := recorded(t, "cold")
	r := report.Of(slices.Values(events[:len(events)/2]))
	svg := report.Timeline{Now: r.Summary.Started.Add(5 * time.Second), Standalone: true}.SVG(&r)
	golden(t, "running.svg", []byte(svg))
}

// The bars in ink are the critical path: as wide, together, as its steps take of
// the time.
func TestTimelineInk(t *testing.T) {
	for _, name := range []string{"cold", "warm", "fail", "multi", "pull", "local"} {
		r := report.Of(slices.Values(recorded(t, name)))
		first, last := time.Time{}, time.Time{}
		for _, s := range r.Steps {
			if s.Started == nil {
				continue
			}
			end := s.Started.Add(s.Took.Duration())
			for _, run := range s.Runs {
				end = run.Started.Add(run.Took.Duration())
			}
			if first.IsZero() || s.Started.Before(first) {
				first = *s.Started
			}
			if end.After(last) {
				last = end
			}
		}
		want := 0.0
		for _, p := range r.Path {
			want += 100 * float64(p.Took) / float64(last.Sub(first))
		}
		got, n := 0.0, 0
		for _, b := range bars(t, report.Timeline{}.SVG(&r)) {
			if b.is("crit") {
				got += b.w
				n++
			}
		}
		if math.Abs(got-want) > 0.8*float64(n) {
			t.Errorf("%s: %v %% of the width are in ink, and the critical path is %v %% of the time", name, got, want)
		}
	}
}

func TestTimelineRunning(t *testing.T) {
	events := slices.Concat(
		stepEvents("a", "[one 1/2] RUN a", 0, 1000),
		stepEvents("b", "[one 2/2] RUN b", 1000, 9000, "a")[:1],
		stepEvents("c", "[two 1/1] RUN c", 500, 9000)[:1],
	)
	r := fold(events)
	for _, tt := range []struct {
		now   time.Time
		share float64 // of a
		took  string
	}{
		{time.Time{}, 100, ""},
		{*at(2000), 50, "1.00 s"},
		{*at(10000), 10, "9.00 s"},
		{*at(-5000), 100, ""}, // a clock that was set back
	} {
		list := bars(t, report.Timeline{Now: tt.now}.SVG(&r))
		for _, b := range list {
			switch {
			case strings.HasPrefix(b.title, "RUN a"):
				if math.Abs(b.w-tt.share) > 1 {
					t.Errorf("%v: a is %v %%", tt.now, b.w)
				}
			case !b.is("run") || b.x+b.w < 101.9:
				t.Errorf("%v: %q ends at %v", tt.now, b.title, b.x+b.w)
			case strings.HasPrefix(b.title, "▸ RUN b") && tt.took != "" && !strings.Contains(b.title, tt.took):
				t.Errorf("%v: %q", tt.now, b.title)
			}
		}
		if len(list) != 3 {
			t.Errorf("%d bars", len(list))
		}
	}
	r.Stages = append(r.Stages, report.Stage{Name: "three", State: report.StageNever})
	svg := report.Timeline{Now: *at(9500), Standalone: true}.SVG(&r)
	for _, want := range []string{">2 steps · 9.50 s<", ">1 step · 9.00 s<", ">have not run yet: three<"} {
		if !strings.Contains(svg, want) {
			t.Errorf("nowhere %q in:\n%s", want, svg)
		}
	}
	if strings.Contains(svg, "var(") || !strings.Contains(svg, "prefers-color-scheme:dark") {
		t.Error("the file's style is not for everybody")
	}
}

// A step that ran, paused and ran again is two bars.
func TestTimelineGap(t *testing.T) {
	one, two := stepEvents("a", "[s 1/1] FROM x", 0, 1000), stepEvents("a", "[s 1/1] FROM x", 5000, 10000)
	r := fold(one, two)
	list := bars(t, report.Timeline{}.SVG(&r))
	if len(list) != 2 || list[0].w > 11 || math.Abs(list[1].x-50) > 0.1 || list[0].href != "#step-1" || list[1].href != "#step-1" {
		t.Errorf("%+v", list)
	}
}

func TestTimelineStates(t *testing.T) {
	failed := stepEvents("f", "[b 2/2] RUN f", 100, 900, "c")
	failed[1].Step.Error = "exit code: 1"
	stopped := stepEvents("s", "[a 1/1] RUN s", 100, 900)
	stopped[1].Step.Error = "context canceled"
	r := fold(stopped, failed, cachedStep("c", "[b 1/2] RUN c", 100))
	list := bars(t, report.Timeline{Link: "/builds/7#s"}.SVG(&r))
	for want, class := range map[string]string{"✗ RUN f": "failed", "canceled: RUN s": "canceled", "cached: RUN c": "cached"} {
		i := slices.IndexFunc(list, func(b drawn) bool { return strings.HasPrefix(b.title, want) })
		if i < 0 || !list[i].is(class) || !strings.HasPrefix(list[i].href, "/builds/7#s") {
			t.Errorf("%s: %+v", want, list)
		}
	}
	svg := report.Timeline{}.SVG(&r)
	for _, word := range []string{"cached", "✗ failed", "canceled"} { // a state is never a colour alone
		if !strings.Contains(svg, `class="q"`) || !strings.Contains(svg, ">"+word+"</text>") {
			t.Errorf("the legend lacks %s", word)
		}
	}
}

func cachedStep(id, name string, at int, inputs ...string) []event.Event {
	events := stepEvents(id, name, at, at, inputs...)
	events[1].Step.Cached = true
	return events
}

func TestTimelineMany(t *testing.T) {
	cached, sequence, parallel := [][]event.Event{}, [][]event.Event{}, [][]event.Event{}
	for i := range 500 {
		cached = append(cached, cachedStep(fmt.Sprint(i), fmt.Sprintf("[s %d/501] RUN make part%d", i+1, i), i/100))
		sequence = append(sequence, stepEvents(fmt.Sprint(i), fmt.Sprintf("[s%d %d/50] RUN make part%d with a name that is rather long", i%10, i/10+1, i), i*100, i*100+100+i))
		parallel = append(parallel, stepEvents(fmt.Sprint(i), fmt.Sprintf("sh -c make part%d with a name that is rather long, all at once", i), i, 5000))
	}
	cached = append(cached, stepEvents("x", "[s 501/501] RUN x", 5, 2000))
	for name, events := range map[string][][]event.Event{"cached": cached, "sequence": sequence, "parallel": parallel} {
		r := fold(events...)
		svg := report.Timeline{}.SVG(&r)
		list := bars(t, svg)
		tidy(t, svg, list)
		if len(svg) > 100_000 || sum(list) != len(r.Steps) {
			t.Errorf("%s: %d bytes, %d bars for %d of %d steps", name, len(svg), len(list), sum(list), len(r.Steps))
		}
		if name == "cached" && (len(list) != 2 || !strings.HasPrefix(list[0].title, "500 cached")) {
			t.Errorf("%+v", list)
		}
	}
}

func TestTimelineHostile(t *testing.T) {
	const bad = "</title><script>alert(1)</script>\"' onload='x' &lt; \x1b[31m\x00\u202ered\ufffe\xff"
	r := fold(stepEvents("a", "[linux/"+bad+" "+bad+" 1/1] RUN "+bad, 0, 100), stepEvents("b", bad, 0, 100), stepEvents("c", "exporting to "+bad, 100, 5000))
	r.Stages = append(r.Stages, report.Stage{Name: bad, Platform: bad, State: report.StageNever}, report.Stage{Name: bad, Platform: bad, State: report.StageRun})
	r.Steps[0].Stage, r.Steps[0].Platform = bad, bad
	for _, tl := range []report.Timeline{{}, {Standalone: true}, {ID: bad, Link: bad}} {
		svg := tl.SVG(&r)
		list := bars(t, svg)
		if len(list) != 3 || strings.Contains(svg, "<script") || strings.ContainsAny(svg, "\x00\x1b\u202e") {
			t.Errorf("%d bars:\n%s", len(list), svg)
		}
		if tl.Standalone != (list[0].href == "") {
			t.Errorf("link %q", list[0].href)
		}
	}
}

func TestTimelineOfNothing(t *testing.T) {
	for _, r := range []report.Report{{}, fold(), fold([]event.Event{{Step: &event.Step{ID: "a", Name: "RUN a"}}})} {
		svg := report.Timeline{}.SVG(&r)
		if len(bars(t, svg)) != 0 || !strings.Contains(svg, "Nothing has run.") {
			t.Error(svg)
		}
	}
}

// What pack compiles for a platform has no stage, and is drawn all the same.
func TestTimelineOfPack(t *testing.T) {
	amd, arm := stepEvents("a", "go build linux/amd64", 0, 1000), stepEvents("b", "go build linux/arm64", 1000, 3000)
	for i := range amd {
		amd[i].Step.Platform, arm[i].Step.Platform = "linux/amd64", "linux/arm64"
	}
	arm[len(arm)-1].Step.Error = "go build failed"
	r := fold(arm, amd)
	svg := report.Timeline{}.SVG(&r)
	list := bars(t, svg)
	tidy(t, svg, list)
	if len(list) != 2 || strings.Contains(svg, "Nothing has run.") || !strings.Contains(svg, ">linux/amd64<") || !strings.Contains(svg, ">linux/arm64<") {
		t.Errorf("%d bars:\n%s", len(list), svg)
	}
}

// Whatever the steps: bars lie in the picture, none on another, and all steps
// that began are there.
func TestTimelineIsTidy(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		var events [][]event.Event
		n := rapid.IntRange(0, 300).Draw(rt, "steps")
		long := rapid.SampledFrom([]int{1, 100, 100000}).Draw(rt, "long")
		for i := range n {
			name := fmt.Sprintf("[s%d %d/999] RUN x%d", rapid.IntRange(0, 3).Draw(rt, "stage"), i+1, i)
			start := rapid.IntRange(0, 1000).Draw(rt, "start")
			switch rapid.IntRange(0, 3).Draw(rt, "kind") {
			case 0:
				events = append(events, cachedStep(fmt.Sprint(i), name, start))
			case 1:
				events = append(events, stepEvents(fmt.Sprint(i), "exporting "+fmt.Sprint(i), start, start+rapid.IntRange(-5, long).Draw(rt, "took")))
			case 2:
				events = append(events, stepEvents(fmt.Sprint(i), name, start, 0)[:1])
			default:
				events = append(events, stepEvents(fmt.Sprint(i), name, start, start+rapid.IntRange(0, long).Draw(rt, "took")))
			}
		}
		r := fold(events...)
		svg := report.Timeline{Now: *at(rapid.IntRange(0, 5000).Draw(rt, "now"))}.SVG(&r)
		list := bars(t, svg)
		tidy(t, svg, list)
		if sum(list) != n {
			t.Errorf("%d of %d steps", sum(list), n)
		}
		if t.Failed() {
			rt.FailNow()
		}
	})
}

func FuzzTimeline(f *testing.F) {
	f.Add("[linux/amd64 builder 1/2] RUN <make>", "exporting to image", int64(0), int64(1e9), int64(5e9), false)
	f.Add("\x1b[31m&\x00", "[auth] x", int64(-1<<62), int64(1<<62), int64(0), true)
	f.Add("[a 1/1] \u2028\ufffe", "", int64(math.MaxInt64), int64(math.MinInt64), int64(1), true)
	f.Fuzz(func(t *testing.T, a, b string, start, end, now int64, cached bool) {
		moment := func(ns int64) *time.Time { m := epoch.Add(time.Duration(ns)); return &m }
		r := fold([]event.Event{
			{Time: epoch, Step: &event.Step{ID: "a", Name: a, Started: moment(start), Completed: moment(end), Cached: cached}},
			{Time: epoch, Step: &event.Step{ID: "b", Name: b, Started: moment(now)}},
		})
		for _, tl := range []report.Timeline{{Now: *moment(now)}, {ID: a, Link: b}} {
			svg := tl.SVG(&r)
			tidy(t, svg, bars(t, svg))
		}
	})
}

func BenchmarkTimeline(b *testing.B) {
	var events [][]event.Event
	for i := range 500 {
		events = append(events, stepEvents(fmt.Sprint(i), fmt.Sprintf("[s%d %d/50] RUN make part%d", i%10, i/10+1, i), i*100, i*100+100+i))
	}
	r := fold(events...)
	for b.Loop() {
		if svg := (report.Timeline{}).SVG(&r); svg == "" {
			b.Fatal("nothing")
		}
	}
}
