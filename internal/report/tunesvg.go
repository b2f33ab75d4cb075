package report

import (
	"fmt"
	"html"
	"math"
	"slices"
	"strconv"
	"strings"
)

// The picture, in pixels of its own: 4 px grid, hairlines.
const (
	chartWidth, chartHeight         = 720, 400
	chartLeft, chartRight           = 64, 696
	chartTop, chartBottom           = 48, 344
	labelChar, labelHigh, labelAway = 7.9, 16, 10 // of 13 px monospace, measured in Chromium
)

// chartStyle has colours for light and dark surroundings. Where light-dark() is
// not known, the attributes of the elements, which are the light ones, stand.
const chartStyle = `.tune{color-scheme:light dark;font-family:system-ui,sans-serif}` +
	`.tune .paper{fill:light-dark(#ffffff,#16181b)}.tune .line{stroke:light-dark(#d9dce1,#34383e)}` +
	`.tune text{fill:light-dark(#1a1c1f,#e8eaed);font-size:13px;font-variant-numeric:tabular-nums}.tune .quiet{fill:light-dark(#5b6068,#a2a8b0)}` +
	`.tune .name{font-family:ui-monospace,monospace;paint-order:stroke;stroke:light-dark(#ffffff,#16181b);stroke-width:3px}.tune .best{font-weight:600}` +
	`.tune .zstd{stroke:light-dark(#0b57d0,#8ab4f8)}.tune .gzip{stroke:light-dark(#8a4b00,#f0b060)}.tune .uncompressed{stroke:light-dark(#5b6068,#a2a8b0)}` +
	`.tune circle.zstd{fill:light-dark(#0b57d0,#8ab4f8)}.tune .hollow{fill:light-dark(#ffffff,#16181b)}.tune .ring{stroke:light-dark(#1a1c1f,#e8eaed)}`

// seriesColour is a codec's in the light.
func seriesColour(codec string) string {
	switch codec {
	case "zstd":
		return "#0b57d0"
	case "gzip":
		return "#8a4b00"
	}
	return "#5b6068"
}

// SVG is a picture of all levels: how small against how fast, with speed on a
// logarithmic axis. Codecs differ in shape as well as in colour, every point
// carries its name, and the description says all of it in words. It is a file
// of its own, and it can stand in a page as it is.
func (t *Tuning) SVG() string {
	c := newChart(t)
	c.printf(`<svg xmlns="http://www.w3.org/2000/svg" class="tune" role="img" aria-labelledby="tune-title tune-desc" width="%d" height="%d" viewBox="0 0 %d %d" font-family="system-ui, sans-serif" font-size="13">`,
		chartWidth, chartHeight, chartWidth, chartHeight)
	c.printf(`<title id="tune-title">%s</title>`, escaped("Size and speed of compression levels: "+t.Subject))
	c.printf(`<desc id="tune-desc">%s</desc>`, escaped(t.Description()))
	c.printf(`<style>%s</style>`, chartStyle)
	c.printf(`<rect class="paper" width="%d" height="%d" fill="#ffffff"/>`, chartWidth, chartHeight)
	c.axes()
	c.lines()
	for _, p := range c.points {
		c.mark(p)
	}
	c.labels()
	c.b.WriteString("</svg>\n")
	return c.b.String()
}

// Description is the picture in words.
func (t *Tuning) Description() string {
	var parts []string
	for _, l := range t.Levels {
		s := fmt.Sprintf("%s makes it %s times smaller at %s MB/s", l.Name, Figures(l.Ratio), Figures(t.Rate(l)))
		if l.Name == t.Recommended {
			s += " and is recommended"
		}
		parts = append(parts, s)
	}
	if len(parts) == 0 {
		return "Nothing was measured."
	}
	return strings.Join(parts, "; ") + "."
}

// escaped is text for XML, without anything that XML does not have.
func escaped(s string) string {
	return html.EscapeString(strings.NewReplacer("\ufffe", "\ufffd", "\uffff", "\ufffd").Replace(Clean(s)))
}

// chart is a picture being drawn.
type chart struct {
	b      strings.Builder
	points []point
	x      axis // of the logarithm of MB/s
	y      axis // of ratios
	taken  []box
}

// point is a level in the picture.
type point struct {
	name, codec string
	x, y        float64
	best        bool
}

// axis takes values to pixels.
type axis struct {
	lo, hi   float64
	from, to float64
	ticks    []float64
}

func (a axis) at(v float64) float64 { return a.from + (v-a.lo)/(a.hi-a.lo)*(a.to-a.from) }

func newChart(t *Tuning) *chart {
	c := &chart{}
	var rates, ratios []float64
	for _, l := range t.Levels {
		if r := t.Rate(l); r > 0 && l.Ratio > 0 { // a time of zero has no place on a logarithmic axis
			rates, ratios = append(rates, r), append(ratios, l.Ratio)
			c.points = append(c.points, point{l.Name, l.Codec, r, l.Ratio, l.Name == t.Recommended})
		}
	}
	if len(rates) == 0 {
		rates, ratios = []float64{10, 1000}, []float64{1, 4}
	}
	c.x = logAxis(slices.Min(rates), slices.Max(rates))
	c.y = linearAxis(slices.Min(ratios), slices.Max(ratios))
	for i := range c.points {
		p := &c.points[i]
		p.x, p.y = c.x.at(math.Log10(p.x)), c.y.at(p.y)
		c.taken = append(c.taken, box{p.x - 6, p.y - 6, p.x + 6, p.y + 6})
	}
	return c
}

// logAxis has ticks at 1, 2 and 5 times powers of ten, or at the powers alone
// where those are many.
func logAxis(lo, hi float64) axis {
	lo, hi = lo/1.6, hi*1.6
	a := axis{lo: math.Log10(lo), hi: math.Log10(hi), from: chartLeft, to: chartRight}
	for _, steps := range [][]float64{{1, 2, 5}, {1}} {
		a.ticks = nil
		for e := math.Floor(a.lo); e <= a.hi; e++ {
			for _, s := range steps {
				if v := s * math.Pow(10, e); v >= lo && v <= hi {
					a.ticks = append(a.ticks, v)
				}
			}
		}
		if len(a.ticks) <= 7 {
			break
		}
	}
	return a
}

// linearAxis begins and ends at ticks, five or six of them.
func linearAxis(lo, hi float64) axis {
	span := max(hi-lo, 0.1*hi)
	step := math.Pow(10, math.Floor(math.Log10(span)))
	for _, s := range []float64{0.1, 0.2, 0.5, 1, 2, 5} {
		if span/(s*step) <= 4 {
			step *= s
			break
		}
	}
	a := axis{from: chartBottom, to: chartTop}
	a.lo = step * math.Floor(lo/step-0.1) // no point on the axis itself
	a.hi = max(step*math.Ceil(hi/step), a.lo+step)
	for i := range int(math.Round((a.hi-a.lo)/step)) + 1 {
		a.ticks = append(a.ticks, a.lo+float64(i)*step)
	}
	return a
}

func (c *chart) printf(format string, args ...any) { fmt.Fprintf(&c.b, format+"\n", args...) }

// axes draws hairlines with their values, and what the values are.
func (c *chart) axes() {
	for _, v := range c.y.ticks {
		y := math.Round(c.y.at(v)) + 0.5
		c.printf(`<line class="line" x1="%d" y1="%.1f" x2="%d" y2="%.1f" stroke="#d9dce1"/>`, chartLeft, y, chartRight, y)
		c.printf(`<text class="quiet" x="%d" y="%.1f" text-anchor="end" fill="#5b6068">%s</text>`, chartLeft-8, y+4, trimmed(v))
	}
	for _, v := range c.x.ticks {
		x := math.Round(c.x.at(math.Log10(v))) + 0.5
		c.printf(`<line class="line" x1="%.1f" y1="%d" x2="%.1f" y2="%d" stroke="#d9dce1"/>`, x, chartBottom, x, chartBottom+4)
		c.printf(`<text class="quiet" x="%.1f" y="%d" text-anchor="middle" fill="#5b6068">%s</text>`, x, chartBottom+20, trimmed(v))
	}
	c.printf(`<text x="%d" y="%d" fill="#1a1c1f">times smaller ↑</text>`, chartLeft-40, chartTop-20)
	c.printf(`<text x="%d" y="%d" text-anchor="end" fill="#1a1c1f">MB of tar compressed a second → (logarithmic)</text>`, chartRight, chartHeight-16)
}

// trimmed is a tick's value without zeros behind the point.
func trimmed(v float64) string {
	return strconv.FormatFloat(math.Round(v*1000)/1000, 'f', -1, 64)
}

// lines joins the levels of a codec, the slowest first.
func (c *chart) lines() {
	for _, codec := range []string{"zstd", "gzip"} {
		var of []point
		for _, p := range c.points {
			if p.codec == codec {
				of = append(of, p)
			}
		}
		if len(of) < 2 {
			continue
		}
		slices.SortFunc(of, func(a, b point) int { return int(math.Copysign(1, a.x-b.x)) })
		var path []string
		for _, p := range of {
			path = append(path, fmt.Sprintf("%.1f,%.1f", p.x, p.y))
		}
		c.printf(`<polyline class="%s" points="%s" fill="none" stroke="%s" stroke-opacity="0.5"/>`, codec, strings.Join(path, " "), seriesColour(codec))
	}
}

// mark draws a level: a disc for zstd, a square for gzip, a diamond for neither.
func (c *chart) mark(p point) {
	if p.best {
		c.printf(`<circle class="ring" cx="%.1f" cy="%.1f" r="10" fill="none" stroke="#1a1c1f"/>`, p.x, p.y)
	}
	switch p.codec {
	case "zstd":
		c.printf(`<circle class="zstd" cx="%.1f" cy="%.1f" r="4.5" fill="%s"/>`, p.x, p.y, seriesColour(p.codec))
	case "gzip":
		c.printf(`<rect class="gzip hollow" x="%.1f" y="%.1f" width="9" height="9" fill="#ffffff" stroke="%s" stroke-width="2"/>`, p.x-4.5, p.y-4.5, seriesColour(p.codec))
	default:
		c.printf(`<path class="uncompressed hollow" d="M%.1f %.1fl6 6l-6 6l-6 -6z" fill="#ffffff" stroke="%s" stroke-width="2"/>`, p.x, p.y-6, seriesColour(p.codec))
	}
}
