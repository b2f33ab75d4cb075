package history

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lighter-oci/lighter/internal/event"
)

// slow is decode without quick.
func slow(data []byte) (event.Event, error) {
	var l line
	if err := json.Unmarshal(data, &l); err != nil {
		return event.Event{}, err
	}
	if l.Log != nil {
		l.Event.Log = &event.Log{Step: l.Log.Step, Stream: l.Log.Stream, Data: []byte(l.Log.Text), Dropped: l.Log.Dropped}
	}
	return l.Event, nil
}

// What the quick reader takes, it takes as encoding/json does; and it takes all
// that encode writes of texts.
func FuzzQuick(f *testing.F) {
	at := time.Date(2026, 11, 30, 12, 0, 0, 12345, time.FixedZone("", 3600))
	for _, text := range []string{
		"one\n", "", "\"\\/\b\f\n\r\t\x00\x01\x1f\x7f", "<b>&amp;\u2028\u2029zwölf 😀", "\x1b[31mrot\x1b[0m", strings.Repeat("x", 300), `\u00e9`, "\ufffd",
	} {
		for _, dropped := range []int{0, 17} {
			data, err := encode(event.Event{Seq: 12, Time: at, Log: &event.Log{Step: "sha256:1", Stream: 2, Data: []byte(text), Dropped: dropped}})
			if err != nil {
				f.Fatal(err)
			}
			data = data[:len(data)-1]
			if _, ok := quick(data, nil); ok != (text != "") {
				f.Errorf("%s: taken is %v", data, ok)
			}
			f.Add(data)
		}
	}
	const head, tail = `{"seq":1,"time":"2026-11-30T12:00:00Z","log":{"step":"s","stream":1,"text":"`, `"}}`
	for _, text := range []string{`\ud83d\ude00`, `\ud800`, `\u00`, `\x`, `\`, `a"`, "\n", "\xff", `x","dropped":01`, `x","text":"y`, `\u+0e9`, `\u_123`} {
		f.Add([]byte(head + text + tail))
	}
	f.Add([]byte(`{"seq":01,"time":"2026-11-30T12:00:00Z","log":{"step":"s","stream":1,"text":"x"}}`))
	f.Add([]byte(`{"seq":1,"time":"yesterday","log":{"step":"s","stream":1,"text":"x"}}`))
	f.Add([]byte(`{"seq":99999999999999999999,"time":"2026-11-30T12:00:00Z","log":{"step":"s","stream":1,"text":"x"}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		q, ok := quick(data, []byte("left from before"))
		if !ok {
			return
		}
		got, ok := q.event()
		if !ok {
			return
		}
		want, err := slow(data)
		if err != nil {
			t.Fatalf("%s: %v", data, err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", data, diff)
		}
	})
}
