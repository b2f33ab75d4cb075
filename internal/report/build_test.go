package report_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lighter-oci/lighter/internal/event"
	"github.com/lighter-oci/lighter/internal/report"
)

var update = flag.Bool("update", false, "write the golden files anew")

// recorded reads the events of a real build. testdata/NAME.jsonl were recorded
// from BuildKit 0.33 building small Dockerfiles on top of a static busybox
// into a local registry: cold and warm are the same six-stage Dockerfile, fail
// has a RUN that fails while another runs, multi is two platforms, pull and
// local start FROM what cold pushed.
func recorded(t testing.TB, name string) []event.Event {
	t.Helper()
	f, err := os.Open(filepath.Join("testdata", name+".jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var events []event.Event
	for d := json.NewDecoder(f); ; {
		var e event.Event
		if err := d.Decode(&e); err == io.EOF {
			return events
		} else if err != nil {
			t.Fatal(err)
		}
		events = append(events, e)
	}
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s (-want +got), -update accepts it:\n%s", name, diff)
	}
}

func TestRecordedBuilds(t *testing.T) {
	for _, name := range []string{"cold", "warm", "fail", "multi", "pull", "local"} {
		t.Run(name, func(t *testing.T) {
			r := report.Of(slices.Values(recorded(t, name)))
			var b bytes.Buffer
			enc := json.NewEncoder(&b)
			enc.SetEscapeHTML(false)
			enc.SetIndent("", "  ")
			if err := enc.Encode(r); err != nil {
				t.Fatal(err)
			}
			golden(t, name+".golden.json", b.Bytes())
			var back report.Report
			if err := json.Unmarshal(b.Bytes(), &back); err != nil {
				t.Fatal(err)
			}
			rounded := cmp.Comparer(func(a, b report.Seconds) bool { return time.Duration(a-b).Abs() < time.Microsecond })
			if diff := cmp.Diff(r, back, rounded); diff != "" {
				t.Errorf("JSON loses something:\n%s", diff)
			}
		})
	}
}

func TestSteps(t *testing.T) {
	var b report.Build
	add := func(s event.Step) { b.Add(event.Event{Time: *at(100), Step: &s}) }
	states := func() string {
		var s []string
		for _, st := range b.Report().Steps {
			s = append(s, st.ID+" "+string(st.State)+" "+time.Duration(st.Took).String())
		}
		return strings.Join(s, ", ")
	}
	expect := func(want string) {
		t.Helper()
		if got := states(); got != want {
			t.Errorf("steps are %q, want %q", got, want)
		}
	}
	expect("")
	add(event.Step{ID: "a", Name: "[x 1/3] RUN a"})
	expect("a pending 0s")
	add(event.Step{ID: "a", Name: "[x 1/3] RUN a", Started: at(10)})
	expect("a running 90ms") // up to the last event
	add(event.Step{ID: "a", Name: "[x 1/3] RUN a", Started: at(10), Completed: at(30)})
	expect("a run 20ms")
	add(event.Step{ID: "a", Name: "[x 1/3] RUN a"}) // repeated to a newcomer
	expect("a run 20ms")
	add(event.Step{ID: "a", Name: "[x 1/3] RUN a", Started: at(10)}) // out of order
	expect("a running 20ms")
	add(event.Step{ID: "a", Started: at(50), Completed: at(60)}) // a second run
	expect("a run 30ms")
	add(event.Step{ID: "b", Name: "[x 2/3] RUN b", Started: at(70), Completed: at(65)}) // a clock set back
	expect("a run 30ms, b run 0s")
	add(event.Step{ID: "c", Name: "[x 3/3] RUN c", Started: at(70), Completed: at(70), Cached: true})
	add(event.Step{ID: "d", Name: "[y 1/1] RUN d", Started: at(70), Completed: at(80), Error: "exit code: 1"})
	add(event.Step{ID: "e", Name: "[z 1/1] RUN e", Error: "context canceled"})
	add(event.Step{ID: "c", Name: "[x 3/3] RUN c"})
	add(event.Step{ID: "d", Name: "[y 1/1] RUN d"})
	expect("a run 30ms, b run 0s, c cached 0s, d failed 10ms, e canceled 0s")

	// COPY --link is two vertices, LINK first; a second platform with the same
	// name is not a part of it; a source that both halves need ties them up.
	b = report.Build{}
	add(event.Step{ID: "p", Name: "[x 1/1] ADD u v", Started: at(0), Completed: at(10)})
	add(event.Step{ID: "l", Name: "[x 1/1] LINK ADD u v", Inputs: []string{"q"}, Started: at(20), Completed: at(25), Cached: true})
	add(event.Step{ID: "o", Name: "[x 1/1] ADD u v", Started: at(0), Completed: at(1)})
	add(event.Step{ID: "q", Name: "[x 1/1] ADD u v", Inputs: []string{"p"}, Started: at(10), Completed: at(20)})
	expect("p run 25ms, o run 1ms")
	r := b.Report()
	if s := r.Steps[0]; s.Text != "ADD u v" || s.Name != "[x 1/1] ADD u v" {
		t.Errorf("the step is %+v", s)
	}
	b = report.Build{}
	add(event.Step{ID: "l", Name: "[x 1/1] LINK COPY a b", Inputs: []string{"q"}})
	add(event.Step{ID: "q", Name: "[x 1/1] COPY a b"})
	if r := b.Report(); len(r.Steps) != 1 || r.Steps[0].Text != "COPY a b" || r.Summary.Steps.Total != 1 {
		t.Errorf("COPY --link is %+v", r.Steps)
	}

	// A step that another build runs for this one, too, or that a second try ran, is
	// there once; one that nobody ran is seen.
	b = report.Build{}
	for _, id := range []string{"a", "twin"} {
		add(event.Step{ID: id, Name: "[x 1/2] RUN a"})
	}
	add(event.Step{ID: "b", Name: "[x 2/2] RUN b"})
	add(event.Step{ID: "twin", Name: "[x 1/2] RUN a", Started: at(0), Completed: at(10)})
	expect("twin run 10ms, a pending 0s, b pending 0s")
	b.Add(event.Event{Time: *at(100), Result: &event.Result{}})
	expect("twin run 10ms, b pending 0s")

	// What an engine knows beyond the name counts more than the name.
	b = report.Build{}
	add(event.Step{ID: "a", Name: "[x 1/1] RUN a", Stage: "y", Platform: "linux/arm64", Started: at(0), Completed: at(0)})
	if s := b.Report().Stages[0]; s.Label() != "linux/arm64 y" {
		t.Errorf("stage is %q", s.Label())
	}
	if got := b.Report().Summary.Slowest; got != nil {
		t.Errorf("something that took no time is slowest: %+v", got)
	}
	if got := (report.Stage{Platform: "linux/arm64"}).Label(); got != "linux/arm64" {
		t.Errorf("label without stage is %q", got)
	}
}

func TestStagesInTheDockerfilesOrder(t *testing.T) {
	b := report.Build{Stages: []string{"base", "docs", "tool", "final"}}
	for _, e := range slices.Concat(
		stepEvents("1", "[extra 1/1] RUN x", 0, 5),
		stepEvents("2", "[final 1/2] FROM x", 0, 5),
		stepEvents("3", "[tool 1/1] RUN x", 5, 10),
	) {
		b.Add(e)
	}
	b.Add(event.Event{Step: &event.Step{ID: "4", Name: "[base 1/1] RUN x"}})
	var got []string
	for _, s := range b.Report().Stages {
		got = append(got, s.Name+" "+string(s.State))
	}
	want := []string{"base never", "docs never", "tool run", "final cached", "extra run"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("stages (-want +got):\n%s", diff)
	}
}

func TestMovedBytes(t *testing.T) {
	var b report.Build
	progress := func(step, id string, n int64, started, completed *time.Time) {
		b.Add(event.Event{Progress: &event.Progress{Step: step, ID: id, Current: n, Started: started, Completed: completed}})
	}
	push := func(digest, where string, n int64) {
		b.Add(event.Event{Layer: &event.Layer{Action: event.LayerPushed, Digest: digest, Where: where, Out: n}})
	}
	progress("1", "transferring context:", 10, at(0), nil)
	progress("1", "transferring context:", 100, at(0), at(5))
	progress("2", "transferring context:", 1000, at(0), at(5))
	progress("2", "transferring lighter-agent:", 60_000_000, at(0), at(5))
	progress("3", "sha256:aa", 5, at(0), nil)
	progress("3", "sha256:aa", 20_000, at(0), at(9))
	progress("4", "sha256:aa", 20_000, at(0), at(9)) // the same download, watched by another step
	progress("3", "sha512:bb", 7, at(5), at(5))      // was there
	progress("5", "transferring copying files", 300_000, at(0), at(9))
	progress("5", "copying files linux/arm64", 0, at(0), nil)
	progress("6", "pushing layers", 0, at(0), at(1))
	progress("6", "extracting sha256:aa", 77, at(0), at(1))
	push("sha256:cc", "r/a", 4_000_000)
	push("sha256:cc", "r/a", 4_000_000) // said twice
	push("sha256:cc", "r/b", 4_000_000)
	want := report.Moved{Total: 68_321_100, Mounts: 60_000_000, Context: 1100, Pulled: 20_000, Pushed: 8_000_000, Written: 300_000}
	if diff := cmp.Diff(want, b.Report().Summary.Moved); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestSummaryOfResultAndWarnings(t *testing.T) {
	var b report.Build
	w := event.Warning{Short: "x", File: "Dockerfile", Line: 3}
	other := w
	other.Line = 4
	for _, e := range []event.Event{
		{Time: *at(0), Build: "b1", Warning: &w},
		{Time: *at(40), Warning: &other},
		{Time: *at(30), Warning: &w},
		{Time: *at(50), Log: &event.Log{Data: []byte("x")}},
	} {
		b.Add(e)
		if got := b.Report().Summary.Took; got < ms(int(e.Time.Sub(epoch).Milliseconds())) || e.Time == *at(30) && got != ms(40) {
			t.Errorf("%v in, the build took %v", e.Time.Sub(epoch), got)
		}
	}
	if got := b.Report().Summary; got.Took != ms(50) || got.Build != "b1" {
		t.Errorf("so far: %+v", got)
	}
	b.Add(event.Event{Time: *at(60), Result: &event.Result{Error: "no", Digest: "sha256:1", Names: []string{"n"}}})
	b.Add(event.Event{Time: *at(90), Layer: &event.Layer{Action: event.LayerExists, Digest: "d"}})
	r := b.Report()
	s := r.Summary
	if s.Took != ms(60) || s.Error != "no" || s.Digest != "sha256:1" || !slices.Equal(s.Names, []string{"n"}) || !s.Started.Equal(epoch) {
		t.Errorf("in the end: %+v", s)
	}
	if diff := cmp.Diff([]event.Warning{w, other}, r.Warnings); diff != "" {
		t.Errorf("warnings (-want +got):\n%s", diff)
	}
}

// A report that was handed out does not change with later events.
func TestReportIsASnapshot(t *testing.T) {
	events := recorded(t, "cold")
	var b report.Build
	b.Proofs = []report.Proof{{Layers: []report.Proven{{Digest: "sha256:x"}}}}
	for i, e := range events {
		b.Add(e)
		if i == len(events)/2 || i == len(events)-10 {
			r := b.Report()
			before, _ := json.Marshal(r)
			for _, e := range events {
				b.Add(e)
			}
			b.Proofs[0].Layers[0].Digest = "changed"
			if after, _ := json.Marshal(r); !bytes.Equal(before, after) {
				t.Errorf("changed:\n%s", cmp.Diff(string(before), string(after)))
			}
		}
	}
}
