package report_test

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/lighter-oci/lighter/internal/event"
	"github.com/lighter-oci/lighter/internal/report"
)

var epoch = time.Date(2026, 9, 1, 12, 0, 0, 0, time.UTC)

// at is the moment so many milliseconds after the epoch.
func at(ms int) *time.Time {
	t := epoch.Add(time.Duration(ms) * time.Millisecond)
	return &t
}

func ms(n int) report.Seconds { return report.Seconds(n) * report.Seconds(time.Millisecond) }

// stepEvents is a step that starts and completes.
func stepEvents(id, name string, start, end int, inputs ...string) []event.Event {
	begun := &event.Step{ID: id, Name: name, Inputs: inputs, Started: at(start)}
	done := *begun
	done.Completed = at(end)
	return []event.Event{{Time: *at(start), Step: begun}, {Time: *at(end), Step: &done}}
}

func fold(events ...[]event.Event) report.Report {
	var b report.Build
	for _, list := range events {
		for _, e := range list {
			b.Add(e)
		}
	}
	return b.Report()
}

func texts(path []report.PathStep) []string {
	var s []string
	for _, p := range path {
		s = append(s, fmt.Sprintf("%s %v+%v", p.Text, time.Duration(p.Wait), time.Duration(p.Took)))
	}
	return s
}

// Random graphs as a scheduler would run them: the path must be unbroken from
// its first step to the end of the build, and each link must be the input that
// ended last.
func TestCriticalPath(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		type node struct{ start, end int }
		n := rapid.IntRange(1, 12).Draw(t, "steps")
		nodes := make([]node, n)
		inputs := make([][]int, n)
		var events [][]event.Event
		last := 0
		for i := range nodes {
			var ids []string
			ready := rapid.IntRange(0, 50).Draw(t, "root start")
			if i > 0 {
				inputs[i] = rapid.SliceOfNDistinct(rapid.IntRange(0, i-1), 0, 3, rapid.ID).Draw(t, "inputs")
			}
			for j, in := range inputs[i] {
				ids = append(ids, fmt.Sprint(in))
				if j == 0 || nodes[in].end > ready {
					ready = nodes[in].end
				}
			}
			nodes[i].start = ready + rapid.IntRange(0, 10).Draw(t, "wait")
			nodes[i].end = nodes[i].start + rapid.IntRange(0, 100).Draw(t, "took")
			last = max(last, nodes[i].end)
			events = append(events, stepEvents(fmt.Sprint(i), fmt.Sprint("step ", i), nodes[i].start, nodes[i].end, ids...))
		}
		path := fold(events...).Path
		if len(path) == 0 {
			t.Fatal("no path")
		}
		var sum report.Seconds
		for i, p := range path {
			var self int
			fmt.Sscan(p.ID, &self)
			sum += p.Wait + p.Took
			if !p.Started.Equal(*at(nodes[self].start)) || p.Took != ms(nodes[self].end-nodes[self].start) {
				t.Fatalf("step %d is told as %v + %v", self, p.Started, p.Took)
			}
			if i == 0 {
				if p.Wait != 0 || len(inputs[self]) > 0 {
					t.Fatalf("the path begins with step %d, which waited", self)
				}
				continue
			}
			var before int
			fmt.Sscan(path[i-1].ID, &before)
			if p.Wait != ms(nodes[self].start-nodes[before].end) {
				t.Fatalf("step %d waited %v for %d", self, p.Wait, before)
			}
			latest := 0
			isInput := len(inputs[self]) == 0
			for j, in := range inputs[self] {
				isInput = isInput || in == before
				if j == 0 || nodes[in].end > latest {
					latest = nodes[in].end
				}
			}
			if len(inputs[self]) == 0 { // by time: whatever ended last before it
				for _, x := range nodes {
					if x.start < nodes[self].start && x.end <= nodes[self].start {
						latest = max(latest, x.end)
					}
				}
			}
			if !isInput || nodes[before].end != latest {
				t.Fatalf("step %d did not wait for %d", self, before)
			}
		}
		var first int
		fmt.Sscan(path[0].ID, &first)
		if sum != ms(last-nodes[first].start) {
			t.Fatalf("the path takes %v of %v", sum, ms(last-nodes[first].start))
		}
	})
}

func TestCriticalPathOfAwkwardSteps(t *testing.T) {
	check := func(name string, got []string, want ...string) {
		t.Helper()
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	check("nothing", texts(fold().Path))

	// A source runs twice: for its cache key, and for the work when needed.
	src := append(stepEvents("s", "[a 1/2] FROM x", 0, 10), stepEvents("s", "[a 1/2] FROM x", 40, 90)...)
	other := stepEvents("o", "[b 1/1] RUN other", 10, 35)
	check("two runs of one step are one link",
		texts(fold(src, other, stepEvents("r", "[a 2/2] RUN y", 95, 100, "s")).Path),
		"FROM x 30ms+60ms", "RUN y 5ms+5ms")
	check("an input that ran again later is not what a step waited for",
		texts(fold(src, stepEvents("r", "[a 2/2] RUN y", 12, 100, "s")).Path),
		"FROM x 0s+10ms", "RUN y 2ms+88ms")
	check("inputs that ended late, as clocks may tell, make no negative wait",
		texts(fold(stepEvents("i", "i", 0, 20), stepEvents("j", "j", 15, 30, "i")).Path),
		"i 0s+20ms", "j 0s+15ms")
	check("a circle ends",
		texts(fold(stepEvents("i", "i", 0, 20, "j"), stepEvents("j", "j", 20, 30, "i")).Path),
		"i 0s+20ms", "j 0s+10ms")
	check("what took no time does not wait for its own end",
		texts(fold(stepEvents("i", "i", 0, 0), stepEvents("j", "j", 0, 0, "i"), stepEvents("k", "k", 0, 9, "i")).Path),
		"i 0s+0s", "k 0s+9ms")
	check("an unknown input is no input",
		texts(fold(stepEvents("i", "i", 0, 20), stepEvents("j", "j", 25, 30, "nobody")).Path),
		"i 0s+20ms", "j 5ms+5ms")
	check("the client's clock sets no pace",
		texts(fold(stepEvents("i", "i", 0, 20), stepEvents("t", "[auth] pull token for x", 20, 24), stepEvents("j", "j", 25, 30)).Path),
		"i 0s+20ms", "j 5ms+5ms")

	failed := stepEvents("f", "[a 1/1] RUN false", 0, 10)
	failed[1].Step.Error = "exit code: 1"
	stopped := stepEvents("c", "[b 1/1] RUN sleep", 0, 15)
	stopped[1].Step.Error = "exit code: 137: context canceled"
	check("a failure ends the path, not what it stopped",
		texts(fold(failed, stopped).Path), "RUN false 0s+10ms")
}

// Overlaps, stage times and step times against a walk over every millisecond.
func TestOverlaps(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const end = 60
		stages := []string{"a", "b", "c"}
		busy := map[string]*[end]bool{}
		var events [][]event.Event
		for _, stage := range stages {
			busy[stage] = &[end]bool{}
			for i := range rapid.IntRange(0, 4).Draw(t, "steps") {
				start := rapid.IntRange(0, end-1).Draw(t, "start")
				stop := rapid.IntRange(start, end-1).Draw(t, "stop")
				for m := start; m < stop; m++ {
					busy[stage][m] = true
				}
				events = append(events, stepEvents(fmt.Sprint(stage, i), fmt.Sprintf("[%s %d/9] RUN x", stage, i+1), start, stop))
			}
		}
		r := fold(events...)
		both := func(a, b string) (n int) {
			for m := range end {
				if busy[a][m] && busy[b][m] {
					n++
				}
			}
			return n
		}
		got := map[string]report.Seconds{}
		for i, o := range r.Overlaps {
			got[min(o.A, o.B)+max(o.A, o.B)] = o.Took
			if i > 0 && o.Took > r.Overlaps[i-1].Took {
				t.Fatalf("not longest first: %v", r.Overlaps)
			}
		}
		for _, pair := range []string{"ab", "ac", "bc"} {
			want := ms(both(pair[:1], pair[1:]))
			if got[pair] != want {
				t.Fatalf("%s ran together %v, want %v", pair, got[pair], want)
			}
			if _, told := got[pair]; told && want == 0 {
				t.Fatalf("%s told without having happened", pair)
			}
		}
		for _, s := range r.Stages {
			if s.Took != ms(both(s.Name, s.Name)) {
				t.Fatalf("stage %s took %v", s.Name, s.Took)
			}
		}
	})
}
