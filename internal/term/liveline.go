package term

import (
	"io"

	"github.com/lighter-oci/lighter/internal/report"
)

// liveLine is one line on a terminal that is written over and over.
type liveLine struct {
	out   *Output
	live  bool // Err is a terminal and the view has not ended
	drawn bool // the line stands on the screen
}

func (l *liveLine) draw(text string) {
	if !l.live || l.out.waits() {
		return
	}
	l.drawn = true
	io.WriteString(l.out.Err, "\r\x1b[K"+report.Middle(text, l.out.width()-1)) //nolint:errcheck // a view only
}

// erase takes the line away, for another to stand there.
func (l *liveLine) erase() {
	if l.drawn {
		io.WriteString(l.out.Err, "\r\x1b[K") //nolint:errcheck // a view only
		l.drawn = false
	}
}

// end takes the line away for good.
func (l *liveLine) end() {
	l.erase()
	l.live = false
}
