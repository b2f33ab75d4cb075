package project

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/ext/userfunc"
	"github.com/hashicorp/hcl/v2/hclparse"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
)

// bakeNames are the files of docker buildx bake, in its order: what a later one
// says wins.
var bakeNames = []string{"docker-bake.json", "docker-bake.hcl", "docker-bake.override.json", "docker-bake.override.hcl"}

// Target is what one target of a bake file says, by the names of its attributes,
// each entry as the flag of docker buildx build takes it: "KEY=VALUE",
// "type=registry,ref=…", "true".
type Target map[string][]string

// Text is the value of an attribute that has one, "" where it is not said.
func (t Target) Text(key string) string { return strings.Join(t[key], "") }

// Bake is a set of bake files, read as docker buildx bake reads them.
type Bake struct {
	Path    string // of the first file
	targets map[string]Target
	groups  map[string][]string
}

// bakeKind says how an attribute is read, and whether who inherits it adds to
// it or replaces it.
type bakeKind struct {
	read func(cty.Value) ([]string, error)
	adds bool
}

// bakeKeys are the attributes that a target may have.
var bakeKeys = map[string]bakeKind{
	"inherits": {read: bakeList}, "description": {read: bakeText},
	"context": {read: bakeText}, "dockerfile": {read: bakeText}, "target": {read: bakeText}, "network": {read: bakeText},
	"shm-size": {read: bakeText}, "cgroup-parent": {read: bakeText}, "call": {read: bakeText},
	"args": {bakeTable, true}, "labels": {bakeTable, true}, "contexts": {bakeTable, true}, "extra-hosts": {bakeTable, true},
	"tags": {read: bakeList}, "platforms": {read: bakeList}, "output": {read: bakeList}, "cache-from": {read: bakeList}, "cache-to": {read: bakeList},
	"no-cache-filter": {read: bakeList}, "ulimits": {read: bakeList}, "entitlements": {bakeList, true},
	"annotations": {bakeList, true}, "attest": {bakeList, true}, "secret": {bakeList, true}, "ssh": {bakeList, true},
	"no-cache": {read: bakeText}, "pull": {read: bakeText},
}

// FindBake answers the bake files of a directory, none where there are none.
func FindBake(dir string) []string {
	var found []string
	for _, name := range bakeNames {
		path := filepath.Join(dir, name)
		if info, err := os.Stat(path); err == nil && !info.IsDir() {
			found = append(found, path)
		}
	}
	return found
}

// LoadBake reads bake files. Variables take their values from the environment,
// through lookup.
func LoadBake(paths []string, lookup func(string) (string, bool)) (Bake, error) {
	b := Bake{Path: paths[0], targets: map[string]Target{}, groups: map[string][]string{}}
	scope := newScope(lookup)
	var blocks []*hcl.Block
	for _, path := range paths {
		found, diags := scope.file(path)
		if diags.HasErrors() {
			return b, bakeError(diags)
		}
		blocks = append(blocks, found...)
	}
	if diags := scope.resolveAll(); diags.HasErrors() {
		return b, bakeError(diags)
	}
	for _, block := range blocks {
		add := b.target
		if block.Type == "group" {
			add = b.group
		}
		if diags := add(scope.context, block); diags.HasErrors() {
			return b, bakeError(diags)
		}
	}
	return b, nil
}

// file parses one file, puts its variables and functions into the scope, and
// answers its targets and groups.
func (s *scope) file(path string) ([]*hcl.Block, hcl.Diagnostics) {
	data, err := readFile(path)
	if err != nil {
		return nil, hcl.Diagnostics{{Severity: hcl.DiagError, Summary: err.Error()}}
	}
	parse := hclparse.NewParser().ParseHCL
	if filepath.Ext(path) == ".json" {
		parse = hclparse.NewParser().ParseJSON
	}
	f, diags := parse(data, Shown(path))
	if diags.HasErrors() {
		return nil, diags
	}
	functions, rest, diags := userfunc.DecodeUserFunctions(f.Body, "function", func() *hcl.EvalContext { return s.context })
	if diags.HasErrors() {
		return nil, diags
	}
	maps.Copy(s.context.Functions, functions)
	content, rest, diags := rest.PartialContent(&hcl.BodySchema{Blocks: []hcl.BlockHeaderSchema{
		{Type: "variable", LabelNames: []string{"name"}}, {Type: "target", LabelNames: []string{"name"}}, {Type: "group", LabelNames: []string{"name"}},
	}})
	if diags.HasErrors() {
		return nil, diags
	}
	globals, diags := rest.JustAttributes()
	if native, ok := f.Body.(*hclsyntax.Body); ok { // whose every block is unexpected there
		diags = nil
		known := []string{"variable", "function", "target", "group"}
		for _, block := range native.Blocks {
			if !slices.Contains(known, block.Type) {
				return nil, complaint(block.TypeRange, fmt.Sprintf("%s: no such block; %s", block.Type, didYouMean(block.Type, known)))
			}
		}
	}
	if diags.HasErrors() {
		return nil, diags
	}
	for name, a := range globals {
		s.exprs[name] = a.Expr
	}
	var blocks []*hcl.Block
	for _, block := range content.Blocks {
		if block.Type != "variable" {
			blocks = append(blocks, block)
			continue
		}
		v, _, diags := block.Body.PartialContent(&hcl.BodySchema{Attributes: []hcl.AttributeSchema{{Name: "default"}}})
		if diags.HasErrors() {
			return nil, diags
		}
		name := block.Labels[0]
		s.variables[name] = true
		s.exprs[name] = hcl.StaticExpr(cty.StringVal(""), block.DefRange)
		if d := v.Attributes["default"]; d != nil {
			s.exprs[name] = d.Expr
		}
	}
	return blocks, nil
}

func (b Bake) group(ctx *hcl.EvalContext, block *hcl.Block) hcl.Diagnostics {
	attributes, diags := block.Body.JustAttributes()
	if diags.HasErrors() {
		return diags
	}
	for name, a := range attributes {
		if name != "targets" {
			continue // description
		}
		names, diags := evaluate(ctx, a, bakeList)
		if diags.HasErrors() {
			return diags
		}
		b.groups[block.Labels[0]] = names
	}
	return nil
}

// target adds what a block says, once for each combination of its matrix.
func (b Bake) target(ctx *hcl.EvalContext, block *hcl.Block) hcl.Diagnostics {
	attributes, diags := block.Body.JustAttributes()
	if diags.HasErrors() {
		return diags
	}
	contexts, diags := combine(ctx, attributes["matrix"])
	if diags.HasErrors() {
		return diags
	}
	for _, ctx := range contexts {
		name := block.Labels[0]
		if attributes["matrix"] != nil {
			if attributes["name"] == nil {
				return complaint(attributes["matrix"].Range, "a matrix wants name = …, with its axes in it")
			}
			called, diags := evaluate(ctx, attributes["name"], bakeText)
			if diags.HasErrors() {
				return diags
			}
			name = strings.Join(called, "")
			b.groups[block.Labels[0]] = append(b.groups[block.Labels[0]], name)
		}
		t := Target{}
		for key, a := range attributes {
			if key == "matrix" || key == "name" {
				continue
			}
			kind, known := bakeKeys[key]
			if !known {
				return complaint(a.NameRange, "target."+block.Labels[0]+"."+key+": lighter takes no such attribute; "+didYouMean(key, slices.Sorted(maps.Keys(bakeKeys))))
			}
			values, diags := evaluate(ctx, a, kind.read)
			if diags.HasErrors() {
				return diags
			}
			t[key] = values
		}
		b.targets[name] = merge(b.targets[name], t)
	}
	return nil
}

// merge is what from says, with what over says instead or besides.
func merge(from, over Target) Target {
	merged := maps.Clone(from)
	if merged == nil {
		merged = Target{}
	}
	for key, values := range over {
		if bakeKeys[key].adds {
			values = append(slices.Clone(merged[key]), values...)
		}
		merged[key] = values
	}
	return merged
}

// Names are the targets, for whoever has to pick one.
func (b Bake) Names() []string { return slices.Sorted(maps.Keys(b.targets)) }

// Target is one target with all that it inherits, and its name. "" is the
// default, which has to be one target. The error names those there are.
func (b Bake) Target(name string) (string, Target, error) {
	picked := b.members(name, nil)
	switch {
	case len(picked) == 0 && name == "":
		return "", nil, fmt.Errorf("%s has no target default: pick one with --variant: %s", Shown(b.Path), strings.Join(b.Names(), ", "))
	case len(picked) == 0:
		return "", nil, fmt.Errorf("%s has no target %q; %s", Shown(b.Path), name, didYouMean(name, b.Names()))
	case len(picked) > 1:
		return "", nil, fmt.Errorf("%s: the group %s has several targets, and one build makes one: pick it with --variant: %s", Shown(b.Path), cmp.Or(name, "default"), strings.Join(picked, ", "))
	}
	t, err := b.inherit(picked[0], nil)
	return picked[0], t, err
}

// members are the targets that a name stands for; seen are the groups around it.
func (b Bake) members(name string, seen []string) (all []string) {
	name = cmp.Or(name, "default")
	group, isGroup := b.groups[name]
	if !isGroup || slices.Contains(seen, name) {
		if _, ok := b.targets[name]; ok {
			return []string{name}
		}
		return nil
	}
	for _, member := range group {
		for _, target := range b.members(member, append(seen, name)) {
			if !slices.Contains(all, target) {
				all = append(all, target)
			}
		}
	}
	return all
}

func (b Bake) inherit(name string, seen []string) (Target, error) {
	own, ok := b.targets[name]
	if !ok {
		return nil, fmt.Errorf("%s: %s inherits from %q, which is no target; %s", Shown(b.Path), seen[len(seen)-1], name, didYouMean(name, b.Names()))
	}
	if slices.Contains(seen, name) {
		return nil, fmt.Errorf("%s: %s inherits from itself", Shown(b.Path), name)
	}
	all := Target{}
	for _, parent := range own["inherits"] {
		t, err := b.inherit(parent, append(seen, name))
		if err != nil {
			return nil, err
		}
		all = merge(all, t)
	}
	all = merge(all, own)
	delete(all, "inherits")
	for _, c := range all["contexts"] {
		if key, value, _ := strings.Cut(c, "="); strings.HasPrefix(value, "target:") {
			return nil, fmt.Errorf("%s: the context %s of %s is %s: lighter builds one target at a time: make it a stage of the Dockerfile", Shown(b.Path), key, name, value)
		}
	}
	return all, nil
}

// complaint is one diagnostic of our own.
func complaint(at hcl.Range, what string) hcl.Diagnostics {
	return hcl.Diagnostics{{Severity: hcl.DiagError, Summary: what, Subject: &at}}
}

// bakeError is what is wrong, one problem a line.
func bakeError(diags hcl.Diagnostics) error {
	var all []error
	for _, d := range diags {
		if d.Severity != hcl.DiagError {
			continue
		}
		what := d.Summary
		if d.Detail != "" {
			what += ": " + strings.Join(strings.Fields(d.Detail), " ")
		}
		if d.Subject == nil {
			all = append(all, errors.New(what))
			continue
		}
		all = append(all, &Problem{File: d.Subject.Filename, Line: d.Subject.Start.Line, Column: d.Subject.Start.Column, Want: what})
	}
	return errors.Join(all...)
}
