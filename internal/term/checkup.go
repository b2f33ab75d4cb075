package term

import (
	"cmp"
	"fmt"
	"io"
	"strings"

	"github.com/lighter-oci/lighter/internal/report"
)

// Checkup shows on Out what works here and what does not.
func (o *Output) Checkup(c report.Checkup) error {
	if o.JSON {
		return o.Encode(c)
	}
	s := o.outScreen()
	s.section("this machine")
	s.checks(c.Machine)
	s.section("compilers")
	s.checks(c.Compilers)
	if len(c.Pairs) > 0 {
		s.section("what does not go together")
		s.checks(c.Pairs)
	}
	if len(c.Targets) > 0 {
		of := "targets"
		if c.Project != "" {
			of += " of " + c.Project
		}
		s.section(of)
		s.checks(c.Targets)
	}
	s.section("daemons")
	var daemons []report.Check
	for _, d := range c.Daemons {
		check := d.Check
		if d.State == report.CheckOK {
			check.Found += ", reads zstd"
			if !d.ReadsZstd {
				check.Found = strings.TrimSuffix(check.Found, "reads zstd") + "does not read zstd: build with --compression gzip for it"
			}
		}
		daemons = append(daemons, check)
	}
	s.checks(daemons)
	s.section("credentials")
	s.credentials(c.Credentials)
	for _, r := range c.Registries {
		s.registry(r)
	}
	_, err := io.WriteString(o.Out, s.String())
	return err
}

func (s *screen) section(name string) {
	if s.Len() > 0 {
		s.line("")
	}
	s.line(s.paint(bold, report.Clean(name)))
}

// checks are a line each, with the next step below those that failed.
func (s *screen) checks(list []report.Check) {
	width := 0
	for _, c := range list {
		width = max(width, report.Width(report.Clean(c.Name)))
	}
	for _, c := range list {
		name := report.Clean(c.Name)
		column := 2 + 2 + width + 2
		s.hang("  "+s.glyph(c)+" "+name+strings.Repeat(" ", width-report.Width(name)+2), column, report.Clean(c.Found))
		fix := cleanLines(c.Fix)
		for i, l := range fix {
			head := s.paint(dim, "→") + " "
			if i > 0 {
				head = "  "
			}
			if len(fix) > 1 { // a file to write keeps its lines
				s.line(strings.Repeat(" ", column) + head + l)
				continue
			}
			s.hang(strings.Repeat(" ", column)+head, column+2, l)
		}
	}
}

// glyph says in a character what the words say: a no that nobody has to mend is
// none to be alarmed by.
func (s *screen) glyph(c report.Check) string {
	switch {
	case c.State == report.CheckOK:
		return s.paint(green, "✓")
	case c.State == report.CheckUnknown:
		return s.paint(dim, "?")
	case c.Needed || c.Fix != "":
		return s.paint(red, "✗")
	}
	return s.paint(dim, "–")
}

func (s *screen) credentials(list []report.CredentialCheck) {
	t := report.Table{Columns: []report.Column{{}, {}, {Shrink: true}}}
	for _, c := range list {
		if c.Problem == "" {
			account := "account " + c.Account
			if c.Account == "" {
				account = "account not told"
			}
			t.Add(c.Registry, account, "from "+c.Source)
		}
	}
	lines := t.Render(s.width-4, nil)
	if len(lines) > 0 {
		lines = lines[1:] // heads that say nothing
	}
	for _, l := range lines {
		s.line("  " + s.paint(green, "✓") + " " + l)
	}
	for _, c := range list {
		if c.Problem != "" {
			s.hang("  "+s.paint(red, "✗")+" ", 4, report.Clean(fmt.Sprintf("%s: %s", cmp.Or(c.Registry, c.Source), c.Problem)))
			s.hang("    "+s.paint(dim, "→")+" ", 6, report.Clean(c.Fix))
		}
	}
	if len(list) == 0 {
		s.line("  " + s.paint(dim, "–") + " none found; public images need none")
	}
}

func (s *screen) registry(r report.RegistryCheck) {
	s.section(r.Registry)
	s.checks(r.Checks)
	for _, l := range r.Left {
		s.hang("  "+s.paint(yellow, "!")+" ", 4, "left behind: "+report.Clean(l))
	}
}
