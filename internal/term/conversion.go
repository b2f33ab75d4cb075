package term

import (
	"io"
	"strings"

	"github.com/lighter-oci/lighter/internal/report"
)

// Conversion says what became of an image: on Err, and as JSON on Out where that
// is asked for.
func (o *Output) Conversion(c report.Conversion) error {
	if o.JSON {
		if err := o.Encode(c); err != nil {
			return err
		}
	}
	s := screen{width: o.width(), color: o.Color}
	if o.Quiet {
		for _, p := range c.Proofs {
			if !p.OK() {
				s.proof(p)
			}
		}
		_, err := io.WriteString(o.Err, s.String())
		return err
	}
	s.line(s.paint(green, "✓") + " " + s.paint(bold, report.Clean(c.Headline())))
	s.below(c.Table().Render(s.width-2, s.head))
	s.line("")
	for _, p := range c.Proofs {
		s.proof(p)
	}
	if len(c.Proofs) == 0 {
		s.line("  " + report.Clean(c.Destination))
	}
	s.line("  " + s.paint(dim, report.Clean(c.Root)))
	for _, n := range c.LeftBehind {
		s.hang(s.paint(yellow, "!")+" ", 2, "left behind: "+report.Clean(n))
	}
	for _, n := range c.Notes {
		s.hang(s.paint(yellow, "!")+" ", 2, report.Clean(n))
	}
	_, err := io.WriteString(o.Err, s.String())
	return err
}

// writeLine puts one whole line on Err.
func (o *Output) writeLine(text string) {
	io.WriteString(o.Err, strings.TrimRight(text, "\n")+"\n") //nolint:errcheck // there is nowhere left to say it
}
