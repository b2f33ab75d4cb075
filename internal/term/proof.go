package term

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/lighter-oci/lighter/internal/report"
)

// proof says whether what was read back is what was asked for. A layer that is
// not gets a line, and so does each remedy, behind an arrow.
func (s *screen) proof(p report.Proof) {
	glyph := s.paint(green, "✓")
	if !p.OK() {
		glyph = s.paint(red, "✗")
	}
	s.hang(glyph+" ", 2, report.Clean(p.Line()))
	bad, notes := p.Mismatches(), gathered(p.Notes())
	s.reasons(bad, red)
	s.reasons(notes, yellow)
	var said []string
	for _, l := range slices.Concat(bad, notes) {
		fix := report.Clean(l.Fix)
		if fix == "" || slices.Contains(said, fix) {
			continue
		}
		said = append(said, fix)
		if strings.HasPrefix(fix, "-") {
			fix = "add " + fix
		}
		s.hang("  "+s.paint(dim, "→")+" ", 4, fix)
	}
}

// gathered is one entry for all layers with the same codec, reason and remedy;
// its digest is then their number.
func gathered(list []report.Proven) []report.Proven {
	var some []report.Proven
	var count []int
	for _, l := range list {
		i := slices.IndexFunc(some, func(o report.Proven) bool { return o.Codec == l.Codec && o.Verdict == l.Verdict })
		if i < 0 {
			some, count = append(some, l), append(count, 1)
			continue
		}
		count[i]++
		some[i].Digest = fmt.Sprintf("%d layers", count[i])
	}
	return some
}

// reasons is a line a layer: which, what it is, why.
func (s *screen) reasons(list []report.Proven, c style) {
	var t report.Table
	t.Columns = make([]report.Column, 2)
	for _, l := range list {
		t.Add(report.ShortDigest(l.Digest), cmp.Or(l.Codec, "unknown"))
	}
	paint := func(_, col int, cell string) string {
		if col == 1 {
			return s.paint(c, cell)
		}
		return cell
	}
	plain, painted := t.Render(0, nil), t.Render(0, paint)
	column := 0 // where the reasons begin
	for _, l := range plain {
		column = max(column, report.Width(l)+4)
	}
	for i, l := range list {
		fill := strings.Repeat(" ", column-2-report.Width(plain[i+1]))
		s.hang("  "+painted[i+1]+fill, column, report.Clean(l.Reason))
	}
}
