package report

// box is a part of the picture that is taken.
type box struct{ x0, y0, x1, y1 float64 }

func (b box) meets(o box) bool {
	return b.x0 < o.x1 && o.x0 < b.x1 && b.y0 < o.y1 && o.y0 < b.y1
}

// labels writes the names, the recommended one first: it gets the best place.
func (c *chart) labels() {
	for _, best := range []bool{true, false} {
		for _, p := range c.points {
			if p.best == best {
				c.label(p)
			}
		}
	}
}

// label writes a name where there is room beside its point. Lines of levels
// fall from left to right, so above on the right and below on the left are the
// first to be tried.
func (c *chart) label(p point) {
	text, class, away := p.name, "name", float64(labelAway)
	if p.best {
		text, class, away = p.name+", recommended", "name best", labelAway+4
	}
	w := labelChar * float64(len(text))
	right, left, middle := p.x+away, p.x-away-w, p.x-w/2
	above, level, below := p.y-away, p.y+5, p.y+away+10
	places := [][2]float64{{right, above + 4}, {left, below}, {right, level}, {left, level}, {middle, above - 2}, {middle, below + 4}, {right, below}, {left, above}}
	at := places[0]
	for _, try := range places {
		if c.fits(labelBox(try, w)) {
			at = try
			break
		}
	}
	c.taken = append(c.taken, labelBox(at, w))
	c.printf(`<text class="%s" x="%.1f" y="%.1f" fill="#1a1c1f" font-family="ui-monospace, monospace">%s</text>`, class, at[0], at[1], escaped(text))
}

// labelBox is what text at a baseline takes.
func labelBox(at [2]float64, w float64) box {
	return box{at[0], at[1] - labelHigh + 4, at[0] + w, at[1] + 4}
}

// fits tells whether a box is free and inside.
func (c *chart) fits(b box) bool {
	if b.x0 < chartLeft || b.x1 > chartRight || b.y0 < chartTop-8 || b.y1 > chartBottom {
		return false
	}
	for _, t := range c.taken {
		if b.meets(t) {
			return false
		}
	}
	return true
}
