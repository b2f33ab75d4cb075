package report

import (
	"cmp"
	"slices"

	"github.com/lighter-oci/lighter/internal/event"
)

// stages sums up the steps by stage and finds which stages ran together.
// Sources do not count as running: BuildKit resolves every FROM at once.
func (b *Build) stages(steps []*step) ([]Stage, []Overlap) {
	type place struct{ platform, name string }
	at := map[place]int{}
	list := []Stage{}
	var worked [][]span // beside list
	known := map[string]bool{}
	for _, s := range steps {
		if s.Total == 0 || s.Stage == "" && s.Platform == "" {
			continue
		}
		p := place{s.Platform, s.Stage}
		i, ok := at[p]
		if !ok {
			i = len(list)
			at[p] = i
			list = append(list, Stage{Name: s.Stage, Platform: s.Platform, State: StageNever})
			worked = append(worked, nil)
		}
		known[s.Stage] = true
		st := &list[i]
		if s.State != Pending && st.State == StageNever {
			st.State = StageCached
		}
		if s.Kind != event.StepInstruction {
			continue
		}
		st.Steps++
		if s.State == Cached {
			st.Cached++
		}
		if w := s.worked(); len(w) > 0 {
			st.State = StageRun
			worked[i] = append(worked[i], w...)
		}
	}
	for i := range list {
		worked[i] = join(worked[i])
		if len(worked[i]) > 0 {
			start := worked[i][0].start
			list[i].Started = &start
			list[i].Took = Seconds(total(worked[i]))
		}
	}
	overlaps := []Overlap{}
	for i := range list {
		for j := range i {
			if d := common(worked[j], worked[i]); d > 0 {
				overlaps = append(overlaps, Overlap{A: list[j].Label(), B: list[i].Label(), Took: Seconds(d)})
			}
		}
	}
	slices.SortStableFunc(overlaps, func(a, b Overlap) int { return cmp.Compare(b.Took, a.Took) })

	for _, name := range b.Stages {
		if !known[name] {
			known[name] = true
			list = append(list, Stage{Name: name, State: StageNever})
		}
	}
	slices.SortStableFunc(list, func(a, c Stage) int { return cmp.Compare(b.stageIndex(a.Name), b.stageIndex(c.Name)) })
	return list, overlaps
}

// stageIndex is where the Dockerfile has the stage; unknown ones come last.
func (b *Build) stageIndex(name string) int {
	if i := slices.Index(b.Stages, name); i >= 0 {
		return i
	}
	return len(b.Stages)
}

// run is one stretch of work of a vertex within a step.
type run struct {
	span
	step   *step
	vertex *vertex
	before *run // the vertex's own earlier stretch
}

// path walks back from what ended last, in a failed build from what failed
// last. What a stretch waited for is whichever
// ended latest of the step's inputs and the step's own earlier stretch. Steps
// without either (exports, sources, the engine's own) waited for whatever ended
// last before them, as BuildKit runs its phases one behind the other.
func (b *Build) path(steps []*step) []PathStep {
	last := map[string]*run{} // by vertex ID
	var all []*run
	for _, s := range steps {
		for _, v := range s.parts {
			for _, sp := range v.runs(b.last) {
				r := &run{span: sp, step: s, vertex: v, before: last[v.ID]}
				last[v.ID] = r
				all = append(all, r)
			}
		}
	}
	if len(all) == 0 {
		return []PathStep{}
	}
	latest := func(a, b *run) int { return a.end.Compare(b.end) }
	slices.SortStableFunc(all, latest)

	seen := map[*run]bool{}
	var chain []*run
	for r := pacemaker(all); r != nil && !seen[r]; r = b.waitedFor(r, last, all) {
		seen[r] = true
		chain = append(chain, r)
	}
	slices.Reverse(chain)
	return links(chain)
}

// pacemaker is the run that ended the build: the last one, unless that was
// only stopped because another failed. all is sorted by end and not empty.
func pacemaker(all []*run) *run {
	for _, r := range slices.Backward(all) {
		if r.step.State == Failed {
			return r
		}
	}
	return all[len(all)-1]
}

// waitedFor is the run whose end let r start, or nil. all is sorted by end.
func (b *Build) waitedFor(r *run, last map[string]*run, all []*run) *run {
	best := r.before
	for _, id := range r.vertex.Inputs {
		in := last[id]
		// An input that ran again after r began is not what r waited for.
		for in != nil && in.end.After(r.start) && in.before != nil {
			in = in.before
		}
		if in != nil && (best == nil || in.end.After(best.end)) {
			best = in
		}
	}
	if best != nil {
		return best
	}
	for _, o := range slices.Backward(all) {
		// Steps from the cache take no time: one that began no earlier may be
		// waiting for r. Credentials are fetched by the client, whose clock may
		// be another.
		if o.start.Before(r.start) && !o.end.After(r.start) && o.vertex.name.Group != "auth" {
			return o
		}
	}
	return nil
}

// links makes the rows: neighbours of one step are one.
func links(chain []*run) []PathStep {
	path := []PathStep{}
	for i, r := range chain {
		var wait Seconds
		if i > 0 {
			wait = max(0, Seconds(r.start.Sub(chain[i-1].end)))
		}
		if i > 0 && chain[i-1].step == r.step {
			l := &path[len(path)-1]
			l.Took += Seconds(r.took())
			l.Wait += wait
			continue
		}
		start := r.start
		s := r.step.Step
		s.Started, s.Took = &start, Seconds(r.took())
		path = append(path, PathStep{Step: s, Wait: wait})
	}
	return path
}
