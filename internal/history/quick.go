package history

import (
	"bytes"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/lighter-oci/lighter/internal/event"
)

// quickLog is a line of a journal that is output of a step. Its fields are parts of
// what was read, but for text, which stands in the buffer that was given.
type quickLog struct {
	seq     uint64
	time    []byte
	step    []byte
	stream  int
	text    []byte
	dropped int
}

// quick reads a line that encode wrote of an event.Log with text: nearly all that a
// large journal is, and encoding/json takes ten times as long for it. It is false
// for all other lines, and for any that is not quite so. buf is written over.
func quick(data, buf []byte) (q quickLog, ok bool) {
	p := parser{data}
	q.seq = uint64(p.number(`{"seq":`))
	q.time = p.word(`,"time":"`)
	q.step = p.word(`,"log":{"step":"`)
	q.stream = p.number(`,"stream":`)
	q.text = p.text(`,"text":"`, buf)
	if bytes.HasPrefix(p.rest, []byte(`,"dropped":`)) {
		q.dropped = p.number(`,"dropped":`)
	}
	return q, string(p.rest) == "}}" && q.seq > 0 && len(q.text) > 0 && utf8.Valid(data)
}

// event is what encode was given.
func (q quickLog) event() (event.Event, bool) {
	e := event.Event{Seq: q.seq, Log: &event.Log{Step: string(q.step), Stream: q.stream, Data: q.text, Dropped: q.dropped}}
	var err error
	e.Time, err = time.Parse(time.RFC3339, string(q.time))
	return e, err == nil
}

// parser takes a line apart from its beginning. After the first part that is not as
// it is wanted nothing is left of it.
type parser struct{ rest []byte }

func (p *parser) lead(prefix string) bool {
	rest, ok := bytes.CutPrefix(p.rest, []byte(prefix))
	p.rest = rest
	if !ok {
		p.rest = nil
	}
	return ok
}

// number is one without sign or leading zeros.
func (p *parser) number(prefix string) int {
	if !p.lead(prefix) {
		return 0
	}
	i := 0
	for i < len(p.rest) && p.rest[i] >= '0' && p.rest[i] <= '9' {
		i++
	}
	digits := string(p.rest[:i])
	n, err := strconv.Atoi(digits)
	if p.rest = p.rest[i:]; err != nil || i > 1 && digits[0] == '0' {
		p.rest = nil
	}
	return n
}

// word is a string in which nothing is escaped.
func (p *parser) word(prefix string) []byte {
	if !p.lead(prefix) {
		return nil
	}
	for i, c := range p.rest {
		switch {
		case c == '"':
			word := p.rest[:i]
			p.rest = p.rest[i+1:]
			return word
		case c == '\\' || c < ' ':
			p.rest = nil
			return nil
		}
	}
	p.rest = nil
	return nil
}

// escapes are what stands behind a backslash, but for u.
var escapes = [256]byte{'"': '"', '\\': '\\', '/': '/', 'b': '\b', 'f': '\f', 'n': '\n', 'r': '\r', 't': '\t'}

// text is any string but those with a surrogate in them, in buf.
func (p *parser) text(prefix string, buf []byte) []byte {
	if !p.lead(prefix) {
		return nil
	}
	buf = buf[:0]
	for i, from := 0, 0; i < len(p.rest); i++ {
		c := p.rest[i]
		if c >= ' ' && c != '"' && c != '\\' {
			continue
		}
		buf = append(buf, p.rest[from:i]...)
		if c == '"' {
			p.rest = p.rest[i+1:]
			return buf
		}
		if i++; c < ' ' || i == len(p.rest) {
			break
		}
		if plain := escapes[p.rest[i]]; plain != 0 {
			buf = append(buf, plain)
		} else {
			r, err := uint64(0), strconv.ErrSyntax
			if p.rest[i] == 'u' && i+4 < len(p.rest) {
				r, err = strconv.ParseUint(string(p.rest[i+1:i+5]), 16, 16)
			}
			if err != nil || !utf8.ValidRune(rune(r)) {
				break
			}
			buf = utf8.AppendRune(buf, rune(r))
			i += 4
		}
		from = i + 1
	}
	p.rest = nil
	return nil
}
