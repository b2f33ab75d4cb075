package term

import (
	"fmt"
	"strings"

	"github.com/lighter-oci/lighter/internal/report"
)

// findings says why a build was slow, a line each; with the lines to change
// where full.
func (s *screen) findings(r report.Report, full bool) {
	if len(r.Findings) == 0 {
		if full && r.Summary.Error == "" {
			s.line("")
			s.line(s.paint(green, "✓") + " nothing to explain: " + nothing(r))
		}
		return
	}
	s.line("")
	for _, f := range r.Findings {
		text := report.Clean(f.Text)
		if f.File != "" {
			text = fmt.Sprintf("%s:%d: %s", report.Clean(f.File), f.Line, text)
		}
		s.hang(s.paint(yellow, "?")+" ", 2, text)
		if full {
			s.change(f)
		}
	}
	if !full {
		s.line("  " + s.paint(dim, "lighter build --explain shows the lines to change"))
	}
}

// change is what should stand there, as it can be copied: not wrapped.
func (s *screen) change(f report.Finding) {
	if len(f.Change) > 0 && f.ChangeIn != "" {
		s.line("    " + s.paint(dim, report.Clean(f.ChangeIn)+":"))
	}
	for _, l := range f.Change {
		indent := len(l) - len(strings.TrimLeft(l, " "))
		s.line(strings.TrimRight("    "+l[:indent]+s.paint(green, report.Clean(l)), " "))
	}
	if f.Note != "" {
		s.hang("    ", 4, report.Clean(f.Note))
	}
}

// nothing is why there is nothing to explain.
func nothing(r report.Report) string {
	n := r.Summary.Steps
	switch {
	case n.Total == 0:
		return "the build has no steps"
	case n.Cached == n.Total:
		return fmt.Sprintf("all %d steps came from the cache", n.Total)
	}
	return "its Dockerfile was not read here"
}
