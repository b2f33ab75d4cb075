package report

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"github.com/lighter-oci/lighter/internal/event"
)

// vertex is one step as its events told it, with every run of it.
type vertex struct {
	event.Step
	name  event.StepName
	spans map[int64]span // by start, as event.Step.Started came
	turn  int            // 1 is the first vertex that started; 0 never did
}

// span is a stretch of time; end is zero while it lasts.
type span struct{ start, end time.Time }

func (s span) took() time.Duration { return s.end.Sub(s.start) }

// add takes in a later state of the step.
func (v *vertex) add(s event.Step) {
	old := v.Step
	v.Step = s
	if s.Started == nil { // the engine repeats a bare vertex to each newcomer
		v.Started, v.Completed = old.Started, old.Completed
		v.Cached = s.Cached || old.Cached
		keep(&v.Error, old.Error)
		if s.Error != "" {
			v.Error = s.Error
		}
	}
	if s.Name == "" {
		v.Name = old.Name
	}
	if len(s.Inputs) == 0 {
		v.Inputs = old.Inputs
	}
	v.name = event.ParseStepName(v.Name)
	keep(&v.name.Stage, s.Stage)
	keep(&v.name.Platform, s.Platform)
	if s.Started == nil {
		return
	}
	key := s.Started.UnixNano()
	run := v.spans[key] // an open one does not undo its end
	run.start = *s.Started
	if s.Completed != nil {
		run.end = *s.Completed
	}
	v.spans[key] = run
}

// runs is the vertex's stretches of time, joined and in order. One that is
// still open ends now.
func (v *vertex) runs(now time.Time) []span {
	list := make([]span, 0, len(v.spans))
	for _, s := range v.spans {
		if s.end.IsZero() {
			s.end = now
		}
		if s.end.Before(s.start) {
			s.end = s.start // clocks of two machines, or one set back
		}
		list = append(list, s)
	}
	return join(list)
}

func (v *vertex) state() State {
	switch {
	case v.Error != "" && strings.Contains(v.Error, context.Canceled.Error()):
		return Canceled
	case v.Error != "":
		return Failed
	case v.Cached:
		return Cached
	case v.Started == nil:
		return Pending
	case v.Completed == nil:
		return Running
	}
	return Run
}

// step is one row of Report.Steps with the vertices that make it.
type step struct {
	Step
	parts []*vertex
	runs  []span
	turn  int // of the first part that started
}

// steps gathers the vertices that make one instruction. COPY --link and ADD of
// a URL are several: they share the place in the stage and the text (after
// BuildKit's word LINK), and one is an input of the other. Place and text alone
// would not do: a stage that is built for two platforms can repeat both.
func (b *Build) steps() []*step {
	at := map[place][]*step{}
	var list []*step
	for _, v := range b.order {
		n := v.name
		s := &step{Step: Step{
			ID: v.ID, Name: v.Name, Kind: n.Kind, Stage: n.Stage, Platform: n.Platform,
			Index: n.Index, Total: n.Total, Text: shortName(n),
		}}
		if n.Total == 0 {
			s.parts = []*vertex{v}
			list = append(list, s)
			continue
		}
		p := placeOf(n)
		var same, apart []*step
		for _, o := range at[p] {
			if o.touches(v) {
				same = append(same, o)
			} else {
				apart = append(apart, o)
			}
		}
		if len(same) == 0 {
			same = []*step{s}
			list = append(list, s)
		}
		s = same[0]
		s.parts = append(s.parts, v)
		for _, o := range same[1:] { // v holds together what looked apart
			s.parts = append(s.parts, o.parts...)
			o.parts = nil
		}
		at[p] = append(apart, s)
	}
	list = slices.DeleteFunc(list, func(s *step) bool { return len(s.parts) == 0 })
	for _, s := range list {
		s.finish(b.last)
	}
	if b.result != nil {
		// Where two builds have a step in common, or a build had to begin anew, its
		// own vertex stays as it is, and the one that ran is told of beside it.
		list = slices.DeleteFunc(list, func(s *step) bool {
			return s.State == Pending && slices.ContainsFunc(at[placeOf(s.parts[0].name)], func(o *step) bool { return o.State != Pending })
		})
	}
	// BuildKit names the last step first, so appearance is no order to read.
	slices.SortStableFunc(list, func(a, b *step) int {
		if a.turn == 0 || b.turn == 0 {
			return cmp.Compare(b.turn, a.turn)
		}
		return cmp.Compare(a.turn, b.turn)
	})
	return list
}

// place is where an instruction stands, and what it says.
type place struct {
	platform, stage string
	index, total    int
	text            string
}

func placeOf(n event.StepName) place {
	return place{n.Platform, n.Stage, n.Index, n.Total, strings.TrimPrefix(n.Text, "LINK ")}
}

// CacheExport tells a step that writes a cache of layers, and where: "registry".
func (s Step) CacheExport() (where string, ok bool) {
	for _, prefix := range []string{"exporting cache to ", "exporting to GitHub Actions Cache"} {
		if where, ok = strings.CutPrefix(s.Name, prefix); ok {
			return cmp.Or(where, "GitHub Actions Cache"), true
		}
	}
	return "", false
}

// touches says whether v is an input of a part, or a part one of v's.
func (s *step) touches(v *vertex) bool {
	return slices.ContainsFunc(s.parts, func(p *vertex) bool {
		return slices.Contains(p.Inputs, v.ID) || slices.Contains(v.Inputs, p.ID)
	})
}

// shortName keeps the group where it is needed to understand the text.
func shortName(n event.StepName) string {
	if n.Group == "" || n.Group == "internal" {
		return ShortText(n.Text)
	}
	return Clean(n.Group) + ": " + ShortText(n.Text)
}

// finish sums up the parts. Of several states the one that says most wins: a
// failure over a run, a run over a cache hit, a cache hit over nothing.
func (s *step) finish(now time.Time) {
	rank := []State{Pending, Cached, Run, Canceled, Running, Failed}
	s.State = Pending
	for _, v := range s.parts {
		s.runs = append(s.runs, v.runs(now)...)
		if s.turn == 0 || v.turn > 0 && v.turn < s.turn {
			s.turn = v.turn
		}
		if strings.HasPrefix(s.Text, "LINK ") {
			s.Name, s.Text = v.Name, shortName(v.name)
		}
		if st := v.state(); slices.Index(rank, st) > slices.Index(rank, s.State) {
			s.State = st
		}
		if s.Error == "" || v.state() == Failed {
			keep(&s.Error, v.Error)
		}
	}
	if s.runs = join(s.runs); len(s.runs) > 0 {
		start := s.runs[0].start
		s.Started = &start
		s.Took = Seconds(total(s.runs))
	}
	if len(s.runs) > 1 {
		for _, r := range s.runs {
			s.Runs = append(s.Runs, Stretch{r.start, Seconds(r.took())})
		}
	}
}

// worked is the time in which the step's work was done rather than found.
func (s *step) worked() []span {
	if s.State == Cached || s.State == Pending {
		return nil
	}
	return s.runs
}

// join sorts spans by start and makes one of those that touch.
func join(list []span) []span {
	slices.SortFunc(list, func(a, b span) int { return a.start.Compare(b.start) })
	out := list[:0]
	for _, s := range list {
		if n := len(out); n > 0 && !s.start.After(out[n-1].end) {
			if s.end.After(out[n-1].end) {
				out[n-1].end = s.end
			}
			continue
		}
		out = append(out, s)
	}
	return out
}

// total is the length of joined spans.
func total(list []span) time.Duration {
	var d time.Duration
	for _, s := range list {
		d += s.took()
	}
	return d
}

// common is how long two lists of joined spans have in common.
func common(a, b []span) time.Duration {
	var d time.Duration
	for len(a) > 0 && len(b) > 0 {
		start, end := a[0].start, a[0].end
		if b[0].start.After(start) {
			start = b[0].start
		}
		if b[0].end.Before(end) {
			end = b[0].end
		}
		if end.After(start) {
			d += end.Sub(start)
		}
		if a[0].end.Before(b[0].end) {
			a = a[1:]
		} else {
			b = b[1:]
		}
	}
	return d
}
