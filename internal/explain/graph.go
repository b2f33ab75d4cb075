package explain

import (
	"slices"
	"strconv"
	"strings"

	"github.com/lighter-oci/lighter/internal/engine"
	"github.com/lighter-oci/lighter/internal/event"
	"github.com/lighter-oci/lighter/internal/report"
)

// node is an instruction that became a step of the build, on one platform.
type node struct {
	place
	step report.Step
}

// place is where a node stands; at is -1 for what a base image's ONBUILD runs.
type place struct {
	platform  string
	stage, at int // in the outline
}

// graph is the outline with the steps that the build made of it.
type graph struct {
	Input
	nodes map[place]*node
	order []*node // as they started
	built map[int]bool
	froms map[string]bool // stages whose base image is a step
	paths map[string]bool // of the context, once somebody asked
}

func newGraph(in Input) *graph {
	g := &graph{Input: in, nodes: map[place]*node{}, built: map[int]bool{}, froms: map[string]bool{}}
	for _, s := range in.Report.Steps {
		if s.Kind == event.StepSource && s.Index == 1 && s.Total > 0 {
			g.froms[s.Stage] = true
		}
	}
	for _, s := range in.Report.Steps {
		if p, ok := g.place(s); ok && s.Kind == event.StepInstruction && g.nodes[p] == nil {
			n := &node{p, s}
			g.nodes[p] = n
			g.order = append(g.order, n)
			g.built[p.stage] = true
		}
	}
	return g
}

// place finds the instruction of a step. BuildKit counts an external base
// image as the first step of its stage, and a base's ONBUILD ones after it. One
// that a named context gives is in the total, and has no number.
func (g *graph) place(s report.Step) (place, bool) {
	stage := slices.IndexFunc(g.Outline.Stages, func(st engine.Stage) bool { return strings.EqualFold(st.Name, s.Stage) })
	if s.Stage == "" && len(g.Outline.Stages) == 1 {
		stage = 0
	}
	if stage < 0 || s.Total == 0 {
		return place{}, false
	}
	var steps []int
	for i, in := range g.Outline.Stages[stage].Instructions {
		if in.IsStep() {
			steps = append(steps, i)
		}
	}
	p := place{platform: s.Platform, stage: stage, at: -1}
	lead := s.Total - len(steps)
	if lead > 0 && !g.froms[s.Stage] {
		lead--
	}
	i := s.Index - 1 - lead
	if i >= len(steps) {
		return p, false
	}
	if i >= 0 {
		p.at = steps[i]
	}
	return p, true
}

func (g *graph) instruction(n *node) engine.Instruction {
	st := g.Outline.Stages[n.stage]
	if n.at < 0 {
		return st.Instruction
	}
	return st.Instructions[n.at]
}

// missed tells whether the cache did not answer.
func (n *node) missed() bool { return n.step.State == report.Run }

// last is the node at a place, or the nearest step above it in its stage and
// the stages below; nil where there is none.
func (g *graph) last(platform string, stage, at int) *node {
	for stage >= 0 {
		for i := at; i >= -1; i-- {
			if n := g.find(place{platform, stage, i}); n != nil {
				return n
			}
		}
		stage = g.Outline.Stages[stage].Parent
		if stage >= 0 {
			at = len(g.Outline.Stages[stage].Instructions) - 1
		}
	}
	return nil
}

// find takes the same platform, or any where a stage was built on another
// ("linux/amd64->arm64"): then one that missed before one that did not, because
// what may follow from a miss is no miss of its own.
func (g *graph) find(p place) *node {
	if n := g.nodes[p]; n != nil {
		return n
	}
	var found *node
	for _, n := range g.order {
		if n.stage == p.stage && n.at == p.at && (found == nil || n.missed() && !found.missed()) {
			found = n
		}
	}
	return found
}

// parents are the steps whose results a step reads.
func (g *graph) parents(n *node) []*node {
	var list []*node
	add := func(p *node) {
		if p != nil && p != n && !slices.Contains(list, p) {
			list = append(list, p)
		}
	}
	if n.at >= 0 {
		add(g.last(n.platform, n.stage, n.at-1))
	}
	for _, from := range froms(g.instruction(n)) {
		if st := g.stageOf(from, n.stage); st >= 0 {
			add(g.last(n.platform, st, len(g.Outline.Stages[st].Instructions)-1))
		}
	}
	return list
}

// froms are the stages, images and named contexts that an instruction reads.
func froms(in engine.Instruction) []string {
	var list []string
	if in.From != "" {
		list = append(list, in.From)
	}
	for _, m := range in.Mounts {
		if m.From != "" {
			list = append(list, m.From)
		}
	}
	return list
}

// stageOf resolves a --from; -1 is something else than a stage above.
func (g *graph) stageOf(from string, below int) int {
	if i, err := strconv.Atoi(from); err == nil && i >= 0 && i < below {
		return i
	}
	for i := below - 1; i >= 0; i-- {
		if strings.EqualFold(g.Outline.Stages[i].Name, from) {
			return i
		}
	}
	return -1
}

// roots are the first misses that a missed step follows from, or the step
// itself.
func (g *graph) roots(n *node, seen map[*node][]*node) []*node {
	if r, ok := seen[n]; ok {
		return r
	}
	seen[n] = nil // a Dockerfile has no circles; a broken outline must not hang
	var roots []*node
	for _, p := range g.parents(n) {
		if !p.missed() {
			continue
		}
		for _, r := range g.roots(p, seen) {
			if !slices.Contains(roots, r) {
				roots = append(roots, r)
			}
		}
	}
	if roots == nil {
		roots = []*node{n}
	}
	seen[n] = roots
	return roots
}

// chain is everything that a place in a stage rests on, from the first FROM
// down to itself; -1 is the stage's own FROM, and -2 what is below that.
func (g *graph) chain(stage, at int) []engine.Instruction { return chain(g.Outline, stage, at) }

func chain(o *engine.Outline, stage, at int) []engine.Instruction {
	st := o.Stages[stage]
	var list []engine.Instruction
	if st.Parent >= 0 && st.Parent < stage {
		list = chain(o, st.Parent, len(o.Stages[st.Parent].Instructions)-1)
	}
	if at < -1 {
		return list
	}
	list = append(list, st.Instruction)
	return append(list, st.Instructions[:at+1]...)
}

// foundation is the stage at the bottom of a stage's chain, whose FROM names
// no stage.
func (g *graph) foundation(stage int) engine.Stage {
	for g.Outline.Stages[stage].Parent >= 0 {
		stage = g.Outline.Stages[stage].Parent
	}
	return g.Outline.Stages[stage]
}
