package history

import (
	"bytes"
	"iter"
	"unicode"
	"unicode/utf8"
)

// Likeness finds a text in lines, whatever the case of its letters is and however
// they are coloured.
type Likeness struct {
	want   []byte
	folded []byte
}

// Like looks for a text.
func Like(text string) *Likeness { return &Likeness{want: fold(nil, []byte(text))} }

// Has tells whether a line has it.
func (l *Likeness) Has(line []byte) bool {
	l.folded = fold(l.folded[:0], line)
	return bytes.Contains(l.folded, l.want)
}

// in is the lines of output that have it, and which they are, from 1.
func (l *Likeness) in(output []byte) iter.Seq2[int, []byte] {
	return func(yield func(int, []byte) bool) {
		if len(l.want) == 0 || bytes.IndexByte(l.want, '\n') >= 0 {
			return
		}
		// All of it at once, and then the lines before are counted: most have it not.
		l.folded = fold(l.folded[:0], output)
		folded, n := l.folded, 1
		skip := func(ends int) {
			n += ends
			for range ends {
				output = output[bytes.IndexByte(output, '\n')+1:]
			}
		}
		for {
			i := bytes.Index(folded, l.want)
			if i < 0 {
				return
			}
			skip(bytes.Count(folded[:i], []byte("\n")))
			line, _, ended := bytes.Cut(output, []byte("\n"))
			if !yield(n, line) || !ended {
				return
			}
			skip(1)
			folded = folded[i:]
			folded = folded[bytes.IndexByte(folded, '\n')+1:]
		}
	}
}

// fold appends text to buf in small letters and without the sequences that colour
// it. Its lines stay lines.
func fold(buf, text []byte) []byte {
	for i := 0; i < len(text); {
		c := text[i]
		switch {
		case c >= 'A' && c <= 'Z':
			buf = append(buf, c+'a'-'A')
			i++
		case c == '\x1b':
			i += max(colour(text[i:]), 1)
		case c < utf8.RuneSelf:
			buf = append(buf, c)
			i++
		default:
			r, n := utf8.DecodeRune(text[i:])
			if r == utf8.RuneError { // what is no text stays as it is
				buf = append(buf, text[i:i+n]...)
			} else {
				buf = utf8.AppendRune(buf, unicode.ToLower(r))
			}
			i += n
		}
	}
	return buf
}

// colour is the length of a control sequence (ESC [ … letter) at the beginning of
// text; 0 where there is none.
func colour(text []byte) int {
	if len(text) < 2 || text[1] != '[' {
		return 0
	}
	for i, c := range text[2:] {
		switch {
		case c >= '@' && c <= '~':
			return 2 + i + 1
		case c < ' ' || c > '?':
			return 0
		}
	}
	return 0
}
