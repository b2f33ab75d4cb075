package explain

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/lighter-oci/lighter/internal/engine"
	"github.com/lighter-oci/lighter/internal/report"
)

// changedArgs is a build argument, or a flag that the engine makes part of
// every RUN. A RUN sees each ARG above it, whether it uses it or not; other
// instructions change with those only that they name.
func (g *graph) changedArgs(n *node, in engine.Instruction, f *report.Finding) bool {
	now, then := arguments(g.Request), g.Before.Args
	differs := func(name string) bool {
		value, set := now[name]
		was, wasSet := then[name]
		return set != wasSet || set && g.Before.hash(value) != was
	}
	chain := g.chain(n.stage, n.at)
	for i, c := range chain {
		if c.Word != "ARG" {
			continue
		}
		for _, name := range c.Names {
			if slices.Contains(proxyArgs, strings.ToLower(name)) || !differs(name) {
				continue
			}
			if in.Word != "RUN" && !mentions(in.Text, name) {
				continue
			}
			f.Reason = report.MissArgument
			f.Text = fmt.Sprintf("%s ran again: build argument %s has another value", short(in.Text), name)
			g.laterArg(n, in, chain[i], name, f)
			return true
		}
	}
	if in.Word != "RUN" {
		return false
	}
	for _, name := range slices.Sorted(maps.Keys(merged(now, then))) {
		if strings.HasPrefix(name, "--") && !strings.HasPrefix(name, namedContext) && differs(name) {
			f.Reason = report.MissArgument
			f.Text = fmt.Sprintf("%s ran again: %s has another value", short(in.Text), name)
			return true
		}
	}
	return false
}

func merged(a, b map[string]string) map[string]string {
	out := maps.Clone(a)
	maps.Copy(out, b)
	return out
}

// proxyArgs are arguments that the engine hands to steps without making them
// part of their cache keys.
var proxyArgs = []string{"http_proxy", "https_proxy", "ftp_proxy", "no_proxy", "all_proxy"}

// laterArg proposes to declare an argument where it is used first.
func (g *graph) laterArg(n *node, in, arg engine.Instruction, name string, f *report.Finding) {
	if mentions(in.Text, name) || len(arg.Names) != 1 {
		return
	}
	for _, c := range g.Outline.Stages[n.stage].Instructions[n.at+1:] {
		if mentions(c.Text, name) {
			f.Change = []string{arg.First, c.First}
			f.Note = fmt.Sprintf("move line %d there, above line %d, the first that uses it", arg.Line, c.Line)
			return
		}
	}
}

// mentions tells whether a text uses a variable.
func mentions(text, name string) bool {
	return regexp.MustCompile(`\$(\{[#!]?)?` + regexp.QuoteMeta(name) + `\b`).MatchString(text)
}

// settings is an ENV, ARG, USER or SHELL that changed above a RUN; other
// instructions change with those only that they name.
func (g *graph) settings(n *node, in engine.Instruction, f *report.Finding) bool {
	then := g.Before.stage(g.Outline.Stages[n.stage].Name)
	for _, c := range slices.Backward(g.chain(n.stage, n.at-1)) {
		switch c.Word {
		case "ENV", "ARG", "USER", "SHELL":
		default:
			continue
		}
		named := slices.ContainsFunc(slices.Collect(maps.Keys(c.Env)), func(name string) bool { return mentions(in.Text, name) })
		if slices.Contains(then.Chain, g.Before.hash(c.Text)) || in.Word != "RUN" && !named {
			continue
		}
		f.Line, f.Reason = c.Line, report.MissInstruction
		f.Text = fmt.Sprintf("%s is new or was edited, and %s depends on it", short(c.Text), short(in.Text))
		return true
	}
	return false
}

// unwatched is a source that nobody looked into: a named context, an image
// that a --from names, what an ADD fetches.
func (g *graph) unwatched(n *node, in engine.Instruction, f *report.Finding) bool {
	base := g.foundation(n.stage)
	names := froms(in)
	if g.first(n) {
		names = append(names, base.Base)
	}
	for _, name := range names {
		if _, ok := g.Request.NamedContexts[name]; ok {
			f.Reason = report.MissContext
			f.Text = fmt.Sprintf("%s ran again: it reads the build context %s, which may have changed", short(in.Text), name)
			return true
		}
		if name != base.Base && g.stageOf(name, n.stage) < 0 {
			f.Reason = report.MissContext
			f.Text = fmt.Sprintf("%s ran again: it reads the image %s, which may have changed", short(in.Text), name)
			return true
		}
	}
	for _, s := range in.Sources {
		if in.From == "" && isRemote(s) {
			f.Reason = report.MissContext
			f.Text = fmt.Sprintf("%s ran again: what it fetches may have changed", short(in.Text))
			return true
		}
	}
	return false
}

// moved is a chain of the same words in another order, or without some of them.
func (g *graph) moved(n *node, in engine.Instruction, f *report.Finding) bool {
	then := g.Before.stage(g.Outline.Stages[n.stage].Name)
	chain := g.chain(n.stage, n.at)
	for i, c := range chain {
		if i < len(then.Chain) && then.Chain[i] == g.Before.hash(c.Text) {
			continue
		}
		f.Reason = report.MissInstruction
		f.Text = short(in.Text) + " ran again: instructions above it were edited, moved or removed"
		return true
	}
	return false
}
