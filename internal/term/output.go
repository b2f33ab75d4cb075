// Package term owns how people read what happened: the summary after a build,
// tables, and errors, on a terminal or in a log.
//
// It decides nothing and computes nothing: the answers come from package
// report. The live view during a build is BuildKit's own and not here. Text
// that came from a build or a registry never reaches a terminal uncleaned.
package term

import (
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"

	xterm "golang.org/x/term"

	"github.com/lighter-oci/lighter/internal/report"
)

// Output is where results and words go. Results (JSON, tables that were asked
// for, IDs) go to Out, people's words to Err, so that a pipe gets the former
// only.
type Output struct {
	Out io.Writer
	Err io.Writer

	Color bool // Err takes ANSI colours
	JSON  bool // Report writes JSON to Out, too
	Quiet bool // Report says only what is wrong on Err
	// Explain shows with each finding what to change, and says so where there is
	// nothing.
	Explain bool

	Width    int // columns of Err; 0 is 80
	OutWidth int // columns of Out; 0 is unlimited, for files and pipes

	terminal bool // Err is one, and can be written over
}

// logWidth is what a line may take where Err is a file, a pipe or a CI log:
// nothing is cut off by it there, and people read it in browsers.
const logWidth = 100

// New looks at two files, usually standard output and error, and at the
// environment: NO_COLOR (https://no-color.org) and TERM=dumb turn colour off,
// and so does an Err that is no terminal.
func New(out, err *os.File) *Output {
	o := &Output{Out: out, Err: err, Width: columns(err), OutWidth: columns(out)}
	o.Color = o.Width > 0 && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
	if runtime.GOOS == "windows" && os.Getenv("WT_SESSION") == "" {
		o.Color = false // the old console shows the escapes
	}
	o.terminal = o.Width > 0 && os.Getenv("TERM") != "dumb"
	if o.Width == 0 {
		o.Width = logWidth
	}
	return o
}

// columns is the width of a terminal; 0 where f is none.
func columns(f *os.File) int {
	fd := int(f.Fd())
	if !xterm.IsTerminal(fd) {
		return 0
	}
	w, _, err := xterm.GetSize(fd)
	if err != nil || w <= 0 {
		return 80 // a terminal without a size, as some serial lines have
	}
	return w
}

// Report says what happened: the summary on Err, and JSON on Out where that is
// asked for. What is wrong with a pushed image is always said.
func (o *Output) Report(r report.Report) error {
	s := screen{width: o.width(), color: o.Color}
	if o.JSON {
		if err := o.Encode(r); err != nil {
			return fmt.Errorf("write the report: %w", err)
		}
	}
	if o.Quiet {
		s.problems(r)
		if o.Explain { // which was asked for
			s.findings(r, true)
		}
	} else {
		s.summary(r)
		s.findings(r, o.Explain)
	}
	_, err := io.WriteString(o.Err, s.String())
	return err
}

// Table writes a table that was asked for to Out.
func (o *Output) Table(t report.Table) error {
	lines := t.Render(o.OutWidth, nil)
	if len(lines) == 0 {
		return nil
	}
	_, err := io.WriteString(o.Out, strings.Join(lines, "\n")+"\n")
	return err
}

// Error says what went wrong in one line, with the next step behind an arrow:
//
//	lighter: localhost:5000: connection refused → is the registry running?
//
// The next step is what the first error in the chain with a Hint method says.
// Further lines of either, which a quoted profile or log may have, follow
// below, indented. A nil error says nothing.
func (o *Output) Error(err error) {
	if err == nil {
		return
	}
	s := screen{width: o.width(), color: o.Color}
	what := cleanLines(err.Error())
	if len(what) == 0 {
		what = []string{"failed without saying why"}
	}
	var hinted interface{ Hint() string }
	var next []string
	if errors.As(err, &hinted) {
		next = cleanLines(hinted.Hint())
	}
	line := s.paint(red, "lighter:") + " " + what[0]
	if len(next) > 0 && !strings.Contains(what[0], next[0]) {
		line += s.paint(dim, " → ") + next[0]
	}
	s.line(line)
	for _, more := range [][]string{what[1:], next[min(1, len(next)):]} {
		for _, l := range more {
			s.line("  " + l)
		}
	}
	io.WriteString(o.Err, s.String()) //nolint:errcheck // there is nowhere left to say it
}

// cleanLines is the lines of s that are not empty when cleaned.
func cleanLines(s string) []string {
	var lines []string
	for l := range strings.Lines(s) {
		if l = report.Clean(l); l != "" {
			lines = append(lines, l)
		}
	}
	return lines
}

func (o *Output) width() int {
	if o.Width <= 0 {
		return 80
	}
	return max(o.Width, 40) // below that nothing can be laid out
}
