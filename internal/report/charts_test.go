package report_test

import (
	"fmt"
	"math"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/lighter-oci/lighter/internal/report"
)

// twoBuilds are one Dockerfile's, 20 s and 30 s long.
func twoBuilds() (before, after report.Report) {
	before = fold(
		stepEvents("a", "[s 1/5] RUN slower", 0, 5000), cachedStep("b", "[s 2/5] RUN lost", 5000, "a"), stepEvents("c", "[s 3/5] RUN faster", 5000, 15000, "b"),
		stepEvents("d", "[s 4/5] RUN gone", 15000, 19000, "c"), stepEvents("e", "[s 5/5] RUN fails", 19000, 20000, "d"))
	failed := stepEvents("e", "[s 5/5] RUN fails", 28000, 30000, "c")
	failed[1].Step.Error = "exit code: 1"
	after = fold(
		stepEvents("a", "[s 1/5] RUN slower", 0, 10000), stepEvents("b", "[s 2/5] RUN lost", 10000, 18000, "a"), stepEvents("c", "[s 3/5] RUN faster", 18000, 20000, "b"),
		stepEvents("n", "[s 4/5] RUN new </title><script>", 20000, 28000, "c"), failed)
	return before, after
}

func TestComparisonChart(t *testing.T) {
	c := report.Compare(twoBuilds())
	svg := report.ComparisonChart{}.SVG(&c)
	golden(t, "compare.svg", []byte(svg))
	golden(t, "compare-alone.svg", []byte(report.ComparisonChart{Standalone: true}.SVG(&c)))
	list := bars(t, svg)
	// In order: the whole; failed; lost; new; slower; faster; gone.
	want := []struct {
		class string
		w     float64
	}{
		{"bar", 20}, {"bar crit", 30}, {"bar", 1}, {"bar failed", 2}, {"bar cached", 0}, {"bar crit", 8}, {"bar crit", 8},
		{"bar", 5}, {"bar crit", 10}, {"bar", 10}, {"bar crit", 2}, {"bar", 4},
	}
	if len(list) != len(want) {
		t.Fatalf("%d bars: %+v", len(list), list)
	}
	for i, b := range list {
		if w := max(82*want[i].w/30, 0.7); b.class != want[i].class || math.Abs(b.w-w) > 0.01 {
			t.Errorf("bar %d is %q and %v wide, want %q and %v", i, b.class, b.w, want[i].class, w)
		}
	}
	for _, says := range []string{"▲ 10.0 s slower", "✗ failed", "▲ 8.00 s lost cache", "▲ 8.00 s new", "▲ 5.00 s slower", "▼ 4.00 s gone", "▼ 8.00 s faster"} {
		if !strings.Contains(svg, ">"+says+"</text>") {
			t.Errorf("nowhere %q", says)
		}
	}
}

func TestComparisonChartOfManyAndNone(t *testing.T) {
	none := report.Comparison{}
	if svg := (report.ComparisonChart{}).SVG(&none); len(bars(t, svg)) != 2 || !strings.Contains(svg, "All steps are as they were.") {
		t.Error(svg)
	}
	many := report.Comparison{}
	for i := range 500 {
		many.Steps = append(many.Steps, report.StepDiff{Change: report.StepNew, Took: second, After: &report.Step{Text: fmt.Sprint("RUN ", i), State: report.Run, Took: second}})
	}
	svg := report.ComparisonChart{}.SVG(&many)
	if len(svg) > 20_000 || !strings.Contains(svg, ">and 476 more<") {
		t.Errorf("%d bytes", len(svg))
	}
	for _, b := range bars(t, svg)[2:] { // longer than the builds, whose time nobody knows
		if b.w != 82 {
			t.Errorf("%+v", b)
		}
	}
}

func TestTrendChart(t *testing.T) {
	points := []report.TrendPoint{
		{Label: "1.0.0", Value: 30, Link: `/builds/1?a="b"&c=<d>`}, {Label: "1.1.0", Value: 90, Failed: true, Link: "/builds/2"},
		{Label: "1.2.0", Value: 100, Link: "/builds/3"}, {Label: "</title><script>\u202e", Value: 60},
	}
	o := report.TrendChart{Name: "build <time>"}
	svg := o.SVG(points)
	golden(t, "trend.svg", []byte(svg))
	root := parsed(t, svg)
	dots := root.find(func(e *element) bool { return e.name == "circle" })
	crosses := root.find(func(e *element) bool { return e.has("cross") })
	curves := root.find(func(e *element) bool { return e.has("curve") })
	links := root.find(func(e *element) bool { return e.name == "a" })
	if len(dots) != 3 || len(crosses) != 1 || len(curves) != 2 || len(links) != 3 {
		t.Errorf("%d dots, %d crosses, %d lines, %d links:\n%s", len(dots), len(crosses), len(curves), len(links), svg)
	}
	// 30 s of the axis' two minutes are a quarter of 88 pixels above 132.
	if y := dots[0].attr["cy"]; y != "110" {
		t.Errorf("30 s is at %s", y)
	}
	if !strings.Contains(svg, ">2m</text>") || !strings.Contains(svg, "4 builds, 1 of them failed: first 30.0 s, last 1m 00s, between 30.0 s and 1m 40s.") {
		t.Error(svg)
	}
}

// A build without the figure leaves a gap, and is not what it was at last.
func TestTrendChartWithGaps(t *testing.T) {
	o := report.TrendChart{Kind: report.TrendBytes}
	points := []report.TrendPoint{{Value: 1000}, {Value: 2000}, {None: true}, {Value: 3000}, {None: true}}
	svg := o.SVG(points)
	parsed(t, svg)
	if lines, dots := strings.Count(svg, `class="curve"`), strings.Count(svg, "<circle"); lines != 1 || dots != 3 {
		t.Errorf("%d lines and %d dots, want 1 and 3", lines, dots)
	}
	for want, has := range map[string]bool{"3.00 kB at last": true, "0 B": false, "2 without one: first 1.00 kB, last 3.00 kB, between 1.00 kB and 3.00 kB": true} {
		if strings.Contains(svg, want) != has {
			t.Errorf("%q: %v, want %v\n%s", want, !has, has, svg)
		}
	}
}

// Whatever the values, the ticks are few and round, and nothing is outside.
func TestTrendChartOfOddValues(t *testing.T) {
	inside := regexp.MustCompile(` (?:c?y|y1|y2)="(-?[0-9.]+)"`)
	odd := []float64{math.NaN(), math.Inf(1), math.Inf(-1), -1, 0, 1e-9, 0.3, 1, 7, 59, 61, 4000, 1e9, math.MaxFloat64}
	for _, kind := range []report.TrendKind{"", report.TrendTime, report.TrendBytes, report.TrendShare} {
		for _, a := range odd {
			for _, b := range []float64{0, 0.3, 1, math.Inf(1)} {
				svg := report.TrendChart{Kind: kind}.SVG([]report.TrendPoint{{Value: a}, {Value: b, Failed: true}, {Value: b}})
				root := parsed(t, svg)
				for _, m := range inside.FindAllStringSubmatch(svg, -1) {
					var y float64
					if _, err := fmt.Sscan(m[1], &y); err != nil || y < 0 || y > 160 {
						t.Fatalf("%s, %v and %v: something is at %s", kind, a, b, m[1])
					}
				}
				ticks := root.find(func(e *element) bool { return e.has("n") })
				texts := map[string]bool{}
				for _, e := range ticks {
					texts[e.text] = true
				}
				if len(ticks) < 2 || len(ticks) > 6 || len(texts) != len(ticks) {
					t.Errorf("%s, %v and %v: ticks %v", kind, a, b, texts)
				}
			}
		}
	}
	var many []report.TrendPoint
	for i := range 10000 {
		many = append(many, report.TrendPoint{Label: time.Unix(int64(i), 0).UTC().Format(time.DateTime), Value: float64(i % 97), Link: fmt.Sprint("/builds/", i)})
	}
	if svg := (report.TrendChart{}).SVG(many); len(svg) > 50_000 || !strings.Contains(svg, "/builds/9999") || strings.Contains(svg, "/builds/9799") {
		t.Errorf("%d bytes", len(svg))
	}
	if svg := (report.TrendChart{}).SVG([]report.TrendPoint{{Value: math.Inf(1)}}); !strings.Contains(svg, "2500000h 00m at last") {
		t.Error(svg)
	}
	if svg := (report.TrendChart{}).SVG(nil); !strings.Contains(svg, "No builds yet.") {
		t.Error(svg)
	}
}

// Text of pictures on what it stands on, as they are where a page brings no
// colours of its own: WCAG 2.2 asks a ratio of 4.5 of text, and of 3 of lines
// that say something.
func TestPictureContrast(t *testing.T) {
	colours := map[string][]string{}
	for _, m := range regexp.MustCompile(`--(\w+):var\(--[a-z-]+,light-dark\((#\w{6}),(#\w{6})\)\)`).FindAllStringSubmatch(report.PictureCSS, -1) {
		colours[m[1]] = m[2:]
	}
	for _, tt := range []struct {
		on, what string
		ratio    float64
	}{
		{"p", "i", 4.5}, {"p", "q", 4.5}, {"p", "f", 4.5}, {"b", "q", 4.5}, {"b", "i", 4.5}, {"i", "p", 7}, {"f", "p", 4.5}, {"p", "a", 3}, {"i", "f", 1.1},
	} {
		for mode := range 2 {
			l1, l2 := luminance(t, colours[tt.on][mode]), luminance(t, colours[tt.what][mode])
			if ratio := (max(l1, l2) + 0.05) / (min(l1, l2) + 0.05); ratio < tt.ratio {
				t.Errorf("%s on %s (%v): %.2f, want %v", tt.what, tt.on, colours[tt.what], ratio, tt.ratio)
			}
		}
	}
}
