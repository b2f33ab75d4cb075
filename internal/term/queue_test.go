package term

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"github.com/lighter-oci/lighter/internal/event"
)

// Of several outputs one is seen as it comes, the others when it is their turn,
// whoever of them ends first. A line that is written over is not kept.
func TestQueue(t *testing.T) {
	var b bytes.Buffer
	q, outs := (&Output{Err: &b, Width: 60}).NewQueue(4)
	say := func(i int, text string) { fmt.Fprintln(outs[i].Err, text) }
	want := func(text string) {
		t.Helper()
		if b.String() != text {
			t.Errorf("%q, want %q", b.String(), text)
		}
	}
	say(1, "b1")
	say(0, "a1")
	say(2, "c1")
	want("a1\n")
	q.End(1)
	say(0, "a2")
	want("a1\na2\n")
	q.End(0)
	want("a1\na2\nb1\nc1\n")
	say(2, "c2")
	want("a1\na2\nb1\nc1\nc2\n")

	b.Reset()
	now := time.Now()
	view := outs[3].NewPacking("tty")
	view.Add(event.Event{Time: now, Step: &event.Step{ID: "x", Name: "compiles", Started: &now}})
	q.End(2)
	want("")
	view.Add(event.Event{Time: now.Add(time.Hour), Log: &event.Log{Step: "x", Data: []byte("says\n")}})
	view.Close()
	want("\r\x1b[Kcompiles: says\r\x1b[K")
	q.End(3)
	fmt.Fprint(outs[3].Out, "nowhere")
}
