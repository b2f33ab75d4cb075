package term

import (
	"fmt"
	"io"

	"github.com/lighter-oci/lighter/internal/report"
)

// Shown is a build of the past, or one that is running.
type Shown struct {
	Head    string
	Facts   []Fact
	Error   string
	Report  report.Report
	Running bool
}

// Fact is a label of one or two words, and what it says.
type Fact struct{ Label, Text string }

// Shown writes what is known of a build to Out: who and what, the summary, why it was
// slow, and its steps with the numbers that they are asked for by.
func (o *Output) Shown(b Shown) error {
	s := screen{width: o.outWidth(), color: o.Color && o.OutWidth > 0}
	s.line(s.paint(bold, report.Clean(b.Head)))
	for _, f := range b.Facts {
		s.fact(f.Label, "·", []string{report.Clean(f.Text)})
	}
	s.line("")
	if b.Error != "" {
		s.hang(s.paint(red, "✗")+" ", 2, report.Clean(b.Error))
		s.line("")
	}
	if len(b.Report.Steps) > 0 || b.Report.Summary.Digest != "" {
		if b.Running {
			s.line("so far:")
		}
		s.summary(b.Report)
		if len(b.Report.Findings) > 0 {
			s.findings(b.Report, true)
		}
		s.steps(b.Report.Steps)
	}
	_, err := io.WriteString(o.Out, s.String())
	return err
}

// steps are all of them, numbered.
func (s *screen) steps(list []report.Step) {
	t := report.Table{Columns: []report.Column{{Name: "#", Right: true}, {Name: "state"}, {Name: "took", Right: true}, {Name: "stage", Optional: true}, {Name: "step", Shrink: true}}}
	for i, st := range list {
		took := ""
		if st.Started != nil && st.State != report.Cached {
			took = st.Took.String()
		}
		t.Add(fmt.Sprint(i+1), string(st.State), took, report.Stage{Name: st.Stage, Platform: st.Platform}.Label(), st.Text)
	}
	s.below(t.Render(s.width-2, func(row, _ int, cell string) string {
		if row < 0 || list[row].State == report.Cached {
			return s.paint(dim, cell)
		}
		return cell
	}))
}

// Comparison writes what is different between two builds to Out.
func (o *Output) Comparison(before, after string, c report.Comparison) error {
	s := screen{width: o.outWidth(), color: o.Color && o.OutWidth > 0}
	s.fact("before", "·", []string{report.Clean(before)})
	s.fact("after", "·", []string{report.Clean(after)})
	s.line("")
	t := report.Table{Columns: []report.Column{{Name: ""}, {Name: "before", Right: true}, {Name: "after", Right: true}, {Name: "", Right: true}}}
	t.Add("time", c.Before.Took.String(), c.After.Took.String(), moreTime(c.Took))
	cached := func(n report.StepCount) string { return fmt.Sprintf("%d/%d", n.Cached, n.Total) }
	if c.Before.Steps.Total+c.After.Steps.Total > 0 {
		t.Add("steps cached", cached(c.Before.Steps), cached(c.After.Steps))
	}
	t.Add("moved", report.Bytes(c.Before.Moved.Total), report.Bytes(c.After.Moved.Total), moreBytes(c.Moved))
	if c.Before.Image.Total+c.After.Image.Total > 0 {
		t.Add("image", report.Bytes(c.Before.Image.Total), report.Bytes(c.After.Image.Total), moreBytes(c.Image))
	}
	for _, l := range t.Render(s.width-2, s.head) {
		s.line("  " + l)
	}
	s.stepDiffs(c)
	s.layerDiffs(c)
	_, err := io.WriteString(o.Out, s.String())
	return err
}

func (s *screen) stepDiffs(c report.Comparison) {
	s.line("")
	if len(c.Steps) == 0 {
		s.line("no step is different")
		return
	}
	little := 0
	for _, d := range c.Steps {
		if max(d.Took, -d.Took) < littleTook && d.Change != report.StepFailed && d.Why == "" {
			little++
			continue
		}
		mark, colour := "+", red
		switch d.Change {
		case report.StepFaster, report.StepWon, report.StepGone:
			mark, colour = "-", green
		case report.StepNotRun:
			mark, colour = "·", dim
		case report.StepFailed:
			mark = "✗"
		}
		took := moreTime(d.Took)
		room := s.width - len("+ ") - len("lost-cache  ") - len(took) - len("  ")
		s.line(fmt.Sprintf("%s %-10s  %s  %s", s.paint(colour, mark), d.Change, report.Middle(report.Clean(d.Step().Text), max(room, 12)), s.paint(bold, took)))
		if d.Why == "" {
			continue
		}
		why := report.Clean(d.Why)
		if d.Behind != "" {
			why = "follows from " + report.ShortText(report.Clean(d.Behind)) + ": " + why
		}
		if d.File != "" {
			why = fmt.Sprintf("%s:%d: %s", report.Clean(d.File), d.Line, why)
		}
		s.hang("  ? ", 4, why)
	}
	if little > 0 {
		s.line(s.paint(dim, "· and "+report.Plural(little, "step")+" under 0.1 s"))
	}
}

// littleTook is a difference that is no line worth.
const littleTook = report.Seconds(1e8)

func (s *screen) layerDiffs(c report.Comparison) {
	if len(c.Layers) == 0 {
		return
	}
	t := report.Table{Columns: []report.Column{{Name: "layer"}, {Name: ""}, {Name: "before", Right: true}, {Name: "after", Right: true}, {Name: "", Right: true}, {Name: "from", Shrink: true}}}
	for _, d := range c.Layers {
		l, was, is := d.After, "", ""
		if d.After == nil {
			l = d.Before
		} else {
			is = report.Bytes(d.After.Out)
		}
		if d.Before != nil {
			was = report.Bytes(d.Before.Out)
		}
		t.Add(report.ShortDigest(l.Digest), string(d.Change), was, is, moreBytes(d.Bytes), l.Name)
	}
	s.line("")
	for _, l := range t.Render(s.width-2, s.head) {
		s.line("  " + l)
	}
	if c.Same > 0 {
		s.line("  " + s.paint(dim, report.Plural(c.Same, "layer")+" the same"))
	}
}

// moreTime is a difference with its sign.
func moreTime(d report.Seconds) string {
	if d < 0 {
		return "-" + (-d).String()
	}
	return "+" + d.String()
}

func moreBytes(n int64) string {
	if n < 0 {
		return "-" + report.Bytes(-n)
	}
	return "+" + report.Bytes(n)
}

// outWidth is the width of Out; that of a log where it is no terminal.
func (o *Output) outWidth() int {
	if o.OutWidth <= 0 {
		return logWidth
	}
	return max(o.OutWidth, 40)
}
