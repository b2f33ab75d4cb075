package term_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lighter-oci/lighter/internal/event"
	"github.com/lighter-oci/lighter/internal/report"
	"github.com/lighter-oci/lighter/internal/term"
)

// recordedTuning is what a real run measured, see package report's testdata.
func recordedTuning(t *testing.T) *report.Tuning {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("..", "report", "testdata", "tune.json"))
	if err != nil {
		t.Fatal(err)
	}
	var r report.Tuning
	if err := json.Unmarshal(b, &r); err != nil {
		t.Fatal(err)
	}
	r.Conclude()
	return &r
}

func TestTuningText(t *testing.T) {
	for name, o := range map[string]*term.Output{
		"tuning.txt":        {Width: 100},
		"tuning_narrow.txt": {Width: 80},
		"tuning_color.txt":  {Width: 100, Color: true},
	} {
		var out, err bytes.Buffer
		o.Out, o.Err = &out, &err
		if e := o.Tuning(recordedTuning(t)); e != nil {
			t.Fatal(e)
		}
		if out.Len() > 0 {
			t.Errorf("%s: words on standard output: %q", name, out.String())
		}
		golden(t, name, err.String())
		for l := range strings.Lines(err.String()) {
			if w := report.Width(report.Clean(l)); w > o.Width {
				t.Errorf("%s: a line of %d columns: %q", name, w, l)
			}
		}
	}
}

func TestTuningJSON(t *testing.T) {
	var out, err bytes.Buffer
	o := &term.Output{Out: &out, Err: &err, JSON: true}
	if e := o.Tuning(recordedTuning(t)); e != nil {
		t.Fatal(e)
	}
	if err.Len() > 0 {
		t.Errorf("words beside JSON: %q", err.String())
	}
	golden(t, "tuning.json", out.String())
}

func TestTrialsInALog(t *testing.T) {
	var b bytes.Buffer
	o := &term.Output{Err: &b, Width: 80}
	v := o.NewTrials(false)
	now := time.Unix(0, 0)
	v.Add(event.Event{Time: now, Progress: &event.Progress{Step: "read", ID: "read", Current: 5, Total: 10}})
	v.Add(event.Event{Time: now, Progress: &event.Progress{Step: "measure", ID: "zstd:3", Current: 2, Total: 3}})
	v.Add(event.Event{Time: now, Layer: &event.Layer{Codec: "zstd:3", In: 250e6, Out: 80e6, Took: 2 * time.Second}})
	v.Close()
	if got, want := b.String(), "zstd:3, round 2 of 3: 250 MB → 80.0 MB in 2.00 s, 125 MB/s\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	o.NewTrials(true).Add(event.Event{Layer: &event.Layer{}}) // quiet: nothing, and no panic
}
