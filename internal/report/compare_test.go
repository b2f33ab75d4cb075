package report_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lighter-oci/lighter/internal/event"
	"github.com/lighter-oci/lighter/internal/report"
)

func seconds(s float64) report.Seconds { return report.Seconds(s * float64(time.Second)) }

func TestCompare(t *testing.T) {
	st := func(id, text string, state report.State, took float64) report.Step {
		return report.Step{ID: id, Text: text, Stage: "b", Kind: event.StepInstruction, State: state, Took: seconds(took)}
	}
	before := report.Report{
		Summary: report.Summary{Took: seconds(10), Moved: report.Moved{Total: 100}, Image: report.Image{Total: 1000}},
		Steps: []report.Step{
			st("1", "RUN apt", report.Cached, 0), st("2", "COPY . .", report.Cached, 0), st("3", "RUN make", report.Run, 5), st("4", "RUN old", report.Run, 2),
			st("5", "RUN won", report.Run, 1), st("6", "RUN same", report.Run, 3), st("7", "RUN fails", report.Run, 1), st("8", "RUN last", report.Run, 1),
			st("9", "RUN never", report.Pending, 0),
		},
		Layers: []report.Layer{{Digest: "a", DiffID: "da", Out: 100}, {Digest: "b", DiffID: "db", Out: 200}, {Digest: "c", Name: "COPY bin", Out: 300}, {Digest: "gone", Out: 5}},
	}
	after := report.Report{
		Summary: report.Summary{Took: seconds(14.5), Moved: report.Moved{Total: 40}, Image: report.Image{Total: 1700}},
		Steps: []report.Step{
			st("1", "RUN apt", report.Cached, 0), st("2b", "COPY . .", report.Run, 0.5), st("3b", "RUN make", report.Run, 9), st("n", "RUN new", report.Run, 2.5),
			st("5", "RUN won", report.Cached, 0), st("6", "RUN same", report.Run, 3.2), st("7", "RUN fails", report.Failed, 1), st("8", "RUN last", report.Canceled, 0.1),
		},
		Layers: []report.Layer{{Digest: "a", DiffID: "da", Out: 100}, {Digest: "b2", DiffID: "db", Out: 150}, {Digest: "c2", Name: "COPY bin", Out: 800}, {Digest: "new", Out: 9}},
		Findings: []report.Finding{
			{Kind: report.CacheMount, Text: "other"},
			{Kind: report.CacheMiss, File: "Dockerfile", Line: 4, Text: "main.go modified", Ran: []string{"2b", "3b", "n"}},
		},
	}
	c := report.Compare(before, after)
	if c.Took != seconds(4.5) || c.Moved != -60 || c.Image != 700 || c.Same != 1 {
		t.Errorf("took %v, moved %d, image %d, same %d", c.Took, c.Moved, c.Image, c.Same)
	}
	type row struct {
		Change        report.StepChange
		Text          string
		Took          report.Seconds
		Why           string
		Line          int
		Behind        string
		Before, After bool
	}
	var steps []row
	for _, d := range c.Steps {
		steps = append(steps, row{d.Change, d.Step().Text, d.Took, d.Why, d.Line, d.Behind, d.Before != nil, d.After != nil})
	}
	if diff := cmp.Diff([]row{
		{report.StepFailed, "RUN fails", 0, "", 0, "", true, true},
		{report.StepSlower, "RUN make", seconds(4), "", 0, "", true, true},
		{report.StepNew, "RUN new", seconds(2.5), "main.go modified", 4, "COPY . .", false, true},
		{report.StepLost, "COPY . .", seconds(0.5), "main.go modified", 4, "", true, true},
		{report.StepGone, "RUN old", seconds(-2), "", 0, "", true, false},
		{report.StepWon, "RUN won", seconds(-1), "", 0, "", true, true},
		{report.StepNotRun, "RUN last", seconds(-0.9), "", 0, "", true, true},
	}, steps); diff != "" {
		t.Errorf("steps (-want +got):\n%s", diff)
	}
	var layers []report.LayerDiff
	for _, l := range c.Layers {
		layers = append(layers, report.LayerDiff{Change: l.Change, Bytes: l.Bytes})
	}
	if diff := cmp.Diff([]report.LayerDiff{
		{Change: report.LayerChanged, Bytes: 500}, {Change: report.LayerNew, Bytes: 9}, {Change: report.LayerGone, Bytes: -5}, {Change: report.LayerRecompressed, Bytes: -50},
	}, layers); diff != "" {
		t.Errorf("layers (-want +got):\n%s", diff)
	}
}

// Steps that say the same in one stage are told apart as far as there are some.
func TestCompareRepeatedSteps(t *testing.T) {
	st := func(id string) report.Step {
		return report.Step{ID: id, Text: "RUN x", State: report.Run, Took: seconds(1)}
	}
	c := report.Compare(report.Report{Steps: []report.Step{st("a"), st("b")}}, report.Report{Steps: []report.Step{st("b"), st("c"), st("d")}})
	if len(c.Steps) != 1 || c.Steps[0].Change != report.StepNew || c.Steps[0].After.ID != "d" {
		t.Errorf("%+v", c.Steps)
	}
	if c := report.Compare(report.Report{}, report.Report{}); c.Steps == nil || c.Layers == nil {
		t.Error("lists are null in JSON")
	}
}

// What becomes of one step, by its states before and after; "" is no difference.
func TestCompareStates(t *testing.T) {
	none := report.State("")
	for _, c := range []struct {
		before, after report.State
		want          report.StepChange
	}{
		{none, report.Run, report.StepNew}, {none, report.Failed, report.StepFailed}, {none, report.Pending, ""}, {none, report.Cached, report.StepNew},
		{report.Run, none, report.StepGone}, {report.Pending, none, ""},
		{report.Failed, report.Failed, ""}, {report.Failed, report.Cached, report.StepWon}, {report.Failed, report.Run, ""},
		{report.Cached, report.Failed, report.StepFailed}, {report.Cached, report.Running, report.StepLost}, {report.Cached, report.Cached, ""},
		{report.Cached, report.Pending, report.StepNotRun}, {report.Run, report.Pending, report.StepNotRun},
		{report.Pending, report.Pending, ""}, {report.Canceled, report.Canceled, ""},
	} {
		of := func(state report.State) report.Report {
			if state == none {
				return report.Report{}
			}
			return report.Report{Steps: []report.Step{{ID: "x", Text: "RUN x", State: state}}, Findings: []report.Finding{
				{Kind: report.CacheMount, Text: "of another kind", Ran: []string{"x"}}, {Kind: report.CacheMiss, Text: "why", Ran: []string{"x"}},
			}}
		}
		var got report.StepChange
		why := ""
		for _, d := range report.Compare(of(c.before), of(c.after)).Steps {
			got, why = d.Change, d.Why
		}
		if got != c.want {
			t.Errorf("%q, then %q: %q, want %q", c.before, c.after, got, c.want)
		}
		if ran := got == report.StepNew || got == report.StepFailed || got == report.StepLost; ran != (why == "why") {
			t.Errorf("%q, then %q: because of %q", c.before, c.after, why)
		}
	}
}

// Steps and layers of two platforms, and steps of two stages, are not taken for one
// another, however much they look alike.
func TestComparePlatforms(t *testing.T) {
	of := func(platform, stage, id string) report.Report {
		return report.Report{
			Steps:  []report.Step{{ID: id, Platform: platform, Stage: stage, Text: "RUN x", State: report.Run}},
			Layers: []report.Layer{{Digest: id, Platform: platform, Name: "RUN x"}},
		}
	}
	for name, c := range map[string]struct {
		platform, stage string
		steps, layers   int
	}{"the same": {"linux/amd64", "build", 0, 1}, "another stage": {"linux/amd64", "test", 2, 1}, "another platform": {"linux/arm64", "build", 2, 2}} {
		got := report.Compare(of("linux/amd64", "build", "a"), of(c.platform, c.stage, "b"))
		if len(got.Steps) != c.steps || len(got.Layers) != c.layers {
			t.Errorf("%s: %d steps and %d layers differ, want %d and %d", name, len(got.Steps), len(got.Layers), c.steps, c.layers)
		}
	}
}
