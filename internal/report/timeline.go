package report

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/lighter-oci/lighter/internal/event"
)

// Timeline is how a build is drawn along its time: a lane for each stage, with
// rows of bars. The zero value is a picture for a page that has PictureCSS, of a
// build that ended.
type Timeline struct {
	// Now is the moment in a build that still runs, on the clock of its events;
	// zero is the last event's.
	Now time.Time
	// ID is the picture's in its page, of letters, digits, "-" and "_", and what
	// its other IDs begin with; "timeline" where it is empty or has anything else.
	ID string
	// Link is where a bar leads, before the step's number: Report.Steps[N-1] is
	// step N. "#step-" where it is empty.
	Link string
	// Standalone makes a file of its own: with its style, without links.
	Standalone bool
}

// Bars of at most that share of the width, in percent, are neighbours' when
// they are of one kind; no bar is drawn smaller.
const (
	smallest = 0.7
	mostBars = 240          // 500 steps that last take 75 kB then
	moved    = 2 * smallest // how far a bar may give way to a small one before it
)

// lane is a part of the picture.
type lane struct {
	heading string // before it, where a platform begins
	name    string
	says    string
	rows    [][]bar
}

// bar is a step, a stretch of one, or several that are too small to see.
type bar struct {
	x, w  float64 // percent of the width
	until float64 // where it ends in truth
	steps []int   // of Report.Steps
	state State
	crit  bool
	took  Seconds
	small bool
	taken bool // the space before it, by the label of the bar there
}

func (b bar) end() float64 { return b.x + b.w }

// scale takes moments to percent.
type scale struct {
	from time.Time
	took time.Duration
}

func (s scale) at(t time.Time) float64 { return s.share(t.Sub(s.from)) }

func (s scale) share(d time.Duration) float64 {
	if s.took <= 0 {
		return 0
	}
	return min(max(100*float64(d)/float64(s.took), 0), 100)
}

// stretches is when a step ran, as far as until now.
func (t Timeline) stretches(r *Report, s *Step) []Stretch {
	if s.Started == nil {
		return nil
	}
	list := slices.Clone(s.Runs)
	if len(list) == 0 {
		list = []Stretch{{*s.Started, s.Took}}
	}
	if s.State == Running {
		list[len(list)-1].Took += t.since(r)
	}
	return list
}

// since is what has passed since the last event; a step's own clock may be another's.
func (t Timeline) since(r *Report) Seconds {
	if t.Now.IsZero() {
		return 0
	}
	return max(0, Seconds(t.Now.Sub(r.Summary.Started))-r.Summary.Took)
}

// scale spans all steps. Those of the client's clock, credentials, do not stretch
// it.
func (t Timeline) scale(r *Report) scale {
	var from, to time.Time
	for i := range r.Steps {
		if event.ParseStepName(r.Steps[i].Name).Group == "auth" {
			continue
		}
		for _, s := range t.stretches(r, &r.Steps[i]) {
			if from.IsZero() || s.Started.Before(from) {
				from = s.Started
			}
			if end := s.Started.Add(s.Took.Duration()); end.After(to) {
				to = end
			}
		}
	}
	return scale{from, max(to.Sub(from), 0)}
}

// lanes is the whole picture, from top to bottom.
func (t Timeline) lanes(r *Report, sc scale) []lane {
	type place struct {
		rank           int // setup, stages, exports
		platform, name string
	}
	bars := map[place][]bar{}
	for i, s := range r.Steps {
		p := place{1, s.Platform, s.Stage}
		switch {
		case s.Kind == event.StepExport:
			p = place{rank: 2}
		case s.Platform == "" && s.Stage == "" && s.Kind != event.StepInstruction && s.Total == 0:
			p = place{rank: 0}
		}
		for _, run := range t.stretches(r, &r.Steps[i]) {
			bars[p] = append(bars[p], newBar(r, i, run, sc))
		}
	}
	list := []lane{}
	all := 0
	for _, b := range bars {
		all += own(b)
	}
	add := func(heading, name, says string, p place) {
		if b := bars[p]; len(b) > 0 {
			crowd(b, all)
			list = append(list, lane{heading, name, says, pack(merge(b), p.rank == 2 && len(b) <= 8)})
		}
		delete(bars, p)
	}
	add("", "before the stages", "", place{rank: 0})
	platforms := []string{}
	for _, s := range r.Stages {
		if s.State != StageNever && !slices.Contains(platforms, s.Platform) {
			platforms = append(platforms, s.Platform)
		}
	}
	slices.Sort(platforms) // "" first: what is the same for all of them
	for _, platform := range platforms {
		heading := platform
		for _, s := range r.Stages {
			if s.Platform == platform && len(bars[place{1, platform, s.Name}]) > 0 {
				if slices.ContainsFunc(bars[place{1, platform, s.Name}], func(b bar) bool { return b.state == Running }) {
					s.Took += t.since(r)
				}
				add(heading, cmp.Or(s.Name, "steps"), s.says(), place{1, platform, s.Name})
				heading = ""
			}
		}
	}
	// Of a frontend that has no stages, and of pack, whose steps have platforms.
	rest := slices.DeleteFunc(slices.Collect(maps.Keys(bars)), func(p place) bool { return p.rank != 1 })
	slices.SortFunc(rest, func(a, b place) int { return cmp.Or(cmp.Compare(a.platform, b.platform), cmp.Compare(a.name, b.name)) })
	for _, p := range rest {
		add("", cmp.Or(p.name, p.platform, "steps"), "", p)
	}
	add("", "export", "", place{rank: 2})
	return list
}

// says is a stage in numbers.
func (s Stage) says() string {
	says := fmt.Sprintf("%d steps", s.Steps)
	if s.Steps == 1 {
		says = "1 step"
	}
	switch {
	case s.Steps == 0:
		return ""
	case s.Cached == s.Steps:
		return says + " · all cached"
	case s.Cached > 0:
		says += fmt.Sprintf(" · %d cached", s.Cached)
	}
	if s.Took > 0 {
		says += " · " + s.Took.String()
	}
	return says
}

func newBar(r *Report, i int, run Stretch, sc scale) bar {
	s := &r.Steps[i]
	end := run.Started.Add(run.Took.Duration())
	b := bar{x: sc.at(run.Started), steps: []int{i}, state: s.State, took: run.Took}
	b.until = sc.at(end)
	b.w = max(b.until-b.x, smallest)
	b.x = min(b.x, 100-b.w)
	for _, p := range r.Path {
		upto := p.Started.Add(p.Took.Duration() + p.Wait.Duration())
		if p.ID == s.ID && !run.Started.After(upto) && !end.Before(*p.Started) {
			b.crit = true
		}
	}
	b.small = s.State == Cached || s.State == Run && b.w <= smallest
	return b
}

// own is how many bars are not merged for being cached.
func own(bars []bar) int {
	n := 0
	for _, b := range bars {
		if b.state != Cached {
			n++
		}
	}
	return n
}

// crowd marks those as small that get no bar of their own where there are very
// many: all but the longest, in a lane as many as is its share of all.
func crowd(bars []bar, all int) {
	if all <= mostBars {
		return
	}
	order := make([]int, len(bars))
	for i := range order {
		order[i] = i
	}
	weight := func(b bar) float64 {
		switch {
		case b.state == Cached:
			return 0
		case b.crit:
			return 100 + b.w
		}
		return b.w
	}
	slices.SortStableFunc(order, func(i, j int) int { return cmp.Compare(weight(bars[j]), weight(bars[i])) })
	for _, i := range order[min(len(order), max(1, mostBars*own(bars)/all)):] {
		bars[i].small = bars[i].small || bars[i].state == Run
	}
}

// merge makes one bar of neighbours that are small and of one kind.
func merge(bars []bar) []bar {
	slices.SortStableFunc(bars, func(a, b bar) int { return cmp.Compare(a.x, b.x) })
	type kind struct {
		state State
		crit  bool
	}
	last := map[kind]int{} // where the bar is in out that may grow
	var out []bar
	for _, b := range bars {
		k := kind{b.state, b.crit && b.state != Cached}
		if i, ok := last[k]; b.small && ok && b.x <= out[i].end()+smallest {
			o := &out[i]
			o.w = max(o.end(), b.end()) - o.x
			o.until = max(o.until, b.until)
			o.took += b.took
			o.crit = o.crit || b.crit
			if !slices.Contains(o.steps, b.steps[0]) {
				o.steps = append(o.steps, b.steps...)
			}
			continue
		}
		out = append(out, b)
		if b.small {
			last[k] = len(out) - 1
		}
	}
	return out
}

// pack gives bars that were there at once rows of their own. One that only comes
// too early for the smallest bar before it gives way. With apart, each has its
// own, for few that matter.
func pack(bars []bar, apart bool) [][]bar {
	slices.SortStableFunc(bars, func(a, b bar) int { return cmp.Compare(a.x, b.x) })
	var rows [][]bar
next:
	for _, b := range bars {
		for i, row := range rows {
			if apart {
				break
			}
			before := row[len(row)-1]
			late := max(0, before.end()-b.x)
			if late == 0 || before.until <= b.x && late <= moved && b.x+late+smallest <= 100 {
				b.x, b.w = b.x+late, max(b.w-late, smallest)
				rows[i] = append(row, b)
				continue next
			}
		}
		rows = append(rows, []bar{b})
	}
	return rows
}
