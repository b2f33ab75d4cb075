package report

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// TrendKind is what the values of a trend are.
type TrendKind string

// The kinds of trends.
const (
	TrendTime  TrendKind = "time"  // seconds
	TrendBytes TrendKind = "bytes" // bytes
	TrendShare TrendKind = "share" // 0 … 1
)

// TrendPoint is one build in a trend.
type TrendPoint struct {
	Label  string // a version, or a date
	Value  float64
	Failed bool   // it is marked, and no line leads to it
	None   bool   // it has no such value: its place stays empty
	Link   string // where it leads; may be empty
}

// TrendChart is how the same figure of builds after one another is drawn. The
// zero value is a picture of times for a page that has PictureCSS.
type TrendChart struct {
	ID   string // as Timeline's; "trend" where it is none
	Name string // "build time"
	Kind TrendKind
}

// Heights of a trend.
const (
	trendTop, trendBottom = 44, 132
	trendHigh             = 156
	trendLeft             = 15  // percent: "1m 30s", "200 MB" on a phone
	mostPoints            = 200 // the newest ones
)

// format writes a value.
func (o TrendChart) format(v float64) string {
	switch o.Kind {
	case TrendBytes:
		return Bytes(int64(v))
	case TrendShare:
		return strconv.FormatFloat(math.Round(100*v), 'f', -1, 64) + " %"
	}
	return Duration(seconds(v))
}

func seconds(v float64) time.Duration { return time.Duration(v * 1e9) }

// finite is the newest points, without what is no value of the kind.
func (o TrendChart) finite(points []TrendPoint) []TrendPoint {
	most := 9e9 // seconds, within what a time.Duration holds
	switch o.Kind {
	case TrendBytes:
		most = 1e18
	case TrendShare:
		most = 1
	}
	points = slices.Clone(points[max(0, len(points)-mostPoints):])
	for i, p := range points {
		if math.IsNaN(p.Value) || p.Value < 0 {
			points[i].Value = 0
		}
		points[i].Value = min(points[i].Value, most)
	}
	return points
}

// ticks are round values from zero to the least one that is not below most.
func (o TrendChart) ticks(most float64) []float64 {
	if o.Kind == TrendShare {
		return []float64{0, 0.5, 1}
	}
	step := math.Pow(10, math.Floor(math.Log10(max(most, 1e-3))))
	if o.Kind == TrendTime || o.Kind == "" {
		if t := timeTicks(seconds(most), 4); len(t) > 1 {
			step = t[1].Seconds()
		}
	} else {
		if most/step < 2 {
			step /= 2
		}
		step = max(step, 1)
		for most/step > 4 {
			step *= 2
		}
	}
	ticks := []float64{0}
	for v := step; len(ticks) < 6; v += step {
		ticks = append(ticks, v)
		if v >= most {
			break
		}
	}
	return ticks
}

// SVG draws the points, the oldest first.
func (o TrendChart) SVG(points []TrendPoint) string {
	points = o.finite(points)
	p := &svg{id: pictureID(o.ID, "trend")}
	most := 0.0
	for _, t := range points {
		most = max(most, t.Value)
	}
	ticks := o.ticks(most)
	top := max(ticks[len(ticks)-1], most)
	if top == 0 {
		top = 1
	}
	height := trendHigh
	if len(points) == 0 {
		height = trendTop + 12
	}
	links := slices.ContainsFunc(points, func(t TrendPoint) bool { return t.Link != "" })
	p.begin(height, links, "Trend: "+o.name(), o.describe(points))
	y := func(v float64) float64 { return math.Round(10*(trendBottom-v/top*(trendBottom-trendTop))) / 10 }
	x := func(i int) string { return pct(2 + 96*(float64(i)+0.5)/float64(len(points))) }
	o.axes(p, points, ticks, y)
	last := -1
	for i, t := range points {
		if t.Failed {
			continue
		}
		if t.None {
			last = -1
			continue
		}
		if last >= 0 {
			p.printf(`<line class="curve" x1="%s" y1="%v" x2="%s" y2="%v"/>`, x(last), y(points[last].Value), x(i), y(t.Value))
		}
		last = i
	}
	p.b.WriteByte('\n')
	for i, t := range points {
		o.point(p, t, x(i), y(t.Value), links, i == len(points)-1, len(points))
	}
	p.b.WriteString("</svg>\n")
	return p.end()
}

// axes draws the round values, and says what the picture shows.
func (o TrendChart) axes(p *svg, points []TrendPoint, ticks []float64, y func(float64) float64) {
	p.printf(`<text y="14"><tspan class="h">%s</tspan>`, escaped(Middle(Clean(o.name()), 30)))
	if n := len(points); n > 0 {
		now := points[n-1]
		for i := n - 1; i > 0 && now.None; i-- { // the last one that there is
			now = points[i-1]
		}
		said := o.value(now)
		if now.Failed {
			said = "✗ failed"
		}
		p.printf(`<tspan class="q" dx="8">%s</tspan>`, escaped(said+" at last"))
	}
	p.b.WriteString("</text>\n")
	if len(points) == 0 {
		p.text("q", "0", trendTop, "No builds yet.")
		ticks = nil
	}
	for _, v := range ticks {
		p.printf(`<text class="q e n" x="%d%%" dx="-8" y="%v">%s</text>`, trendLeft, y(v)+4, escaped(o.tick(v)))
	}
	p.printf(`<svg x="%d%%" width="%d%%" height="%d">`, trendLeft, 100-trendLeft, trendHigh)
	for _, v := range ticks {
		p.printf(`<line class="g" y1="%v" x2="100%%" y2="%v"/>`, y(v), y(v))
	}
	switch n := len(points); {
	case n == 1:
		p.text("q m", "50%", trendHigh-8, Middle(Clean(points[0].Label), 24))
	case n > 1:
		p.text("q", "0", trendHigh-8, Middle(Clean(points[0].Label), 18))
		p.text("q e", "100%", trendHigh-8, Middle(Clean(points[n-1].Label), 18))
	}
	p.b.WriteByte('\n')
}

// tick is a round value, without zeros behind the point.
func (o TrendChart) tick(v float64) string {
	switch {
	case v == 0:
		return "0"
	case o.Kind == TrendTime || o.Kind == "":
		return tickLabel(seconds(v))
	}
	return strings.NewReplacer(".00 ", " ", ".0 ", " ").Replace(o.format(v))
}

// point marks one build: a disc, or a cross where it failed.
func (o TrendChart) point(p *svg, t TrendPoint, x string, y float64, links, newest bool, of int) {
	if t.None && !t.Failed {
		return
	}
	r := "3"
	if of > 60 {
		r = "2"
	}
	mark := fmt.Sprintf(`<circle class="dot" cx="%s" cy="%v" r="%s"/>`, x, y, r)
	if newest {
		mark = fmt.Sprintf(`<circle class="dot last" cx="%s" cy="%v" r="%s"/>`, x, y, r)
	}
	if t.Failed {
		mark = fmt.Sprintf(`<svg class="o" x="%s" y="%v" overflow="visible"><path class="cross" d="M-3.5-3.5l7 7m0-7l-7 7"/></svg>`, x, y)
	}
	says := escaped(Middle(Clean(t.Label), 60) + ": " + o.value(t))
	if links && t.Link != "" {
		p.printf(`<a href="%s"><title>%s</title>%s</a>`, escaped(t.Link), says, mark)
		return
	}
	p.printf(`<g><title>%s</title>%s</g>`, says, mark)
}

// value is a point in words.
func (o TrendChart) value(t TrendPoint) string {
	switch {
	case t.Failed:
		return "failed"
	case t.None:
		return "–"
	}
	return o.format(t.Value)
}

func (o TrendChart) name() string {
	if o.Name == "" {
		return "time"
	}
	return o.Name
}

// describe is the picture in words.
func (o TrendChart) describe(points []TrendPoint) string {
	var values []float64
	failed, none := 0, 0
	for _, t := range points {
		switch {
		case t.Failed:
			failed++
		case t.None:
			none++
		default:
			values = append(values, t.Value)
		}
	}
	s := fmt.Sprintf("%d builds", len(points))
	if failed > 0 {
		s += fmt.Sprintf(", %d of them failed", failed)
	}
	if none > 0 {
		s += fmt.Sprintf(", %d without one", none)
	}
	if len(values) > 0 {
		s += fmt.Sprintf(": first %s, last %s, between %s and %s", o.format(values[0]), o.format(values[len(values)-1]),
			o.format(slices.Min(values)), o.format(slices.Max(values)))
	}
	return s + "."
}
