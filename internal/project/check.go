package project

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/lighter-oci/lighter/internal/codec"
	"github.com/lighter-oci/lighter/internal/image"
)

// check looks at what only several keys together can have wrong, and puts the
// combinations of a matrix in its place.
func (r *reader) check(p *Project) {
	if _, tag := cutTag(p.Image); tag != "" && len(p.Tags) > 0 {
		r.problem(r.places["tags"], "tags", "image has the tag %s already: drop one of the two", tag)
	}
	if p.Image == "" {
		r.needImage(p)
	}
	r.checkCompressions(p.Compression, p.AddCompression)
	if keys := p.Cache.Keys(); len(keys) > 0 && p.Cache.Mounts == "" {
		key, _, _ := strings.Cut("cache."+keys[0], "=")
		r.problem(r.places[key], key, "is about cache mounts: add mounts = \"auto\", or where they are kept")
	}
	r.checkTool(p.Toolchain)
	for id, s := range p.Secrets {
		if (s.File == "") == (s.Env == "") {
			at := join("secrets", id)
			r.problem(r.places[at], at, `want one source: { env = "NAME" } or { file = "PATH" }`)
		}
	}
	p.Variants = r.expand(p.Variants)
}

// needImage names what makes no sense without a name.
func (r *reader) needImage(p *Project) {
	for _, k := range []struct {
		key   string
		needs bool
	}{
		{"tags", len(p.Tags) > 0},
		{"cache", p.Cache.Layers == "auto" || p.Cache.Mounts == "auto"},
	} {
		if k.needs {
			r.problem(r.places[k.key], k.key, "wants to know the image: add image = \"REGISTRY/NAME\"")
		}
	}
}

// checkCompressions refuses what cannot stand in one index.
func (r *reader) checkCompressions(first string, added []string) {
	if len(added) == 0 {
		return
	}
	if first == "" {
		first = codec.Compression{}.String()
	}
	var all []codec.Compression
	for _, s := range append([]string{first}, added...) {
		c, err := codec.Parse(s)
		if err != nil {
			return // which its key has said
		}
		all = append(all, c)
	}
	if _, err := image.Variants(all...); err != nil {
		r.problem(r.places["add-compression"], "add-compression", "%s", err)
	}
}

func (r *reader) checkTool(t Toolchain) {
	at := r.places["toolchain"]
	switch {
	case len(t.Command) > 0 && t.Use != "":
		r.problem(r.places["toolchain.command"], "toolchain.command", "there is use = %q already: want one of the two", t.Use)
	case len(t.Command) > 0 && t.Output == "":
		r.problem(at, "toolchain.output", "missing; want the path of what the command makes")
	case t.Output != "" && len(t.Command) == 0:
		r.problem(r.places["toolchain.output"], "toolchain.output", "only a command = … has one: a known toolchain says itself where its output is")
	case len(t.Flags) > 0 && len(t.Command) > 0:
		r.problem(r.places["toolchain.flags"], "toolchain.flags", "write them into command")
	case t.Incremental && len(t.Command) > 0:
		r.problem(r.places["toolchain.incremental"], "toolchain.incremental", "only cargo takes it: write what your command has of that kind into command or env")
	case t.Incremental && !slices.Contains([]string{"", "cargo", "cargo-zigbuild", "rust"}, t.Use):
		r.problem(r.places["toolchain.incremental"], "toolchain.incremental", "only cargo takes it, and what compiles here is %s: leave it out", t.Use)
	}
}

// variantName is what a tag may begin with.
var variantName = regexp.MustCompile(`\A[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}\z`)

// combinationsMost bounds a matrix: nobody ships more variants than that.
const combinationsMost = 256

// expand puts a variant with a matrix in the place of each combination.
func (r *reader) expand(variants map[string]Variant) map[string]Variant {
	all, taken := map[string]Variant{}, map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(variants)) {
		v := variants[name]
		at := join("variants", name)
		combinations := r.combinations(at, v.Matrix)
		for _, axis := range slices.Sorted(maps.Keys(v.Matrix)) {
			if !strings.Contains(name, "{"+axis+"}") {
				r.problem(r.places[at], at, `want {%s} in the name, as [variants."%s-{%s}"]: each combination is a variant of its own`, axis, name, axis)
				combinations = nil
			}
		}
		for _, c := range combinations {
			one, called := v.fill(c), c.Replace(name)
			if _, twice := all[called]; twice {
				r.problem(r.places[at], at, "%s is a variant already", called)
			}
			if !variantName.MatchString(called) {
				r.problem(r.places[at], at, "%q: want a name that can begin a tag: letters, digits, _ . -", called)
			}
			if why := shapes["base"].wrong(one.Base); one.Base != "" && why != "" {
				r.problem(r.places[at+".base"], at+".base", "%s", why)
			}
			all[called] = one
			r.checkTags(at, called, one.Tags, taken)
		}
	}
	if len(all) == 0 {
		return nil
	}
	return all
}

// combinations are the replacers of each combination of the axes' values; one
// that replaces nothing without axes.
func (r *reader) combinations(at string, matrix map[string][]string) []*strings.Replacer {
	pairs := [][]string{nil}
	for _, axis := range slices.Sorted(maps.Keys(matrix)) {
		key := join(at+".matrix", axis)
		if slices.Contains(placeholderNames, axis) || !regexp.MustCompile(`\A[A-Za-z0-9_-]+\z`).MatchString(axis) {
			r.problem(r.places[key], key, "want another name for the axis, of letters and digits; %s are taken", strings.Join(placeholderNames, ", "))
		}
		if len(matrix[axis]) == 0 {
			r.problem(r.places[key], key, "want at least one value")
		}
		var next [][]string
		for _, p := range pairs {
			for _, value := range matrix[axis] {
				next = append(next, append(slices.Clone(p), "{"+axis+"}", value))
			}
		}
		if pairs = next; len(pairs) > combinationsMost {
			r.problem(r.places[key], key, "over %d combinations", combinationsMost)
			return nil
		}
	}
	var all []*strings.Replacer
	for _, p := range pairs {
		all = append(all, strings.NewReplacer(p...))
	}
	return all
}

// checkTags refuses what is no tag, and two variants that would be one.
func (r *reader) checkTags(at, variant string, tags []string, taken map[string]string) {
	for i, tag := range tags {
		key := fmt.Sprintf("%s.tags[%d]", at, i)
		full := strings.ReplaceAll(tag, "{variant}", variant)
		if why := shapes["tag"].wrong(full); why != "" {
			r.problem(r.places[key], key, "%s", why)
			continue
		}
		if other, ok := taken[full]; ok && other != variant {
			r.problem(r.places[key], key, "%s is a tag of the variant %s already", full, other)
		}
		taken[full] = variant
	}
}
