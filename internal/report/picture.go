package report

import (
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// PictureCSS is the style of timelines, comparisons, trends and log lines, for
// the style sheet of a page that has them: pictures have classes, and no style
// of their own unless they are Standalone, so that a page may forbid inline
// styles. Colours are the page's custom properties where it has them.
const PictureCSS = `.pic{color-scheme:light dark;display:block;font-family:system-ui,sans-serif;font-size:12px;font-variant-numeric:tabular-nums;` +
	`--p:var(--paper,light-dark(#ffffff,#16181b));--i:var(--ink,light-dark(#1a1c1f,#e8eaed));--q:var(--quiet,light-dark(#5b6068,#a2a8b0));--l:var(--line,light-dark(#d9dce1,#34383e));` +
	`--b:var(--bar,light-dark(#e6e9ed,#2b2f35));--bl:var(--bar-line,light-dark(#b4bac2,#545b64));--a:var(--accent,light-dark(#0b57d0,#8ab4f8));--f:var(--failed,light-dark(#b3261e,#f2a39b))}` +
	`.pic .paper{fill:var(--p)}.pic text{fill:var(--i)}.pic .q{fill:var(--q)}.pic .h{font-weight:600}.pic .e{text-anchor:end}.pic .m{text-anchor:middle}.pic .n{font-size:11px}.pic .g{stroke:var(--l)}` +
	`.pic .bar rect:not(.hatched),.pic .k{fill:var(--b);stroke:var(--bl)}.pic .bar text{font-size:11px;fill:var(--q)}.pic .crit .t{fill-opacity:.8}` +
	`.pic .bar.crit rect:not(.hatched),.pic .k.crit{fill:var(--i);stroke:var(--p)}.pic .bar.crit text{fill:var(--i)}.pic .bar.crit .in{fill:var(--p)}` +
	`.pic .hatched{stroke:var(--bl)}.pic .bar.crit .hatched{stroke:var(--i)}.pic .bar.cached .in{fill:var(--i);paint-order:stroke;stroke:var(--p);stroke-width:4px}` +
	`.pic .bar.run rect:not(.hatched),.pic .k.run{stroke:var(--a);stroke-width:2}.pic .bar.run:not(.crit) rect:not(.hatched),.pic .k.run{fill:var(--p)}.pic .bar.run:not(.crit) text{fill:var(--i)}` +
	`.pic .bar.canceled rect:not(.hatched),.pic .k.canceled{fill:var(--p);stroke:var(--q);stroke-dasharray:3 3}.pic .bar.canceled .in{fill:var(--i)}` +
	`.pic .bar.failed rect:not(.hatched),.pic .k.failed{fill:var(--f);stroke:var(--p)}.pic .bar.failed text{fill:var(--f);font-weight:600}.pic .bar.failed .in{fill:var(--p)}` +
	`.pic .hl{stroke:var(--bl)}.pic a{cursor:pointer}.pic a:focus-visible{outline:none}.pic.pic.pic a:hover rect,.pic.pic.pic a:focus-visible rect{stroke:var(--a);stroke-width:4}` +
	`.pic .dot{fill:var(--p);stroke:var(--i);stroke-width:1.5}.pic .curve{stroke:var(--bl);stroke-width:1.5}.pic .cross{stroke:var(--f);stroke-width:2}.pic .dot.last{fill:var(--i)}.pic a:focus-visible circle,.pic a:hover circle{stroke:var(--a);stroke-width:2.5}.pic a:focus-visible path,.pic a:hover path{stroke-width:3.5}` +
	`.pic .worse{fill:var(--f);font-weight:600}.pic .better{fill:var(--i)}` +
	`@media(max-width:640px){.pic .s{display:none}}@media print{.pic{color-scheme:light}}@media(forced-colors:active){.pic .crit rect{fill:CanvasText}}`

// standaloneCSS is the same for a file that may be shown by what knows neither
// custom properties nor light-dark(): the light colours, and for screens that
// want them the dark ones.
func standaloneCSS() string {
	property := regexp.MustCompile(`--(\w+):var\(--[a-z-]+,light-dark\((#\w+),(#\w+)\)\);?`)
	found := property.FindAllStringSubmatch(PictureCSS, -1)
	plain := property.ReplaceAllString(PictureCSS, "")
	light, dark := []string{}, []string{}
	for _, f := range found {
		light = append(light, "var(--"+f[1]+")", f[2])
		dark = append(dark, "var(--"+f[1]+")", f[3])
	}
	return strings.NewReplacer(light...).Replace(plain) +
		"@media screen and (prefers-color-scheme:dark){" + strings.NewReplacer(dark...).Replace(plain) + "}"
}

// The pictures have their widths in percent and their heights in pixels, so that
// one text size suits a phone and a desk. What fits is reckoned for the desk, and
// what does not fit elsewhere is clipped.
const (
	deskWidth  = 1232 // 1280 without gutters
	phoneWidth = 342  // 390 without them
	gutter     = 24
	barHigh    = 16
	rowHigh    = 20  // a bar and what is apart
	charWide   = 6.4 // of 11 px in DejaVu Sans, the widest of the usual ones, measured in Chromium
)

// svg is a picture being drawn.
type svg struct {
	b          strings.Builder
	id         string // what the picture's own IDs begin with
	standalone bool
}

func (p *svg) printf(format string, args ...any) { fmt.Fprintf(&p.b, format, args...) }

// begin writes what comes before the drawing. One that has links is a group of
// them: what is inside an image is no link to who cannot see it.
func (p *svg) begin(height int, links bool, title, desc string) {
	role, size := "img", fmt.Sprintf(`width="100%%" height="%d"`, height)
	if links {
		role = "group"
	}
	if p.standalone {
		w, h := deskWidth+2*gutter, height+2*gutter
		size = fmt.Sprintf(`xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d"`, w, h, w, h)
	}
	p.printf(`<svg class="pic" id="%s" role="%s" aria-labelledby="%s-title" aria-describedby="%s-desc" %s>`, p.id, role, p.id, p.id, size)
	p.printf(`<title id="%s-title">%s</title><desc id="%s-desc">%s</desc>`, p.id, escaped(title), p.id, escaped(desc))
	if p.standalone {
		p.printf(`<style>%s</style><rect class="paper" width="100%%" height="100%%"/><svg x="%d" y="%d" width="%d" height="%d">`,
			standaloneCSS(), gutter, gutter, deskWidth, height)
	}
	p.b.WriteByte('\n')
}

func (p *svg) end() string {
	if p.standalone {
		p.b.WriteString("</svg>")
	}
	p.b.WriteString("</svg>\n")
	return p.b.String()
}

// hatch defines how what came from the cache is filled.
func (p *svg) hatch() {
	p.printf(`<defs><pattern id="%s-hatch" width="5" height="5" patternUnits="userSpaceOnUse" patternTransform="rotate(45)"><rect class="paper" width="5" height="5"/><line class="hl" y2="5" stroke-width="2"/></pattern></defs>`+"\n", p.id)
}

// key is a word of a legend with what it stands for.
type key struct{ class, says string }

// keys draws a legend.
func (p *svg) keys(keys []key, y int) {
	x := 0
	for _, k := range keys {
		class := strings.TrimSpace("k " + k.class)
		if k.class == "cached" {
			class = fmt.Sprintf(`hatched" fill="url(#%s-hatch)`, p.id)
		}
		p.printf(`<rect class="%s" x="%d.5" y="%d.5" width="11" height="11" rx="3"/><text class="q" x="%d" y="%d">%s</text>`,
			class, x, y-10, x+16, y, k.says)
		x += 30 + int(float64(Width(k.says))*charWide*12/11)
	}
	p.b.WriteByte('\n')
}

// text is one line of it; class may be empty.
func (p *svg) text(class, x string, y int, s string) {
	p.printf(`<text class="%s" x="%s" y="%d">%s</text>`, class, x, y, escaped(s))
}

// pct is a share of the width, without zeros behind the point.
func pct(v float64) string {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		v = 0
	}
	return strconv.FormatFloat(math.Round(v*100)/100, 'f', -1, 64) + "%"
}

// columns is how many characters go into a share of the width.
func columns(share float64) int { return int(share / 100 * deskWidth / charWide) }

// pictureID is safe as the beginning of an ID and in a url(#…).
func pictureID(id, otherwise string) string {
	ok := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_'
	}
	if id == "" || strings.ContainsFunc(id, func(r rune) bool { return !ok(r) }) {
		return otherwise
	}
	return id
}

// timeTicks are up to most round moments from zero to d, the last before d.
func timeTicks(d time.Duration, most int) []time.Duration {
	step := time.Duration(0)
	for _, s := range []time.Duration{
		1e6, 2e6, 5e6, 10e6, 20e6, 50e6, 100e6, 200e6, 500e6, 1e9, 2e9, 5e9, 10e9, 15e9, 30e9,
		time.Minute, 2 * time.Minute, 5 * time.Minute, 10 * time.Minute, 15 * time.Minute, 30 * time.Minute,
		time.Hour, 2 * time.Hour, 6 * time.Hour, 12 * time.Hour, 24 * time.Hour,
	} {
		step = s
		if d/s < time.Duration(most) {
			break
		}
	}
	for d/step >= time.Duration(most) {
		step *= 2
	}
	ticks := []time.Duration{}
	for at := time.Duration(0); at < d && at >= 0; at += step {
		ticks = append(ticks, at)
	}
	return ticks
}

// tickLabel is short: "0", "200 ms", "15 s", "2m 30s", "1h 30m".
func tickLabel(d time.Duration) string {
	trimmed := func(v float64, unit string) string { return strconv.FormatFloat(v, 'f', -1, 64) + unit }
	switch {
	case d == 0:
		return "0"
	case d < time.Second:
		return trimmed(float64(d.Microseconds())/1e3, " ms")
	case d < time.Minute:
		return trimmed(d.Seconds(), " s")
	}
	h, m, s := d/time.Hour, d%time.Hour/time.Minute, d%time.Minute/time.Second
	var parts []string
	for _, u := range []struct {
		n    time.Duration
		unit string
	}{{h, "h"}, {m, "m"}, {s, "s"}} {
		if u.n > 0 {
			parts = append(parts, strconv.Itoa(int(u.n))+u.unit)
		}
	}
	return strings.Join(parts, " ")
}
