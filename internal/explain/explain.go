// Package explain owns why a build was slow and which line to change: steps
// that missed the cache and the first reason in their chain, package managers
// without a cache mount, sources that are copied before the dependencies, files
// that an ignore file should hold back, base layers of another codec.
//
// It looks at what others read (the Dockerfile's outline, the context as it was
// sent, the report) and at a Record of the build before, which a Store keeps.
// It never builds, prints, or opens a file of the context. Where it is not
// sure, it says nothing: a wrong finding is worse than none.
package explain

import (
	"cmp"
	"slices"
	"time"

	"github.com/lighter-oci/lighter/internal/engine"
	"github.com/lighter-oci/lighter/internal/event"
	"github.com/lighter-oci/lighter/internal/report"
)

// Input is one build that succeeded.
type Input struct {
	Request     engine.Request
	Outline     *engine.Outline
	Context     []engine.ContextFile
	BaseDiffIDs []string // layers that came with base images
	Report      report.Report
	Before      *Record // of the build before; nil where none is known
	// All asks for what cost nothing in this build, too: what a cached step
	// would cost when it runs.
	All bool
}

// slowBuild is how long steps have to run for a build to be worth an
// explanation that nobody asked for.
const slowBuild = 10 * time.Second

// slowStep is below what anyone would change a line for.
const slowStep = report.Seconds(time.Second)

// Slow tells whether the steps of a build that ran took long.
func Slow(r report.Report) bool {
	var sum time.Duration
	for _, s := range r.Steps {
		if s.Kind == event.StepInstruction && s.State == report.Run {
			sum += s.Took.Duration()
		}
	}
	return sum >= slowBuild
}

// Findings says why the build was slow: misses of the cache first, those that
// cost the most before others, then the rest by kind and line.
func Findings(in Input) []report.Finding {
	list := []report.Finding{}
	if in.Outline == nil {
		return list
	}
	g := newGraph(in)
	for _, find := range []func() []report.Finding{g.misses, g.cacheMounts, g.copyOrder, g.sentFiles, g.baseLayers} {
		found := find()
		slices.SortStableFunc(found, func(a, b report.Finding) int {
			return cmp.Or(cmp.Compare(b.Took, a.Took), cmp.Compare(b.Bytes, a.Bytes), cmp.Compare(a.Line, b.Line))
		})
		list = append(list, found...)
	}
	for i := range list {
		if list[i].Change == nil {
			list[i].Change = []string{}
		}
		if list[i].Line > 0 {
			list[i].File = in.Outline.File
		}
	}
	return list
}

// short is an instruction as a line has room for it.
func short(text string) string { return report.Middle(report.ShortText(text), 48) }
