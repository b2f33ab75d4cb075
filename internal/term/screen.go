package term

import (
	"strings"

	"github.com/lighter-oci/lighter/internal/report"
)

// screen collects the lines of one message, which is then written at once so
// that nothing comes between.
type screen struct {
	strings.Builder
	width int
	color bool
}

// style is an ANSI SGR parameter. Colours repeat what a word or glyph says.
type style string

const (
	bold   style = "1"
	dim    style = "2"
	red    style = "31"
	green  style = "32"
	yellow style = "33"
)

// paint dresses s where colours are wanted. s must be clean.
func (s *screen) paint(c style, text string) string {
	if !s.color || text == "" {
		return text
	}
	return "\x1b[" + string(c) + "m" + text + "\x1b[0m"
}

func (s *screen) line(text string) {
	s.WriteString(text)
	s.WriteByte('\n')
}

// factColumn is where the facts under the headline begin, behind their labels.
const factColumn = 12

// fact writes a label and the parts of what it says, at least one, with a mark ("·", "→")
// between them. Lines break behind a mark and go on below the first part.
func (s *screen) fact(label, mark string, parts []string) {
	line := "  " + s.paint(dim, label) + strings.Repeat(" ", factColumn-2-len(label))
	at := factColumn
	for i, part := range parts {
		part = report.Middle(part, s.width-factColumn-2)
		w := report.Width(part)
		if i > 0 {
			line += " " + s.paint(dim, mark)
			if at += 2; at+1+w+2 > s.width {
				s.line(line)
				line, at = strings.Repeat(" ", factColumn), factColumn
			} else {
				line += " "
				at++
			}
		}
		line += part
		at += w
	}
	s.line(line)
}

// wrap breaks text at spaces into lines no wider than width; words that are
// wider stay whole.
func wrap(text string, width int) []string {
	var lines []string
	line := ""
	for _, word := range strings.Fields(text) {
		switch {
		case line == "":
			line = word
		case report.Width(line)+1+report.Width(word) > width:
			lines = append(lines, line)
			line = word
		default:
			line += " " + word
		}
	}
	return append(lines, line)
}

// hang writes text behind head, further lines below its first character.
// headWidth is what head takes without its colours.
func (s *screen) hang(head string, headWidth int, text string) {
	for i, l := range wrap(text, max(s.width-headWidth, 20)) {
		if i > 0 {
			head = strings.Repeat(" ", headWidth)
		}
		s.line(strings.TrimRight(head+l, " "))
	}
}

// head makes heads quiet.
func (s *screen) head(row, _ int, cell string) string {
	if row < 0 {
		return s.paint(dim, cell)
	}
	return cell
}

// below writes the lines of a table, where there are any, with an empty line above.
func (s *screen) below(lines []string) {
	if len(lines) > 0 {
		s.line("")
	}
	for _, l := range lines {
		s.line("  " + l)
	}
}
