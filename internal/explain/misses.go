package explain

import (
	"cmp"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/lighter-oci/lighter/internal/engine"
	"github.com/lighter-oci/lighter/internal/report"
)

// misses explains the first miss of every chain; what follows from it is
// counted only. Misses for one reason that concerns the whole build are one
// finding, and so is a line that missed on several platforms.
func (g *graph) misses() []report.Finding {
	behind := map[*node][]*node{}
	var roots []*node
	seen := map[*node][]*node{}
	for _, n := range g.order {
		if !n.missed() {
			continue
		}
		for _, r := range g.roots(n, seen) {
			if behind[r] == nil {
				roots = append(roots, r)
			}
			behind[r] = append(behind[r], n)
		}
	}
	type line struct {
		line int
		why  report.MissReason
		text string
	}
	var order []line
	found := map[line]*report.Finding{}
	ran := map[line][]*node{}
	for _, r := range roots {
		f := g.why(r)
		key := line{f.Line, f.Reason, f.Text}
		if found[key] == nil {
			found[key] = &f
			order = append(order, key)
		}
		for _, n := range behind[r] {
			if !slices.Contains(ran[key], n) {
				ran[key] = append(ran[key], n)
			}
		}
	}
	var list []report.Finding
	for _, key := range order {
		f := found[key]
		for _, n := range ran[key] {
			f.Steps++
			f.Took += n.step.Took
			f.Ran = append(f.Ran, n.step.ID)
		}
		if !g.All && f.Took < slowStep {
			continue
		}
		f.Text += tail(*f)
		list = append(list, *f)
	}
	return list
}

// tail is what a miss cost.
func tail(f report.Finding) string {
	switch {
	case f.Line == 0:
		return fmt.Sprintf(" (%s, %s)", report.Plural(f.Steps, "step"), f.Took)
	case f.Steps == 1:
		return fmt.Sprintf(" (%s)", f.Took)
	}
	return fmt.Sprintf("; %s after it ran again, too (%s in all)", report.Plural(f.Steps-1, "step"), f.Took)
}

// why finds the first thing in the chain of a step that is not as it was.
func (g *graph) why(n *node) report.Finding {
	in := g.instruction(n)
	st := g.Outline.Stages[n.stage]
	f := report.Finding{Kind: report.CacheMiss, Line: in.Line}
	switch {
	case g.Request.NoCache:
		f.Line, f.Reason = 0, report.MissNoCache
		f.Text = "every step ran: --no-cache was asked for"
		f.Change, f.ChangeIn = []string{"lighter build without --no-cache"}, commandLine
		return f
	case slices.Contains(g.Request.NoCacheFilter, st.Name):
		f.Line, f.Reason = st.Line, report.MissNoCache
		f.Text = "stage " + st.Name + " ran: --no-cache-filter asked for it"
		f.Change, f.ChangeIn = []string{"lighter build without --no-cache-filter " + st.Name}, commandLine
		return f
	case g.Before == nil:
		return g.firstBuild(f)
	}
	for _, reason := range []func(*node, engine.Instruction, *report.Finding) bool{
		g.baseFirst, g.ownText, g.ownFiles, g.changedArgs, g.settings, g.baseLater, g.unwatched, g.moved,
	} {
		if reason(n, in, &f) {
			return f
		}
	}
	f.Reason = report.MissPruned
	f.Text = short(in.Text) + " ran again, although nothing that it depends on has changed: its cache was dropped"
	f.Change, f.ChangeIn = []string{"lighter cache ls"}, commandLine
	f.Note = "--cache-limit SIZE keeps more; --cache-to and --cache-from keep it in a registry"
	return f
}

// commandLine is where a change goes that is no line of a file.
const commandLine = "command line"

func (g *graph) firstBuild(f report.Finding) report.Finding {
	f.Line, f.Reason = 0, report.MissFirstBuild
	if len(g.Request.CacheFrom) > 0 {
		f.Text = "no earlier build of this is known here, and the caches that were asked did not have these steps"
		return f
	}
	f.Text = "no earlier build of this is known here, so that there was nothing to reuse"
	f.Change = []string{"lighter build --cache-to type=registry,ref=IMAGE:buildcache,mode=max --cache-from type=registry,ref=IMAGE:buildcache"}
	f.ChangeIn = commandLine
	f.Note = "machines that start empty then begin with the steps of the one before"
	return f
}

// first tells whether no step lies between a node and its base image.
func (g *graph) first(n *node) bool { return g.last(n.platform, n.stage, n.at-1) == nil }

// baseFirst is a base that changed, right above the step.
func (g *graph) baseFirst(n *node, in engine.Instruction, f *report.Finding) bool {
	return g.first(n) && g.baseLater(n, in, f)
}

// baseLater is a base that changed anywhere below the step.
func (g *graph) baseLater(n *node, _ engine.Instruction, f *report.Finding) bool {
	base := g.foundation(n.stage)
	then := g.Before.stage(base.Name)
	if then == nil {
		return false
	}
	from := "FROM " + base.Base
	if then.Base != g.Before.hash(base.Base) {
		f.Line, f.Reason, f.Text = base.Line, report.MissBase, from+" names another image than in the build before"
		return true
	}
	key := baseKey(base.Name, n.platform)
	was, is := g.Before.Bases[key], bases(g.Input)[key]
	if was == "" || is == "" || was == is {
		return false
	}
	f.Line, f.Reason = base.Line, report.MissBase
	f.Text = fmt.Sprintf("%s is another image now: %s, not %s", from, report.ShortDigest(is), report.ShortDigest(was))
	name, _, _ := strings.Cut(base.Base, "@")
	if pinned := strings.Replace(base.First, base.Base, name+"@"+is, 1); pinned != base.First {
		f.Change = []string{pinned}
	}
	f.Note = "a digest holds the base where it is, until you change it: " + name + "@" + is
	return true
}

// ownText is an instruction whose words changed, or that was not there.
func (g *graph) ownText(n *node, in engine.Instruction, f *report.Finding) bool {
	st := g.Outline.Stages[n.stage]
	then := g.Before.stage(st.Name)
	if then == nil {
		f.Line, f.Reason = st.Line, report.MissInstruction
		f.Text = "stage " + st.Name + " was not in the build before"
		return true
	}
	if slices.Contains(then.Chain, g.Before.hash(in.Text)) {
		return false
	}
	f.Reason = report.MissInstruction
	f.Text = short(in.Text) + " is new or was edited"
	return true
}

// ownFiles is what the step reads of the context.
func (g *graph) ownFiles(n *node, in engine.Instruction, f *report.Finding) bool {
	sources := contextSources(in)
	if len(sources) == 0 || g.Context == nil {
		return false
	}
	changed := g.changes(func(p string) bool { return reads(in, sources, p) })
	if len(changed) == 0 {
		return false
	}
	f.Reason = report.MissFiles
	f.Text = short(in.Text) + " ran again: " + listed(changed)
	if g.ignorable(changed, sources, f) {
		f.ChangeIn = g.Outline.Ignore
	}
	f.Files = changed[:min(len(changed), mostFiles)]
	f.MoreFiles = len(changed) - len(f.Files)
	return true
}

// mostFiles is how many changed files a finding carries; a line names three.
const mostFiles = 20

// listed is "main.go modified, a.go and b.go added, and 12 more".
func listed(changed []report.ChangedFile) string {
	var parts []string
	named := changed[:min(len(changed), 3)]
	for i := 0; i < len(named); {
		j := i
		var names []string
		for ; j < len(named) && named[j].Change == named[i].Change; j++ {
			names = append(names, named[j].Path)
		}
		parts = append(parts, strings.Join(names, ", ")+" "+named[i].Change)
		i = j
	}
	if more := len(changed) - len(named); more > 0 {
		parts = append(parts, fmt.Sprintf("and %d more", more))
	}
	return strings.Join(parts, ", ")
}

// changes are the files that differ, modified ones first. A directory counts
// only where no file in it says the same.
func (g *graph) changes(reads func(string) bool) []report.ChangedFile {
	var list, dirs []report.ChangedFile
	add := func(p, change string, dir bool) {
		c := report.ChangedFile{Path: p, Change: change}
		if dir {
			dirs = append(dirs, c)
		} else {
			list = append(list, c)
		}
	}
	before := g.Before.cursor()
	removed := func(until string) {
		for {
			p, was, ok := before.next()
			if !ok || until != "" && p >= until {
				return
			}
			if reads(p) {
				add(p, "removed", was.dir())
			}
			before.pass()
		}
	}
	for _, f := range g.Context {
		removed(f.Path)
		is := fingerprintOf(f)
		_, was, known := before.at(f.Path)
		if known {
			before.pass()
		}
		switch {
		case known && is.same(was) || !reads(f.Path):
		case known:
			add(f.Path, "modified", is.dir())
		default:
			add(f.Path, "added", is.dir())
		}
	}
	removed("")
	if len(list) == 0 {
		list = dirs
	}
	rank := []string{"modified", "added", "removed"}
	slices.SortFunc(list, func(a, b report.ChangedFile) int {
		return cmp.Or(cmp.Compare(slices.Index(rank, a.Change), slices.Index(rank, b.Change)), strings.Compare(a.Path, b.Path))
	})
	return list
}

// ignorable proposes lines for the ignore file where nothing changed but what
// hardly any build reads, and no instruction names it.
func (g *graph) ignorable(changed []report.ChangedFile, sources []string, f *report.Finding) bool {
	var lines []string
	for _, c := range changed {
		i := slices.IndexFunc(seldomRead, func(pattern string) bool {
			top, _, _ := strings.Cut(c.Path, "/")
			ok, _ := path.Match(pattern, top)
			return ok
		})
		if i < 0 || !slices.ContainsFunc(sources, func(s string) bool { return clean(s) == "" }) {
			return false
		}
		if !slices.Contains(lines, seldomRead[i]) {
			lines = append(lines, seldomRead[i])
		}
	}
	f.Change = lines
	return true
}

// seldomRead are files at the top of a context that people edit and that no
// build reads.
var seldomRead = []string{
	"Dockerfile*", ".dockerignore", "docker-compose*.yml", "docker-compose*.yaml", "compose*.yml", "compose*.yaml",
	".git", ".github", ".gitlab-ci.yml", ".gitignore", ".editorconfig", ".vscode", ".idea",
	"CHANGELOG*", "CONTRIBUTING*", "LICENSE*",
}
