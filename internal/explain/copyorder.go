package explain

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/lighter-oci/lighter/internal/engine"
	"github.com/lighter-oci/lighter/internal/report"
)

// copyOrder finds sources that are copied before the dependencies are
// installed, so that every edit installs them again.
func (g *graph) copyOrder() []report.Finding {
	var list []report.Finding
	said := map[int]bool{}
	for _, n := range g.order {
		in := g.instruction(n)
		if in.Word != "RUN" || n.at < 0 || said[in.Line] || !g.counts(n) || slices.ContainsFunc(in.Mounts, isContextMount) {
			continue
		}
		said[in.Line] = true
		for _, words := range commands(in.Script) {
			if f, ok := g.tooEarly(n, in, words); ok {
				f.Took = ran(n)
				list = append(list, f)
				break
			}
		}
	}
	return list
}

// tooEarly finds the copy that makes a command install dependencies again.
func (g *graph) tooEarly(n *node, in engine.Instruction, written []string) (report.Finding, bool) {
	words := module(written)
	for _, e := range ecosystems {
		if !e.usedBy(words) || elsewhere(in.Script, words) {
			continue
		}
		if e.mountWillDo && e.packages().mounted(in, g.surroundings(n)) || g.workspace(e) || g.installedAbove(e, n) {
			return report.Finding{}, false
		}
		at, here, ok := g.copyOf(e, n, words)
		if !ok {
			return g.sourcesAbove(e, n, words)
		}
		main, lock, dirs := g.projectAt(e, here, words)
		files := slices.Sorted(slices.Values(slices.Concat(main, lock)))
		if !g.brings(g.Outline.Stages[n.stage].Instructions[at], files, dirs, here) {
			return report.Finding{}, false
		}
		return g.reordered(n, at, e, written, files, dirs, here), true
	}
	return report.Finding{}, false
}

// installedAbove tells whether an earlier step has installed already, so that
// a later copy does not matter to it.
func (g *graph) installedAbove(e ecosystem, n *node) bool {
	for _, c := range g.chain(n.stage, n.at-1) {
		if slices.ContainsFunc(commands(c.Script), func(words []string) bool { return e.usedBy(module(words)) }) {
			return true
		}
	}
	return false
}

// copyOf finds the COPY of the stage that brought the manifests into the
// directory that a step runs in: its index, and the directory of the context
// that they come from.
func (g *graph) copyOf(e ecosystem, n *node, words []string) (at int, here string, ok bool) {
	st := g.Outline.Stages[n.stage]
	workdir := g.workdir(n.stage, n.at)
	for i := n.at - 1; i >= 0; i-- {
		c := st.Instructions[i]
		if c.Word != "COPY" && c.Word != "ADD" || c.From != "" || len(c.Sources) != 1 || strings.ContainsAny(c.Sources[0]+c.Dest, "$*?[") {
			continue
		}
		dest := c.Dest
		if !path.IsAbs(dest) {
			dest = path.Join(g.workdir(n.stage, i), dest)
		}
		if !within(workdir, dest) || isRemote(c.Sources[0]) {
			continue
		}
		here := path.Join(clean(c.Sources[0]), strings.TrimPrefix(path.Clean(workdir), path.Clean(dest)))
		if here == "" {
			here = "."
		}
		if main, _, _ := g.projectAt(e, here, words); len(main) > 0 {
			return i, here, true
		}
	}
	return 0, "", false
}

// workdir is where an instruction runs, below "/" where the base image's own
// directory is not known.
func (g *graph) workdir(stage, at int) string {
	dir := "/"
	for _, c := range g.chain(stage, at) {
		if c.Word == "WORKDIR" && path.IsAbs(c.Value) {
			dir = c.Value
		} else if c.Word == "WORKDIR" {
			dir = path.Join(dir, c.Value)
		}
	}
	return dir
}

// sourceDirs are directories that no install reads.
var sourceDirs = []string{"src", "cmd", "internal", "pkg", "public", "static", "test", "tests"}

// sourcesAbove finds the copy of a source directory above an install that does
// not need it.
func (g *graph) sourcesAbove(e ecosystem, n *node, words []string) (report.Finding, bool) {
	if !e.installs(words) {
		return report.Finding{}, false
	}
	st := g.Outline.Stages[n.stage]
	in := st.Instructions[n.at]
	for _, c := range st.Instructions[:n.at] {
		sources := contextSources(c)
		if c.Word != "COPY" || len(sources) == 0 || slices.ContainsFunc(sources, func(s string) bool { return !slices.Contains(sourceDirs, clean(s)) }) {
			continue
		}
		return report.Finding{
			Kind: report.CopyOrder, Line: c.Line, Change: []string{in.First, c.First},
			Note: fmt.Sprintf("move line %d below line %d", c.Line, in.Line),
			Text: early(c, in, words),
		}, true
	}
	return report.Finding{}, false
}

// early says what comes too early before what.
func early(c, in engine.Instruction, words []string) string {
	command := module(words)
	args := plain(command)
	command = slices.Concat(command[:1], args[:min(1, len(args))])
	return fmt.Sprintf("%s comes before %s in line %d: every edit of a source installs the dependencies again",
		short(c.Text), strings.Join(command, " "), in.Line)
}

// brings tells whether a copy has more in it than what installs need.
func (g *graph) brings(c engine.Instruction, files, dirs []string, here string) bool {
	sources := contextSources(c)
	for _, f := range g.Context {
		if fingerprintOf(f).dir() || !reads(c, sources, f.Path) {
			continue
		}
		rel := f.Path
		if here != "." {
			rel = strings.TrimPrefix(f.Path, here+"/")
		}
		top, _, _ := strings.Cut(rel, "/")
		if !slices.Contains(files, rel) && !slices.Contains(dirs, top) && !strings.HasPrefix(top, ".") && !strings.HasPrefix(top, "Dockerfile") {
			return true
		}
	}
	return false
}

// reordered is the finding with the lines that should stand there.
func (g *graph) reordered(n *node, at int, e ecosystem, words, files, dirs []string, here string) report.Finding {
	st := g.Outline.Stages[n.stage]
	c, in := st.Instructions[at], st.Instructions[n.at]
	flags := flagsOf(c)
	prefix := ""
	if here != "." {
		prefix = here + "/"
	}
	dest := c.Dest
	if rel := strings.TrimPrefix(here, clean(c.Sources[0])); rel != "" && rel != "." {
		dest = path.Join(dest, rel)
	}
	if dest == "." {
		dest = "./"
	} else if !strings.HasSuffix(dest, "/") {
		dest += "/"
	}
	var change []string
	byDir := map[string][]string{}
	var order []string
	for _, f := range files {
		d := path.Dir(f)
		if byDir[d] == nil {
			order = append(order, d)
		}
		byDir[d] = append(byDir[d], prefix+f)
	}
	for _, d := range order {
		to := dest
		if d != "." {
			to = dest + d + "/"
		}
		change = append(change, "COPY "+flags+strings.Join(byDir[d], " ")+" "+to)
	}
	for _, d := range dirs {
		change = append(change, "COPY "+flags+prefix+d+" "+dest+d)
	}
	for _, between := range st.Instructions[at+1 : n.at] {
		if slices.Contains([]string{"WORKDIR", "USER", "ENV", "ARG", "SHELL"}, between.Word) {
			change = append(change, between.First) // the install may need it
		}
	}
	install := strings.Join(words, " ")
	if !e.installs(module(words)) {
		if install = e.instead; e.wrapper {
			install = words[0] + " " + install
		}
	}
	change = append(change, "RUN "+flagsOf(in)+install, c.First)
	return report.Finding{
		Kind: report.CopyOrder, Line: c.Line, Change: change,
		Note: fmt.Sprintf("in place of line %d; what else line %d does stays below", c.Line, in.Line),
		Text: early(c, in, words),
	}
}

// flagsOf are the flags behind the word of an instruction, with a space behind
// them.
func flagsOf(in engine.Instruction) string {
	fields := strings.Fields(in.Text)
	end := 1
	for end < len(fields) && strings.HasPrefix(fields[end], "--") {
		end++
	}
	if end <= 1 {
		return ""
	}
	return strings.Join(fields[1:end], " ") + " "
}
