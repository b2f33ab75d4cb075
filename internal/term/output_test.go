package term_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"testing"

	"github.com/lighter-oci/lighter/internal/report"
	"github.com/lighter-oci/lighter/internal/term"
)

type hintedError struct{ what, hint string }

func (e hintedError) Error() string { return e.what }
func (e hintedError) Hint() string  { return e.hint }

func TestError(t *testing.T) {
	refused := hintedError{"connection refused", "is the registry running?"}
	for _, c := range []struct {
		err  error
		want string
	}{
		{nil, ""},
		{errors.New("no Dockerfile"), "lighter: no Dockerfile\n"},
		{refused, "lighter: connection refused → is the registry running?\n"},
		{fmt.Errorf("push localhost:5000/app: %w", refused), "lighter: push localhost:5000/app: connection refused → is the registry running?\n"},
		{errors.Join(errors.New("a"), refused), "lighter: a → is the registry running?\n  connection refused\n"},
		{hintedError{"refused: try --insecure", "try --insecure"}, "lighter: refused: try --insecure\n"},
		{hintedError{"no namespaces", "load this profile:\n\nprofile lighter {\n}\n"}, "lighter: no namespaces → load this profile:\n  profile lighter {\n  }\n"},
		{hintedError{"x", "\n"}, "lighter: x\n"},
		{errors.New(" \x1b[31m\n\r\n"), //nolint:revive // that is what it is for
			"lighter: failed without saying why\n"},
		{errors.New("exit code 1: \x1b[31mbroken\x1b[0m\r\n\tat line 3"), "lighter: exit code 1: broken\n  at line 3\n"},
	} {
		var b bytes.Buffer
		(&term.Output{Err: &b}).Error(c.err)
		if got := b.String(); got != c.want {
			t.Errorf("%v: %q, want %q", c.err, got, c.want)
		}
		b.Reset()
		(&term.Output{Err: &b, Color: true}).Error(c.err)
		if got := sgr.ReplaceAllString(b.String(), ""); got != c.want || len(got) == b.Len() && c.want != "" {
			t.Errorf("%v in colour: %q, want %q", c.err, b.String(), c.want)
		}
	}
}

func TestOutputTable(t *testing.T) {
	var table report.Table
	var b bytes.Buffer
	o := term.Output{Out: &b}
	if err := o.Table(table); err != nil || b.Len() > 0 {
		t.Errorf("an empty table is %q, %v", b.String(), err)
	}
	table.Columns = []report.Column{{Name: "what", Shrink: true}, {Name: "size", Right: true}}
	table.Add("a rather long name of something", "9 B")
	for width, want := range map[int]string{
		0:  "what                             size\na rather long name of something   9 B\n",
		20: "what            size\na rathe…ething   9 B\n",
	} {
		b.Reset()
		o.OutWidth = width
		if err := o.Table(table); err != nil || b.String() != want {
			t.Errorf("in %d: %q, %v", width, b.String(), err)
		}
	}
	o.Out = failing{}
	if err := o.Table(table); err == nil {
		t.Error("a full disk is no error")
	}
}

func TestNewOnFilesAndPipes(t *testing.T) {
	t.Setenv("NO_COLOR", "")
	t.Setenv("TERM", "xterm")
	f, err := os.Create(t.TempDir() + "/log")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	o := term.New(f, f)
	if o.Color || o.Width != 100 || o.OutWidth != 0 || o.JSON || o.Quiet {
		t.Errorf("on a file: %+v", o)
	}
	o.Error(errors.New("x"))
	if got, _ := os.ReadFile(f.Name()); string(got) != "lighter: x\n" {
		t.Errorf("wrote %q", got)
	}
}
