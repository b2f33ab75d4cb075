package term_test

import (
	"os"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/lighter-oci/lighter/internal/term"
)

// terminal is the far end of a real pseudo-terminal of that many columns.
func terminal(t *testing.T, columns uint16) *os.File {
	t.Helper()
	near, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { near.Close() })
	if err := unix.IoctlSetPointerInt(int(near.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(near.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	far, err := os.OpenFile("/dev/pts/"+strconv.Itoa(n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { far.Close() })
	if err := unix.IoctlSetWinsize(int(far.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: columns}); err != nil {
		t.Fatal(err)
	}
	return far
}

func TestNewOnATerminal(t *testing.T) {
	for _, c := range []struct {
		noColor, term string
		columns       uint16
		color         bool
		width         int
	}{
		{"", "xterm", 132, true, 132},
		{"1", "xterm", 60, false, 60},
		{"", "dumb", 60, false, 60},
		{"", "xterm", 0, true, 80},
	} {
		t.Setenv("NO_COLOR", c.noColor)
		t.Setenv("TERM", c.term)
		tty := terminal(t, c.columns)
		if o := term.New(tty, tty); o.Color != c.color || o.Width != c.width || o.OutWidth != c.width {
			t.Errorf("%+v: %+v", c, o)
		}
		null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer null.Close()
		if o := term.New(null, tty); o.OutWidth != 0 || o.Width != c.width || o.Color != c.color {
			t.Errorf("%+v with a pipe: %+v", c, o)
		}
		if o := term.New(tty, null); o.Color {
			t.Errorf("%+v with a log: %+v", c, o)
		}
	}
}
