package term

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/lighter-oci/lighter/internal/event"
	"github.com/lighter-oci/lighter/internal/report"
)

// summary is the whole report for people: the headline, what is behind its
// numbers, the layers, the proofs, the names, the warnings.
func (s *screen) summary(r report.Report) {
	s.headline(r)
	s.facts(r)
	s.layers(r)
	if len(r.Proofs) > 0 {
		s.line("")
	}
	for _, p := range r.Proofs {
		s.proof(p)
	}
	s.result(r)
	s.mounts(r.Mounts)
	s.warnings(r.Warnings)
}

// problems is the part of the summary that must not go unsaid.
func (s *screen) problems(r report.Report) {
	for _, p := range r.Proofs {
		if !p.OK() {
			s.proof(p)
		}
	}
	s.mounts(slices.DeleteFunc(slices.Clone(r.Mounts), func(m event.Mount) bool { return m.Action != event.MountFailed }))
}

// headline answers four questions in one line: how long, how much came from
// cache, how many bytes moved, what was slowest.
func (s *screen) headline(r report.Report) {
	sum := r.Summary
	type part struct{ value, words string } // the value is what the eye looks for
	glyph, parts := s.paint(green, "✓"), []part{{sum.Took.String(), ""}}
	last, lastStep := "slowest", sum.Slowest
	if sum.Error != "" {
		glyph = s.paint(red, "✗")
		parts[0] = part{"failed", " after " + sum.Took.String()}
		if i := slices.IndexFunc(r.Steps, func(s report.Step) bool { return s.State == report.Failed }); i >= 0 {
			last, lastStep = "failed", &r.Steps[i]
		}
	}
	if n := sum.Steps; n.Total > 1 && n.Cached == n.Total {
		parts = append(parts, part{fmt.Sprintf("all %d", n.Total), " steps cached"})
	} else if n.Total > 0 {
		parts = append(parts, part{fmt.Sprintf("%d/%d", n.Cached, n.Total), " steps cached"})
	}
	parts = append(parts, part{report.Bytes(sum.Moved.Total), " moved"})

	line, at := glyph+" ", 2
	for i, p := range parts {
		if i > 0 {
			line += s.paint(dim, " · ")
			at += 3
		}
		line += s.paint(bold, p.value) + p.words
		at += report.Width(p.value + p.words)
	}
	if lastStep == nil {
		s.line(line)
		return
	}
	took := lastStep.Took.String()
	at += report.Width(" · " + last + " " + took + " ")
	name := report.Clean(lastStep.Text)
	room := s.width - at
	if room < min(report.Width(name), 12) { // too little to know it by: a line of its own
		s.line(line)
		line, room = "  ", s.width-report.Width("  "+last+" "+took+" ")
	} else {
		line += s.paint(dim, " · ")
	}
	s.line(line + last + " " + s.paint(bold, took) + " " + report.Middle(name, room))
}

// facts are the lines behind the headline's numbers. A line that would say
// nothing new is left out.
func (s *screen) facts(r report.Report) {
	gap := true
	for _, f := range []struct {
		label, mark string
		parts       []string
	}{
		{"moved", "·", movedParts(r.Summary.Moved)},
		{"image", "·", imageParts(r)},
		{"mounts", "·", mountParts(r.Mounts)},
		{"cache", "·", cacheParts(r)},
		{"together", "·", togetherParts(r.Overlaps)},
		{"not run", "·", unusedParts(r)},
		{"critical", "→", pathParts(r, max(28, s.width/4))},
	} {
		if len(f.parts) == 0 {
			continue
		}
		if gap {
			s.line("")
			gap = false
		}
		s.fact(f.label, f.mark, f.parts)
	}
}

// moreThan is one over the share of the bytes below which a way is noise, as
// the Dockerfile's 500 bytes are beside a pull.
const moreThan = 1000

func movedParts(m report.Moved) []string {
	var parts []string
	for _, p := range []struct {
		name  string
		bytes int64
	}{{"context", m.Context}, {"pulled", m.Pulled}, {"pushed", m.Pushed}, {"loaded", m.Loaded}, {"written", m.Written}, {"cache mounts", m.Mounts}} {
		if p.bytes*moreThan > m.Total {
			parts = append(parts, p.name+" "+report.Bytes(p.bytes))
		}
	}
	return parts
}

func imageParts(r report.Report) []string {
	i := r.Summary.Image
	if i.Total == 0 {
		return nil
	}
	layers := "1 layer"
	if n := len(r.Layers); n != 1 {
		layers = fmt.Sprintf("%d layers", n)
	}
	parts := []string{report.Bytes(i.Total) + " in " + layers}
	share := func(n int64, words string) {
		switch n {
		case 0:
		case i.Total:
			parts = append(parts, "all "+words)
		default:
			parts = append(parts, report.Bytes(n)+" "+words)
		}
	}
	share(i.Made, "made now")
	share(i.Kept, "already there")
	return parts
}

// mountParts say what is in cache mounts, and what travelled of it: parts only, or more
// than that, with what the artifact itself takes.
func mountParts(list []event.Mount) []string {
	var parts []string
	for _, kind := range []struct {
		action event.MountAction
		words  string
		way    string
	}{
		{event.MountRestored, "restored", "fetched"}, {event.MountAbsent, "began empty", ""},
		{event.MountSaved, "saved", "sent"}, {event.MountNewer, "kept as others sent them", ""},
	} {
		n, size, moved := 0, int64(0), int64(0)
		for _, m := range list {
			if m.Action == kind.action && m.Name != "" {
				n, size, moved = n+1, size+m.Size, moved+m.Moved
			}
		}
		if n == 0 {
			continue
		}
		part := fmt.Sprintf("%d %s", n, kind.words)
		if kind.way != "" {
			part += fmt.Sprintf(", %s in files, %s %s", report.Bytes(size), report.Bytes(moved), kind.way)
		}
		parts = append(parts, part)
	}
	return parts
}

// cacheParts say what it cost to write caches.
func cacheParts(r report.Report) []string {
	var parts []string
	for _, st := range r.Steps {
		if where, ok := st.CacheExport(); ok && st.State == report.Run {
			parts = append(parts, "written to "+where+" in "+st.Took.String())
		}
	}
	return parts
}

// shortOverlap is below what anyone would plan for: stages that only met.
const shortOverlap = 50 * time.Millisecond

// togetherParts is the pairs of stages that ran at the same time, the longest
// few.
func togetherParts(list []report.Overlap) []string {
	var parts []string
	for _, o := range list {
		if len(parts) < 3 && time.Duration(o.Took) >= shortOverlap {
			parts = append(parts, report.Clean(o.A)+" + "+report.Clean(o.B)+" "+o.Took.String())
		}
	}
	return parts
}

// unusedParts is the stages that nothing needed. In a failed build it would
// only be those that were not reached.
func unusedParts(r report.Report) []string {
	var parts []string
	for _, st := range r.Stages {
		if st.State == report.StageNever && r.Summary.Error == "" {
			parts = append(parts, report.Clean(st.Label()))
		}
	}
	return parts
}

// pathParts names the steps that matter on the critical path, at most four,
// each at least a twentieth of the whole. One alone is the slowest step, which
// the headline has. Names are cut to nameWidth columns.
func pathParts(r report.Report, nameWidth int) []string {
	const most, share = 4, 20
	var steps []report.PathStep
	for _, p := range r.Path {
		if p.Took*share >= r.Summary.Took {
			steps = append(steps, p)
		}
	}
	for len(steps) > most {
		least := 0
		for i, p := range steps {
			if p.Took < steps[least].Took {
				least = i
			}
		}
		steps = slices.Delete(steps, least, least+1)
	}
	if len(steps) < 2 || r.Summary.Took < report.Seconds(time.Second) {
		return nil
	}
	var parts []string
	for _, p := range steps {
		parts = append(parts, report.Middle(report.Clean(p.Text), nameWidth)+" "+p.Took.String())
	}
	return parts
}

// layers is the table of layers, with a mark before those that are not as
// asked.
func (s *screen) layers(r report.Report) {
	t := r.LayerTable()
	lines := t.Render(s.width-2, func(row, col int, cell string) string { return s.layerCell(r, t, row, col, cell) })
	if len(lines) == 0 {
		return
	}
	s.line("")
	for i, l := range lines {
		mark := "  "
		if i > 0 && wrong(r.Layers[i-1]) {
			mark = s.paint(red, "✗") + " "
		}
		s.line(mark + l)
	}
}

func wrong(l report.Layer) bool { return l.Verdict != nil && !l.Verdict.OK }

// layerCell colours what a word says already: units and what cost nothing are
// quiet, a codec that is not as asked is not.
func (s *screen) layerCell(r report.Report, t report.Table, row, col int, cell string) string {
	if row < 0 {
		return s.paint(dim, cell)
	}
	l := r.Layers[row]
	switch t.Columns[col].Name {
	case "in", "out":
		if i := strings.LastIndexByte(cell, ' '); i >= 0 {
			return cell[:i] + s.paint(dim, cell[i:])
		}
	case "codec":
		if wrong(l) {
			return s.paint(red, cell)
		}
	case "":
		if l.Made == "" || l.Made == event.LayerReused {
			return s.paint(dim, cell)
		}
		return s.paint(green, cell)
	case "from":
		return s.paint(dim, cell)
	}
	return cell
}

// result is the digest and the names that the proofs have not said.
func (s *screen) result(r report.Report) {
	var lines []string
	for _, n := range r.Summary.Names {
		if !slices.ContainsFunc(r.Proofs, func(p report.Proof) bool { return p.Ref == n }) {
			lines = append(lines, "  "+report.Clean(n))
		}
	}
	if d := report.Clean(r.Summary.Digest); d != "" {
		lines = append(lines, "  "+s.paint(dim, d))
	}
	if len(lines) > 0 && len(r.Proofs) == 0 {
		s.line("")
	}
	for _, l := range lines {
		s.line(l)
	}
}

// mounts are the cache mounts that did not travel, and why.
func (s *screen) mounts(list []event.Mount) {
	for _, m := range list {
		switch {
		case m.Action == event.MountFailed:
			what := report.Clean(m.Error)
			if !strings.HasPrefix(what, "cache mount") {
				what = "cache mounts: " + what
			}
			s.hang(s.paint(yellow, "!")+" ", 2, what)
		case m.Action == event.MountAbsent && m.Name == "":
			s.hang(s.paint(dim, "·")+" ", 2, "no cache mounts in "+report.Clean(m.Where)+" yet")
		case m.Left > 0:
			s.hang(s.paint(dim, "·")+" ", 2, fmt.Sprintf("cache mount %s: %s left out, too old, too much, or still changing", report.Clean(m.Name), report.Plural(m.Left, "file")))
		}
	}
}

// warnings is advice about the Dockerfile: place, words, link.
func (s *screen) warnings(list []event.Warning) {
	if len(list) > 0 {
		s.line("")
	}
	for _, w := range list {
		text := report.Clean(w.Short)
		if where := report.Clean(w.File); where != "" {
			if w.Line > 0 {
				line := fmt.Sprint(w.Line)
				where += ":" + line
				text = strings.TrimSuffix(text, " (line "+line+")") // BuildKit repeats it
			}
			text = where + ": " + text
		}
		mark := s.paint(yellow, "!")
		if w.Note {
			mark = s.paint(dim, "·")
		}
		s.hang(mark+" ", 2, text)
		if url := report.Clean(w.URL); url != "" {
			s.line("  " + s.paint(dim, url))
		}
	}
}
