package report

import (
	"fmt"
	"strconv"
	"time"
)

// ComparisonChart is how two builds are drawn side by side: a row for each step
// that is not as it was, with a bar for before over one for after. The zero value
// is a picture for a page that has PictureCSS.
type ComparisonChart struct {
	ID         string // as Timeline's; "comparison" where it is none
	Standalone bool   // makes a file of its own
}

const (
	mostDiffs = 24 // rows; a page has all of them in its table
	pairHigh  = 12 // a bar
	pairRow   = 60 // name, two bars and what is apart
	pairsWide = 82 // percent, with times behind them
	nameWide  = 56 // percent, with the difference behind it
	noticed   = 10 * time.Millisecond
)

// SVG draws the comparison.
func (o ComparisonChart) SVG(c *Comparison) string {
	p := &svg{id: pictureID(o.ID, "comparison"), standalone: o.Standalone}
	steps := c.Steps[:min(len(c.Steps), mostDiffs)]
	longest := max(c.Before.Took, c.After.Took, 1)
	for _, d := range steps {
		for _, s := range []*Step{d.Before, d.After} {
			if s != nil {
				longest = max(longest, s.Took)
			}
		}
	}
	height := pairRow*(1+len(steps)) + legendHigh
	more := ""
	if n := len(c.Steps) - len(steps); n > 0 {
		more = fmt.Sprintf("and %d more", n)
		height += nameHigh
	}
	p.begin(height, false, "Two builds side by side", c.describe(steps))
	p.hatch()

	whole := func(s Summary) *Step {
		state := Run
		if s.Error != "" {
			state = Failed
		}
		return &Step{Text: "the whole build", State: state, Took: s.Took}
	}
	p.pair(StepDiff{Before: whole(c.Before), After: whole(c.After), Took: c.Took}, longest, 0)
	for i, d := range steps {
		p.pair(d, longest, pairRow*(1+i))
	}
	if more != "" {
		p.text("q", "0", height-legendHigh-4, more)
	}
	p.pairLegend(steps, height-6)
	return p.end()
}

// pair draws what a step took before and after.
func (p *svg) pair(d StepDiff, longest Seconds, y int) {
	if y > 0 {
		p.printf(`<line class="g" y1="%d" x2="100%%" y2="%d"/>`, y, y)
	}
	step := d.Step()
	name := Middle(step.where()+step.Text, columns(nameWide)-2)
	p.printf(`<svg y="%d" width="%d%%" height="16"><title>%s</title><text y="12">%s</text></svg>`,
		y+6, nameWide, escaped(Middle(step.where()+step.Text, 160)), escaped(name))
	says, class := d.says()
	p.text("e "+class, "100%", y+18, says)
	y += 26
	for i, s := range []*Step{d.Before, d.After} {
		if s != nil && s.State != Pending {
			p.half(s, i == 1, longest, y+i*(pairHigh+2))
		}
	}
	p.b.WriteByte('\n')
}

// half draws one of the two bars, and how long it took.
func (p *svg) half(s *Step, after bool, longest Seconds, y int) {
	class, fill := "bar", ""
	switch {
	case s.State == Failed || s.State == Canceled:
		class += " " + string(s.State)
	case s.State == Cached:
		class, fill = class+" cached", fmt.Sprintf(` class="hatched" fill="url(#%s-hatch)"`, p.id)
	case after:
		class += " crit"
	}
	w := max(pairsWide*float64(s.Took)/float64(longest), smallest)
	took := s.Took.String()
	if s.State == Cached {
		took = "cached"
	}
	p.printf(`<g class="%s"><rect y="%d" width="%s" height="%d" rx="3"%s/><text x="%s" dx="6" y="%d">%s</text></g>`,
		class, y, pct(w), pairHigh, fill, pct(w), y+10, took)
}

// where is the step's platform and stage, to tell it from another's.
func (s Step) where() string {
	label := Stage{Name: s.Stage, Platform: s.Platform}.Label()
	if label == "" {
		return ""
	}
	return Clean(label) + ": "
}

// says is the difference in words, with a glyph, and the class that it has.
func (d StepDiff) says() (says, class string) {
	glyph, class := "▲ ", "worse"
	took := d.Took
	if took < 0 {
		glyph, class, took = "▼ ", "better", -took
	}
	change := map[StepChange]string{
		StepLost: "lost cache", StepNew: "new", StepSlower: "slower", StepGone: "gone", StepFaster: "faster", StepWon: "from cache",
		"": map[string]string{"worse": "slower", "better": "faster"}[class],
	}[d.Change]
	switch {
	case d.Change == StepFailed:
		return "✗ failed", "worse"
	case d.Change == StepNotRun:
		return "did not run", "q"
	case took.Duration() < noticed && d.Change == "":
		return "as long", "q"
	case took.Duration() < noticed:
		return change, "q"
	}
	return glyph + took.String() + " " + change, class
}

// pairLegend names what there is.
func (p *svg) pairLegend(steps []StepDiff, y int) {
	keys := []key{{"", "before"}, {"crit", "after"}}
	there := map[State]bool{}
	for _, d := range steps {
		for _, s := range []*Step{d.Before, d.After} {
			if s != nil {
				there[s.State] = true
			}
		}
	}
	for _, k := range []struct {
		state State
		key   key
	}{{Cached, key{"cached", "cached"}}, {Failed, key{"failed", "✗ failed"}}, {Canceled, key{"canceled", "canceled"}}} {
		if there[k.state] {
			keys = append(keys, k.key)
		}
	}
	p.keys(keys, y)
}

// describe is the picture in words.
func (c *Comparison) describe(steps []StepDiff) string {
	s := "Before " + c.Before.Took.String() + ", after " + c.After.Took.String()
	if len(steps) == 0 {
		return s + ". All steps are as they were."
	}
	s += ". " + strconv.Itoa(len(c.Steps)) + " steps differ"
	for i, d := range steps[:min(len(steps), 8)] {
		step := d.Step()
		says, _ := d.says()
		s += map[bool]string{true: ": ", false: "; "}[i == 0] + Middle(step.where()+step.Text, 60) + " " + says
	}
	return s + "."
}
