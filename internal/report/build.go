package report

import (
	"cmp"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/lighter-oci/lighter/internal/event"
)

// Build folds the events of one build into a Report, one at a time. The zero
// value is ready; the exported fields may be set at any time before Report.
// A Build is not safe for concurrent use.
type Build struct {
	// Stages are the names of the Dockerfile's stages in its order, as far as
	// the caller knows them ("stage-1" for one without a name). Stages of
	// which no event speaks are then reported as never run; name only stages
	// that would have a step, that is a RUN, COPY, ADD, WORKDIR or a FROM that
	// pulls.
	Stages []string
	// Layers are the digests of the image's layers in its order. Only these
	// become rows then; blobs made for something else do not.
	Layers []string
	// Proofs, where set, take the place of Layers and add verdicts: of one place,
	// one for each variant of the image.
	Proofs []Proof

	first, last time.Time // of the events
	build       string
	result      *event.Result
	vertices    map[string]*vertex
	order       []*vertex // by appearance
	turns       int       // vertices that started
	moved       map[moveKey]int64
	layers      map[string]*Layer
	layerOrder  []string
	mounts      []event.Mount
	warnings    []event.Warning
	warned      map[warnKey]bool
}

type warnKey struct {
	short, file, url string
	line             int
}

// Of is the report of a whole build.
func Of(events iter.Seq[event.Event]) Report {
	var b Build
	for e := range events {
		b.Add(e)
	}
	return b.Report()
}

// Add takes in the next event.
func (b *Build) Add(e event.Event) {
	if b.vertices == nil {
		b.vertices = map[string]*vertex{}
		b.moved = map[moveKey]int64{}
		b.layers = map[string]*Layer{}
		b.warned = map[warnKey]bool{}
		b.first = e.Time
	}
	if b.result == nil && e.Time.After(b.last) {
		b.last = e.Time // what comes behind the result is no part of the build's time
	}
	keep(&b.build, e.Build)
	switch {
	case e.Step != nil:
		v := b.vertex(e.Step.ID)
		v.add(*e.Step)
		if v.turn == 0 && v.Started != nil {
			b.turns++
			v.turn = b.turns
		}
	case e.Progress != nil:
		b.progress(*e.Progress)
	case e.Layer != nil:
		b.layer(*e.Layer)
	case e.Mount != nil:
		b.mounts = append(b.mounts, *e.Mount)
	case e.Warning != nil:
		// One check speaks once per platform.
		w := *e.Warning
		if key := (warnKey{w.Short, w.File, w.URL, w.Line}); !b.warned[key] {
			b.warned[key] = true
			b.warnings = append(b.warnings, w)
		}
	case e.Result != nil:
		b.result = e.Result
	}
}

func (b *Build) vertex(id string) *vertex {
	v := b.vertices[id]
	if v == nil {
		v = &vertex{spans: map[int64]span{}}
		b.vertices[id] = v
		b.order = append(b.order, v)
	}
	return v
}

// moveKey is one blob or stream on one way.
type moveKey struct {
	way  way
	what string
}

type way int

const (
	wayContext way = iota
	wayPulled
	wayPushed
	wayLoaded
	wayWritten
	wayMounts // beside what Mount events count
)

// progress counts bytes by BuildKit's status IDs, see event.Progress.
func (b *Build) progress(p event.Progress) {
	key := moveKey{what: p.Step + "\x00" + p.ID}
	switch {
	case strings.Contains(p.ID, "copying files"):
		key.way = wayWritten
	case strings.HasPrefix(p.ID, "transferring "+event.MountAgent):
		key.way = wayMounts
	case strings.HasPrefix(p.ID, "transferring "):
		key.way = wayContext
	case strings.HasPrefix(p.ID, "sha256:"), strings.HasPrefix(p.ID, "sha512:"):
		if p.Started != nil && p.Completed != nil && !p.Completed.After(*p.Started) {
			return // the blob was there before anyone asked: nothing travelled
		}
		key = moveKey{wayPulled, p.ID} // several steps watch one download
	default:
		return // a push, which Layer events count, or no bytes at all
	}
	b.moved[key] = max(b.moved[key], p.Current)
}

func (b *Build) layer(e event.Layer) {
	l := b.layers[e.Digest]
	if l == nil {
		l = &Layer{Digest: e.Digest}
		b.layers[e.Digest] = l
		b.layerOrder = append(b.layerOrder, e.Digest)
	}
	l.add(e)
	way, ok := map[event.LayerAction]way{event.LayerPushed: wayPushed, event.LayerLoaded: wayLoaded, event.LayerWritten: wayWritten}[e.Action]
	if ok {
		key := moveKey{way, e.Where + "\x00" + e.Digest}
		b.moved[key] = max(b.moved[key], e.Out)
	}
}

// Report is what the events so far say. It may be asked for at any time, and
// again after more events.
func (b *Build) Report() Report {
	steps := b.steps()
	stages, overlaps := b.stages(steps)
	r := Report{
		Steps:    make([]Step, 0, len(steps)),
		Stages:   stages,
		Overlaps: overlaps,
		Path:     b.path(steps),
		Layers:   b.rows(),
		Proofs:   []Proof{},
		Mounts:   append([]event.Mount{}, b.mounts...),
		Warnings: append([]event.Warning{}, b.warnings...),
		Findings: []Finding{},
	}
	for _, g := range steps {
		r.Steps = append(r.Steps, g.Step)
	}
	for _, p := range b.Proofs {
		p.Layers = append([]Proven{}, p.Layers...)
		r.Proofs = append(r.Proofs, p)
	}
	r.Summary = Summary{
		Build:   b.build,
		Names:   []string{},
		Started: b.first,
		Took:    Seconds(b.last.Sub(b.first)),
		Steps:   count(r.Steps),
		Slowest: slowest(r.Steps),
		Moved:   b.movedBytes(),
		Image:   imageBytes(r.Layers),
	}
	if b.result != nil {
		r.Summary.Error = b.result.Error
		r.Summary.Digest = b.result.Digest
		r.Summary.Names = append(r.Summary.Names, b.result.Names...)
	}
	return r
}

// Interrupt makes of what runs in the report of a build whose process is gone what
// was stopped, and says why.
func (r *Report) Interrupt(why string) {
	for i := range r.Steps {
		if s := &r.Steps[i]; s.State == Running {
			s.State, s.Error = Canceled, why
		}
	}
	r.Summary.Steps = count(r.Steps)
	if r.Summary.Error == "" {
		r.Summary.Error = why
	}
}

// rows is the layer table: in the order of the proofs, of Layers, or of
// appearance.
func (b *Build) rows() []Layer {
	rows := []Layer{}
	row := func(digest string) *Layer {
		l := Layer{Digest: digest}
		if have := b.layers[digest]; have != nil {
			l = *have
		}
		rows = append(rows, l)
		return &rows[len(rows)-1]
	}
	switch {
	case b.Proofs != nil:
		for _, proof := range b.Proofs {
			for _, p := range proof.Layers {
				row(p.Digest).prove(p)
			}
		}
	case b.Layers != nil:
		for _, d := range b.Layers {
			row(d)
		}
	default:
		for _, d := range b.layerOrder {
			row(d)
		}
		// Engines push configs beside layers; a blob of which nothing but its
		// journey is known is one, unless that holds for all.
		known := func(l Layer) bool { return l.Codec != "" || l.DiffID != "" || l.Made != "" }
		if slices.ContainsFunc(rows, known) {
			rows = slices.DeleteFunc(rows, func(l Layer) bool { return !known(l) })
		}
	}
	for i := range rows {
		rows[i].rates()
	}
	return rows
}

func (b *Build) movedBytes() Moved {
	var m Moved
	for key, n := range b.moved {
		switch key.way {
		case wayContext:
			m.Context += n
		case wayPulled:
			m.Pulled += n
		case wayPushed:
			m.Pushed += n
		case wayLoaded:
			m.Loaded += n
		case wayWritten:
			m.Written += n
		case wayMounts:
			m.Mounts += n
		}
		m.Total += n
	}
	for _, mount := range b.mounts {
		m.Mounts += mount.Moved
		m.Total += mount.Moved
	}
	return m
}

func imageBytes(layers []Layer) Image {
	var i Image
	seen := map[string]bool{}
	for _, l := range layers {
		if seen[l.Digest] {
			continue
		}
		seen[l.Digest] = true
		i.Total += l.Out
		if l.Made == event.LayerCompressed || l.Made == event.LayerConverted {
			i.Made += l.Out
		}
		switch l.Sent {
		case event.LayerPushed:
			i.Pushed += l.Out
		case event.LayerMounted, event.LayerExists:
			i.Kept += l.Out
		}
	}
	return i
}

func count(steps []Step) StepCount {
	var c StepCount
	n := map[State]*int{Pending: &c.Pending, Running: &c.Running, Cached: &c.Cached, Run: &c.Run, Failed: &c.Failed, Canceled: &c.Canceled}
	for _, s := range steps {
		if s.Kind == event.StepInstruction {
			c.Total++
			*n[s.State]++
		}
	}
	return c
}

func slowest(steps []Step) *Step {
	if len(steps) == 0 {
		return nil
	}
	s := slices.MaxFunc(steps, func(a, b Step) int { return cmp.Compare(a.Took, b.Took) })
	if s.Took == 0 {
		return nil
	}
	return &s
}
