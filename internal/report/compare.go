package report

import (
	"cmp"
	"slices"
)

// Comparison is what is different between two builds of one thing. Differences
// are after less before: positive ones are slower and bigger.
type Comparison struct {
	Before Summary     `json:"before"`
	After  Summary     `json:"after"`
	Took   Seconds     `json:"seconds"`
	Moved  int64       `json:"movedBytes"`
	Image  int64       `json:"imageBytes"`
	Steps  []StepDiff  `json:"steps"`  // what failed, then what cost the most first, what saved the most last
	Layers []LayerDiff `json:"layers"` // what grew the most first
	Same   int         `json:"sameLayers"`
}

// StepChange says what is different about a step.
type StepChange string

// What can be different about a step.
const (
	StepFailed StepChange = "failed"     // it did not before
	StepLost   StepChange = "lost-cache" // the cache answered before, and did not now
	StepNew    StepChange = "new"        // it was not there, or said something else
	StepSlower StepChange = "slower"
	StepNotRun StepChange = "not-run" // the build ended before
	StepGone   StepChange = "gone"
	StepFaster StepChange = "faster"
	StepWon    StepChange = "from-cache" // it ran before
)

// StepDiff is one step that is not as it was.
type StepDiff struct {
	Change StepChange `json:"change"`
	Before *Step      `json:"before,omitempty"` // nil where it was not there
	After  *Step      `json:"after,omitempty"`
	Took   Seconds    `json:"seconds"`
	// Why it ran, where that is known; File and Line of the instruction to blame.
	Why  string `json:"why,omitempty"`
	File string `json:"file,omitempty"`
	Line int    `json:"line,omitempty"`
	// Behind is the text of the step that Why is about, where that is an earlier one,
	// from which this one follows.
	Behind string `json:"behind,omitempty"`
}

// Step is the step as it is, or as it was where it is gone.
func (d StepDiff) Step() Step {
	if d.After != nil {
		return *d.After
	}
	return *d.Before
}

// LayerChange says what is different about a layer.
type LayerChange string

// What can be different about a layer.
const (
	LayerNew          LayerChange = "new"
	LayerGone         LayerChange = "gone"
	LayerChanged      LayerChange = "changed"      // another tar in its place
	LayerRecompressed LayerChange = "recompressed" // the same tar as another blob
)

// LayerDiff is one layer that is not as it was.
type LayerDiff struct {
	Change LayerChange `json:"change"`
	Before *Layer      `json:"before,omitempty"`
	After  *Layer      `json:"after,omitempty"`
	Bytes  int64       `json:"bytes"` // of the blob
}

// What differs less is the machine's mood, not the build.
const (
	leastTook  = Seconds(1e8) // 0.1 s
	leastShare = 10           // one over the share of the longer time
)

// Compare says what is different between two builds of one thing, the earlier one
// first.
func Compare(before, after Report) Comparison {
	c := Comparison{
		Before: before.Summary, After: after.Summary, Took: after.Summary.Took - before.Summary.Took,
		Moved: after.Summary.Moved.Total - before.Summary.Moved.Total, Image: after.Summary.Image.Total - before.Summary.Image.Total,
		Steps: []StepDiff{}, Layers: []LayerDiff{},
	}
	for _, p := range pairs(before.Steps, after.Steps, sameStep...) {
		if d, ok := diffStep(p.before, p.after); ok {
			d.explain(after)
			c.Steps = append(c.Steps, d)
		}
	}
	slices.SortStableFunc(c.Steps, func(a, b StepDiff) int {
		switch failed := a.Change == StepFailed; {
		case failed == (b.Change == StepFailed):
			if a.Took < 0 && b.Took < 0 {
				return cmp.Compare(a.Took, b.Took) // below what got worse, what gained most
			}
			return cmp.Compare(b.Took, a.Took)
		case failed:
			return -1
		}
		return 1
	})
	for _, p := range pairs(before.Layers, after.Layers, sameLayer...) {
		if d, ok := diffLayer(p.before, p.after); ok {
			c.Layers = append(c.Layers, d)
		} else {
			c.Same++
		}
	}
	slices.SortStableFunc(c.Layers, func(a, b LayerDiff) int { return cmp.Compare(b.Bytes, a.Bytes) })
	return c
}

// sameStep are the ways to know a step again, the surest first.
var sameStep = []func(Step) any{
	func(s Step) any { return s.ID },
	func(s Step) any { return [3]string{s.Platform, s.Stage, s.Text} },
}

// sameLayer are the ways to know a layer again.
var sameLayer = []func(Layer) any{
	func(l Layer) any { return l.Digest },
	func(l Layer) any { return unless(l.DiffID) },
	func(l Layer) any { return unless(l.Platform, l.Name) },
}

// unless is a key of words, or none where the last is empty.
func unless(words ...string) any {
	if words[len(words)-1] == "" {
		return nil
	}
	return [2]string{words[0], words[len(words)-1]}
}

type pair[T any] struct{ before, after *T }

// pairs brings together what is the same in two lists by the first key that agrees,
// in the order of after; what is only in before comes last. Each is in one pair.
func pairs[T any](before, after []T, keys ...func(T) any) []pair[T] {
	var list []pair[T]
	for i := range after {
		list = append(list, pair[T]{after: &after[i]})
	}
	left := make([]*T, len(before))
	for i := range before {
		left[i] = &before[i]
	}
	for _, key := range keys {
		at := map[any][]*T{}
		for _, b := range left {
			if k := key(*b); k != nil {
				at[k] = append(at[k], b)
			}
		}
		for i, p := range list {
			k := key(*p.after)
			if p.before != nil || k == nil || len(at[k]) == 0 {
				continue
			}
			list[i].before, at[k] = at[k][0], at[k][1:]
			left = slices.DeleteFunc(left, func(b *T) bool { return b == list[i].before })
		}
	}
	for _, b := range left {
		list = append(list, pair[T]{before: b})
	}
	return list
}

func diffStep(before, after *Step) (StepDiff, bool) {
	d := StepDiff{Before: before, After: after}
	switch {
	case before == nil:
		d.Change, d.Took = StepNew, after.Took
		if after.State == Failed {
			d.Change = StepFailed
		}
		return d, after.State != Pending
	case after == nil:
		d.Change, d.Took = StepGone, -before.Took
		return d, before.State != Pending
	}
	d.Took = after.Took - before.Took
	ran := func(s State) bool { return s == Run || s == Failed || s == Running }
	switch {
	case after.State == Failed && before.State != Failed:
		d.Change = StepFailed
	case after.State == Canceled || after.State == Pending:
		d.Change = StepNotRun
		return d, ran(before.State) || before.State == Cached
	case before.State == Cached && ran(after.State):
		d.Change = StepLost
	case ran(before.State) && after.State == Cached:
		d.Change = StepWon
	case max(d.Took, -d.Took) < max(leastTook, max(before.Took, after.Took)/leastShare):
		return d, false
	case d.Took > 0:
		d.Change = StepSlower
	default:
		d.Change = StepFaster
	}
	return d, true
}

// explain takes over why the step ran from what the later build found.
func (d *StepDiff) explain(after Report) {
	if d.Change != StepLost && d.Change != StepNew && d.Change != StepFailed {
		return
	}
	for _, f := range after.Findings {
		if f.Kind != CacheMiss || !slices.Contains(f.Ran, d.After.ID) {
			continue
		}
		d.Why, d.File, d.Line = f.Text, f.File, f.Line
		if first := f.Ran[0]; f.Line > 0 && first != d.After.ID {
			if i := slices.IndexFunc(after.Steps, func(s Step) bool { return s.ID == first }); i >= 0 {
				d.Behind = after.Steps[i].Text
			}
		}
		return
	}
}

func diffLayer(before, after *Layer) (LayerDiff, bool) {
	d := LayerDiff{Before: before, After: after}
	switch {
	case before == nil:
		d.Change, d.Bytes = LayerNew, after.Out
	case after == nil:
		d.Change, d.Bytes = LayerGone, -before.Out
	case before.Digest == after.Digest:
		return d, false
	case before.DiffID != "" && before.DiffID == after.DiffID:
		d.Change, d.Bytes = LayerRecompressed, after.Out-before.Out
	default:
		d.Change, d.Bytes = LayerChanged, after.Out-before.Out
	}
	return d, true
}
