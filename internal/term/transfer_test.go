package term

import (
	"bytes"
	"testing"

	"github.com/lighter-oci/lighter/internal/event"
)

// What goes wrong beside a copy is said, with nothing in it that a terminal obeys.
func TestTransferWarns(t *testing.T) {
	var b bytes.Buffer
	view := (&Output{Err: &b}).NewTransfer(false)
	view.Add(event.Event{Warning: &event.Warning{Short: "journal: \x1b[31mdisk full"}})
	view.Close()
	if got, want := b.String(), "! journal: disk full\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
