package report

import (
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/clipperhouse/displaywidth"
)

// Clean makes one line of text that came from a build or a registry safe to
// show: terminal escape sequences, control characters and invisible format
// characters (the bidirectional overrides of Trojan Source, CVE-2021-42574)
// are taken out, whitespace of any kind and amount becomes one space, invalid
// UTF-8 becomes U+FFFD. Sequences are taken out whole (ECMA-48), so that no
// "[31m" stays behind.
func Clean(s string) string { return clean(s, false) }

// CleanLine is Clean for a line of a log: what was written over is gone, and
// spaces keep their width, as the ^ below a compiler's message needs them. A tab
// reaches to the next eighth column.
func CleanLine(s string) string {
	s = strings.TrimRight(s, "\r\n")
	return clean(s[strings.LastIndexByte(s, '\r')+1:], true)
}

// clean makes one line, with each space in it or with one for all between words.
func clean(s string, each bool) string {
	var b strings.Builder
	spaces, column := 0, 0
	for len(s) > 0 {
		if n := escape(s); n > 0 {
			s = s[n:]
			continue
		}
		r, n := utf8.DecodeRuneInString(s)
		s = s[n:]
		switch {
		case each && r == '\t':
			spaces += 8 - (column+spaces)%8
		case each && unicode.IsSpace(r): // includes NEL, U+2028 and U+2029
			spaces++
		case unicode.IsSpace(r):
			spaces = min(b.Len(), 1)
		case unicode.IsControl(r), unicode.Is(unicode.Cf, r) && r != zeroWidthJoiner:
		default:
			for range spaces {
				b.WriteByte(' ')
			}
			b.WriteRune(r)
			column += spaces + 1
			spaces = 0
		}
	}
	return b.String()
}

const zeroWidthJoiner = '\u200d' // holds emoji together

// escape is the length of the terminal escape sequence that s starts with; 0
// where it starts with none. A string sequence that does not end counts as its
// introducer only: the rest is shown.
func escape(s string) int {
	r, n := utf8.DecodeRuneInString(s)
	if r == '\x1b' {
		if len(s) == n || s[n] < '@' || s[n] > '_' {
			n += lead(s[n:], ' ', '/') // intermediates and one final
			return n + lead(first(s[n:]), '0', '~')
		}
		r, n = rune(s[n])+0x40, n+1 // a C1 control in seven bits
	}
	switch r {
	case 0x9b: // CSI: parameters, intermediates, one final
		n += lead(s[n:], '0', '?')
		n += lead(s[n:], ' ', '/')
		return n + lead(first(s[n:]), '@', '~')
	case 0x90, 0x98, 0x9d, 0x9e, 0x9f: // DCS, SOS, OSC, PM, APC
		return n + stringEnd(s[n:])
	}
	if r >= 0x80 && r <= 0x9f && s[:n] != "\u0085" { // NEL as it stands is whitespace
		return n
	}
	return 0
}

// stringEnd is how far the text of a string sequence and its terminator go: ST
// in either form, or BEL. Any other control character, or the end, means that
// this is no such sequence: 0.
func stringEnd(s string) int {
	for i, r := range s {
		switch {
		case r == '\a', r == '\u009c':
			return i + utf8.RuneLen(r)
		case r == '\x1b' && strings.HasPrefix(s[i+1:], "\\"):
			return i + 2
		case unicode.IsControl(r):
			return 0
		}
	}
	return 0
}

// first is the first byte of s, or nothing.
func first(s string) string { return s[:min(len(s), 1)] }

// lead is how many bytes of s from its start lie between lo and hi.
func lead(s string, lo, hi byte) int {
	i := 0
	for i < len(s) && s[i] >= lo && s[i] <= hi {
		i++
	}
	return i
}

// Width is how many columns of a terminal s takes.
func Width(s string) int { return displaywidth.String(s) }

// Middle cuts s to at most width columns by taking out of its middle, where
// commands and paths differ least: "RUN cargo b…--release". Characters are
// never split. Below one column nothing is left.
func Middle(s string, width int) string {
	if Width(s) <= width {
		return s
	}
	if width < 1 {
		return ""
	}
	type cluster struct{ end, col int } // byte and column behind it
	var cs []cluster
	col := 0
	for g := displaywidth.StringGraphemes(s); g.Next(); {
		col += g.Width()
		end := len(g.Value())
		if len(cs) > 0 {
			end += cs[len(cs)-1].end
		}
		cs = append(cs, cluster{end, col})
	}
	total := col
	head, tail := width/2, (width-1)/2
	front := 0
	for _, c := range cs {
		if c.col > head {
			break
		}
		front = c.end
	}
	back := len(s)
	for i := len(cs) - 1; i > 0 && total-cs[i-1].col <= tail; i-- {
		back = cs[i-1].end
	}
	return s[:front] + "…" + s[back:]
}

// WithoutArgs takes build arguments and the shell out of what the history of an
// image says of a layer, "RUN |2 A=b C=d /bin/sh -c make". Nobody can tell where a
// value ends that has spaces in it, so that with another shell it is the last -c that
// ends them: better a command cut short than a value shown.
func WithoutArgs(createdBy string) string {
	args, ok := strings.CutPrefix(createdBy, "RUN |")
	if !ok {
		return createdBy
	}
	if _, made, ok := strings.Cut(args, " /bin/sh -c "); ok {
		return "RUN " + made
	}
	if i := strings.LastIndex(args, " -c "); i >= 0 {
		return "RUN " + args[i+len(" -c "):]
	}
	return "RUN"
}

// ShortText makes the text of a step short enough to read in passing: flags
// behind the instruction but --from go ("RUN --mount=… make" is "RUN make"),
// and so do the digest and the default registry of an image, and what BuildKit
// and Docker write around a command in the history of an image. It is clean,
// see Clean.
func ShortText(text string) string {
	text = strings.TrimSuffix(Clean(text), " # buildkit")
	if made, ok := strings.CutPrefix(text, "/bin/sh -c "); ok { // Docker's classic builder
		text = "RUN " + made
		if nop, ok := strings.CutPrefix(made, "#(nop) "); ok {
			text = strings.TrimSpace(nop)
		}
	}
	if args, made, ok := strings.Cut(text, " /bin/sh -c "); ok && args == "RUN" {
		text = "RUN " + made
	}
	text = WithoutArgs(text)
	f := strings.Fields(text)
	if len(f) < 2 {
		return strings.Join(f, " ")
	}
	switch f[0] {
	case "RUN", "COPY", "ADD":
		end := 1
		for end < len(f)-1 && strings.HasPrefix(f[end], "--") {
			end++
		}
		flags := slices.DeleteFunc(f[1:end:end], func(s string) bool { return !strings.HasPrefix(s, "--from=") })
		f = slices.Concat(f[:1], flags, f[end:])
	case "FROM":
		f[1], _, _ = strings.Cut(f[1], "@sha256:")
		f[1] = strings.TrimPrefix(f[1], "docker.io/")
		f[1] = strings.TrimPrefix(f[1], "library/")
	}
	return strings.Join(f, " ")
}
