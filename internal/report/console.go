package report

import (
	"fmt"
	"html"
	"net/url"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Console makes lines for a page of what a step writes for a terminal: colours
// become classes of LogCSS, what was written over is gone, and all else that a
// terminal would obey is taken out, see Clean. Cursor movements are not followed,
// but for going back in the line. The zero value is ready.
type Console struct {
	// MaxLine is how many characters of a line are kept; 0 is 4096. The rest is
	// counted.
	MaxLine int

	style style
	link  string // where what is written now leads
	cells []cell // of the line, and no more than MaxLine
	at    int    // where the next character goes
	cut   int    // characters behind MaxLine
	rest  string // the beginning of a sequence or a character that is not all there
}

// LogLine is a line of a log.
type LogLine struct {
	Text string // what is to read, without its colours
	HTML string // the same, with <span> and <a>; all else is escaped
}

// cell is a character with what belongs to it, such as accents.
type cell struct {
	text  string
	style style
	link  string
}

// Longer beginnings of sequences are none, and more accents on one character are
// a joke.
const (
	longestSequence = 4096
	mostAccents     = 8
	longestLink     = 2048
)

// Write takes in what came and returns the lines that ended in it.
func (c *Console) Write(data []byte) []LogLine {
	var lines []LogLine
	s := c.rest + string(data)
	for len(s) > 0 {
		if s[0] >= ' ' && s[0] <= '~' { // nearly all there is
			c.place(cell{s[:1], c.style, c.link})
			s = s[1:]
			continue
		}
		if c.unfinished(s) {
			break
		}
		if n := escape(s); n > 0 {
			c.obey(s[:n])
			s = s[n:]
			continue
		}
		r, n := utf8.DecodeRuneInString(s)
		s = s[n:]
		switch r {
		case '\n':
			lines = append(lines, c.Line())
			c.cells, c.at, c.cut, c.link = c.cells[:0], 0, 0, ""
		case '\r':
			c.at = 0
		case '\b':
			c.at = max(c.at-1, 0)
		default:
			c.put(r)
		}
	}
	c.rest = s
	return lines
}

// Line is the line that has not ended, as it stands.
func (c *Console) Line() LogLine {
	var text, page strings.Builder
	for i := 0; i < len(c.cells); {
		first := c.cells[i]
		var run strings.Builder
		for ; i < len(c.cells) && c.cells[i].style == first.style && c.cells[i].link == first.link; i++ {
			run.WriteString(c.cells[i].text)
		}
		text.WriteString(run.String())
		page.WriteString(first.html(run.String()))
	}
	if c.cut > 0 {
		more := fmt.Sprintf(" … %d more characters", c.cut)
		text.WriteString(more)
		fmt.Fprintf(&page, `<span class="cut">%s</span>`, more)
	}
	return LogLine{text.String(), page.String()}
}

// html is text in the cell's style and with its link.
func (c cell) html(text string) string {
	text = html.EscapeString(text)
	if class := c.style.class(); class != "" {
		text = `<span class="` + class + `">` + text + `</span>`
	}
	if c.link != "" {
		text = `<a href="` + html.EscapeString(c.link) + `" rel="noopener noreferrer nofollow">` + text + `</a>`
	}
	return text
}

// unfinished says that s begins with something of which the end has not come.
func (c *Console) unfinished(s string) bool {
	if len(s) >= longestSequence {
		return false
	}
	if !utf8.FullRuneInString(s) || s == "\x1b" {
		return true
	}
	n := escape(s)
	if n == 0 {
		return false
	}
	head := 2 // ESC [ and U+009B alike
	if s[0] == '\x1b' && (s[1] < '@' || s[1] > '_') {
		return n == len(s) && lead(s[n-1:], ' ', '/') == 1 // intermediates without their final
	}
	switch introducer(s) {
	case '[':
		return n == len(s) && (n == head || lead(s[n-1:], '@', '~') == 0)
	case 'P', 'X', ']', '^', '_':
		end := strings.IndexFunc(s[head:], unicode.IsControl)
		return n == head && (end < 0 || s[head+end:] == "\x1b")
	}
	return false
}

// introducer is the letter of a C1 control in either form: '[' for CSI.
func introducer(seq string) byte {
	if len(seq) < 2 {
		return 0
	}
	if seq[0] == '\x1b' {
		return seq[1]
	}
	return seq[1] - 0x40 // U+0080 … U+009F are 0xC2 and the control
}

// obey does what a sequence says where it is about colours, links, or erasing in
// the line.
func (c *Console) obey(seq string) {
	kind := introducer(seq)
	if len(seq) < 3 {
		return
	}
	body, final := seq[2:len(seq)-1], seq[len(seq)-1]
	switch {
	case kind == ']':
		c.hyperlink(strings.TrimSuffix(strings.TrimSuffix(strings.TrimSuffix(seq[2:], "\a"), "\x1b\\"), "\u009c"))
	case kind == '[' && final == 'm':
		c.style.set(body)
	case kind == '[' && final == 'K':
		c.erase(body)
	}
}

// hyperlink is OSC 8: "8;parameters;URL", without a URL at its end. Only web
// addresses become links.
func (c *Console) hyperlink(osc string) {
	f := strings.SplitN(osc, ";", 3)
	if len(f) < 3 || f[0] != "8" {
		return
	}
	c.link = ""
	if len(f[2]) > longestLink || strings.ContainsFunc(f[2], func(r rune) bool { return r <= ' ' || r > '~' }) {
		return // it has to be encoded
	}
	u, err := url.Parse(f[2])
	if err == nil && (u.Scheme == "https" || u.Scheme == "http") && u.Host != "" && u.User == nil {
		c.link = u.String()
	}
}

// erase clears the line to its end (0), to its start (1), or all of it (2).
func (c *Console) erase(what string) {
	at := min(c.at, len(c.cells))
	switch what {
	case "", "0":
		c.cells = c.cells[:at]
		c.cut = max(0, c.at-c.maxLine())
	case "1":
		for i := range c.cells[:min(at+1, len(c.cells))] {
			c.cells[i] = cell{text: " "}
		}
	case "2":
		c.cells, c.cut = c.cells[:0], 0
		for range min(c.at, c.maxLine()) {
			c.cells = append(c.cells, cell{text: " "})
		}
	}
}

func (c *Console) maxLine() int {
	if c.MaxLine > 0 {
		return c.MaxLine
	}
	return 4096
}

// put writes a character, or what stands for it, over what is there.
func (c *Console) put(r rune) {
	n := cell{text: string(r), style: c.style, link: c.link}
	switch {
	case r == '\t':
	case unicode.IsSpace(r) && r != ' ' && !unicode.Is(unicode.Zs, r): // NEL, U+2028, form feeds
		n.text = " "
	case Bidirectional(r):
		n.text = fmt.Sprintf("⟨U+%04X⟩", r) // it would show other text than there is
		n.style.control = true
	case unicode.In(r, unicode.Mn, unicode.Me), r == zeroWidthJoiner:
		if i := c.at - 1; i >= 0 && i < len(c.cells) {
			if o := &c.cells[i]; utf8.RuneCountInString(o.text) <= mostAccents {
				o.text += n.text
			}
			return
		}
	case unicode.IsControl(r), unicode.Is(unicode.Cf, r):
		return
	case r == '\ufffe', r == '\uffff':
		n.text = "\ufffd"
	}
	c.place(n)
}

// place puts n at its place.
func (c *Console) place(n cell) {
	switch {
	case c.at >= c.maxLine():
		c.cut = max(c.cut, c.at+1-c.maxLine())
	case c.at < len(c.cells):
		c.cells[c.at] = n
	default:
		c.cells = append(c.cells, n)
	}
	c.at++
}

// Bidirectional says that r changes the order in which text is shown.
func Bidirectional(r rune) bool {
	return r == '\u061c' || r == '\u200e' || r == '\u200f' || r >= '\u202a' && r <= '\u202e' || r >= '\u2066' && r <= '\u2069'
}
