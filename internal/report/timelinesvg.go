package report

import (
	"fmt"
	"strings"
	"time"
)

// Heights of what is not a bar.
const (
	axisHigh    = 24
	headingHigh = 24
	nameHigh    = 20 // of a lane
	laneGap     = 8
	legendHigh  = 24
)

// SVG draws the build. All of its text is escaped, so that it can stand in a
// page as it is. A page that gives it 1232 pixels or 342 shows the same text
// size; see PictureCSS for what the page brings.
func (t Timeline) SVG(r *Report) string {
	sc := t.scale(r)
	lanes := t.lanes(r, sc)
	p := &svg{id: pictureID(t.ID, "timeline"), standalone: t.Standalone}
	notRun := neverRun(r)

	height := axisHigh + legendHigh
	for _, l := range lanes {
		height += nameHigh + rowHigh*len(l.rows) + laneGap
		if l.heading != "" {
			height += headingHigh
		}
	}
	if notRun != "" || len(lanes) == 0 {
		height += nameHigh
	}
	p.begin(height, !t.Standalone, "Timeline of the build", describe(r, sc))
	p.hatch()
	p.axis(sc, height-legendHigh)
	y := axisHigh
	for _, l := range lanes {
		y = t.lane(p, r, l, y)
	}
	if notRun != "" {
		p.text("q", "0", y+14, notRun)
	} else if len(lanes) == 0 {
		p.text("q", "0", y+14, "Nothing has run.")
	}
	p.legend(lanes, height-6)
	return p.end()
}

// axis draws hairlines at round moments.
func (p *svg) axis(sc scale, bottom int) {
	for _, at := range timeTicks(sc.took, 7) {
		x := sc.share(at)
		p.printf(`<line class="g" x1="%s" y1="4" x2="%s" y2="%d"/>`, pct(x), pct(x), bottom)
		if x < 88 { // room for it on a phone, too
			p.printf(`<text class="q" x="%s" y="14" dx="4">%s</text>`, pct(x), tickLabel(at))
		}
	}
	p.b.WriteByte('\n')
}

// lane draws one and returns where the next begins.
func (t Timeline) lane(p *svg, r *Report, l lane, y int) int {
	if l.heading != "" {
		p.printf(`<line class="g" y1="%d" x2="100%%" y2="%d"/>`, y, y)
		p.text("q h", "0", y+17, Middle(Clean(l.heading), 40))
		y += headingHigh
	}
	p.printf(`<text y="%d"><tspan class="h">%s</tspan>`, y+14, escaped(Middle(Clean(l.name), 36)))
	if l.says != "" {
		p.printf(`<tspan class="q" dx="8">%s</tspan>`, escaped(l.says))
	}
	p.b.WriteString("</text>\n")
	y += nameHigh
	for _, row := range l.rows {
		for i, b := range row {
			left, right := 0.0, 100.0
			if i > 0 {
				left = row[i-1].end()
			}
			if i+1 < len(row) {
				right = row[i+1].x
			}
			where := t.bar(p, r, b, y, left, right)
			if i+1 < len(row) {
				row[i+1].taken = where == labelRight
			}
		}
		p.b.WriteByte('\n')
		y += rowHigh
	}
	return y + laneGap
}

// class is a bar's, for PictureCSS.
func (b bar) class() string {
	c := "bar"
	if b.crit {
		c += " crit"
	}
	switch b.state {
	case Running:
		c += " run"
	case Cached, Failed, Canceled:
		c += " " + string(b.state)
	}
	return c
}

// Where a bar's label stands.
const (
	labelNone = iota
	labelIn
	labelRight
	labelLeft
)

// labelled says where the label of a bar goes between its neighbours: into the
// bar where it fits, else where most room is.
func (b bar) labelled(name string, left, right float64) int {
	const readable = 5 // percent: ten characters
	after, before := right-b.end(), b.x-left
	if b.taken {
		before = 0
	}
	switch {
	case columns(b.w)-2 >= Width(name), b.w >= readable && b.w >= after && b.w >= before:
		return labelIn
	case after >= readable && (columns(after)-2 >= Width(name) || after >= before):
		return labelRight
	case before >= readable:
		return labelLeft
	case b.w >= readable:
		return labelIn
	}
	return labelNone
}

// bar draws one between its neighbours, and says where its label stands.
func (t Timeline) bar(p *svg, r *Report, b bar, y int, left, right float64) int {
	name, took := b.label(r)
	where := b.labelled(name, left, right)
	tip := name + ", " + took
	if b.crit {
		tip += ", on the critical path"
	}
	tag, open := "g", ""
	if !t.Standalone {
		link := t.Link
		if link == "" {
			link = "#step-"
		}
		tag, open = "a", fmt.Sprintf(` href="%s%d"`, escaped(link), b.steps[0]+1)
	}
	w := b.w
	if b.state == Running {
		w += 2 // beyond the picture: it goes on
	}
	fill := ""
	if b.state == Cached {
		fill = fmt.Sprintf(` class="hatched" fill="url(#%s-hatch)"`, p.id)
	}
	p.printf(`<%s%s class="%s"><title>%s</title><rect x="%s" y="%d" width="%s" height="%d" rx="4"%s/>`,
		tag, open, b.class(), escaped(Middle(tip, 160)), pct(b.x), y, pct(w), barHigh, fill)
	switch where {
	case labelIn:
		p.label(name, took, "in", b.x, b.w, y)
	case labelRight:
		p.label(name, took, "", b.end(), right-b.end(), y)
	case labelLeft:
		p.label(name, took, "e", left, b.x-left, y)
	}
	p.printf(`</%s>`, tag)
	return where
}

// label writes a name into a share of the width, outside of which it is clipped.
func (p *svg) label(name, took, class string, x, w float64, y int) {
	at := `x="6"`
	if class == "e" {
		at = `x="100%" dx="-6"`
	}
	room := columns(w) - 2
	needs := float64(Width(name)+Width(took)) * charWide
	if room > Width(name)+Width(took)+1 && took != "0.00 s" {
		name = fmt.Sprintf(`%s <tspan class="t">%s</tspan>`, escaped(name), took)
	} else {
		name = escaped(Middle(name, room))
	}
	small := ""
	if w < 20 || class == "e" && needs > w/100*phoneWidth { // its end alone would say little
		small = ` class="s"`
	}
	p.printf(`<svg%s x="%s" y="%d" width="%s" height="%d"><text class="%s" %s y="12">%s</text></svg>`,
		small, pct(x), y, pct(w), barHigh, class, at, name)
}

// label is what a bar is called and how long it took.
func (b bar) label(r *Report) (name, took string) {
	took = b.took.String()
	n := len(b.steps)
	name = r.Steps[b.steps[0]].Text
	switch {
	case b.state == Cached && n > 1:
		return fmt.Sprintf("%d cached", n), took
	case b.state == Cached:
		return "cached: " + name, took
	case n > 1:
		return fmt.Sprintf("%d short steps", n), took
	case b.state == Failed:
		return "✗ " + name, took
	case b.state == Canceled:
		return "canceled: " + name, took
	case b.state == Running:
		return "▸ " + name, took
	}
	return name, took
}

// legend names the kinds of bars that there are.
func (p *svg) legend(lanes []lane, y int) {
	there := map[string]bool{}
	for _, l := range lanes {
		for _, row := range l.rows {
			for _, b := range row {
				there[b.class()] = true
				there["crit"] = there["crit"] || b.crit
				there[string(b.state)] = true
			}
		}
	}
	var keys []key
	for _, k := range []struct{ is, class, says string }{
		{"crit", "crit", "critical path"}, {"bar", "", "other"}, {string(Cached), "cached", "cached"},
		{string(Running), "run", "▸ running"}, {string(Failed), "failed", "✗ failed"}, {string(Canceled), "canceled", "canceled"},
	} {
		if there[k.is] {
			keys = append(keys, key{k.class, k.says})
		}
	}
	p.keys(keys, y)
}

// neverRun names the stages in which nothing ran.
func neverRun(r *Report) string {
	var names []string
	for _, s := range r.Stages {
		if s.State == StageNever && s.Label() != "" {
			names = append(names, Clean(s.Label()))
		}
	}
	if len(names) == 0 {
		return ""
	}
	says := "did not run: "
	if r.Summary.Steps.Running > 0 {
		says = "have not run yet: "
	}
	return Middle(says+strings.Join(names, ", "), 150)
}

// describe is the picture in words.
func describe(r *Report, sc scale) string {
	if sc.from.IsZero() {
		return "Nothing has run."
	}
	c := r.Summary.Steps
	s := fmt.Sprintf("%s, %d steps, of which %d ran, %d were cached", Duration(sc.took), c.Total, c.Run, c.Cached)
	for _, n := range []struct {
		n    int
		says string
	}{{c.Failed, "failed"}, {c.Canceled, "were canceled"}, {c.Running, "are running"}, {c.Pending, "are waiting"}} {
		if n.n > 0 {
			s += fmt.Sprintf(", %d %s", n.n, n.says)
		}
	}
	var path []string
	for _, l := range r.Path {
		if l.Took.Duration() >= 10*time.Millisecond {
			path = append(path, Middle(l.Text, 60)+" "+l.Took.String())
		}
	}
	if len(path) > 12 {
		path = append(path[:12], "and more")
	}
	if len(path) > 0 {
		s += ". Critical path: " + strings.Join(path, ", ")
	}
	return s + "."
}
