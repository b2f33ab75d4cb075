package project

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// placeholderNames are what is filled in by the project itself.
var placeholderNames = []string{"version", "major", "minor", "patch", "variant"}

// fill is the variant with the axes of one combination filled in.
func (v Variant) fill(axes *strings.Replacer) Variant {
	v.Target, v.Base = axes.Replace(v.Target), axes.Replace(v.Base)
	v.Tags, v.Features, v.Binaries = each(v.Tags, axes), each(v.Features, axes), each(v.Binaries, axes)
	v.Args, v.Contexts = eachValue(v.Args, axes), eachValue(v.Contexts, axes)
	v.Matrix = nil
	return v
}

func each(list []string, with *strings.Replacer) []string {
	list = slices.Clone(list)
	for i := range list {
		list[i] = with.Replace(list[i])
	}
	return list
}

func eachValue(m map[string]string, with *strings.Replacer) map[string]string {
	m = maps.Clone(m)
	for k := range m {
		m[k] = with.Replace(m[k])
	}
	return m
}

// Variant is the project as one of its variants, "" for none, with all that
// depends on the variant's name filled in. The error names the variants there
// are.
func (p Project) Variant(name string) (Project, error) {
	v, ok := p.Variants[name]
	if name != "" && !ok {
		return p, fmt.Errorf("%s has no variant %q; %s", Shown(p.Path), name, didYouMean(name, slices.Sorted(maps.Keys(p.Variants))))
	}
	p.Name, p.Tags = name, p.tagsOf(name, v)
	p.Target, p.Base = cmp.Or(v.Target, p.Target), cmp.Or(v.Base, p.Base)
	if v.Features != nil {
		p.Features = v.Features
	}
	if v.Binaries != nil {
		p.Binaries = v.Binaries
	}
	p.NoDefaults = p.NoDefaults || v.NoDefaults
	with := strings.NewReplacer("{variant}", name)
	p.Args = eachValue(both(p.Args, v.Args), with)
	p.Contexts = eachValue(both(p.Contexts, v.Contexts), with)
	p.Labels, p.Annotations = eachValue(p.Labels, with), eachValue(p.Annotations, with)
	p.Variants = nil
	return p, nil
}

// both is what two maps have, of a key in both what the second says.
func both(first, second map[string]string) map[string]string {
	all := map[string]string{}
	maps.Copy(all, first)
	maps.Copy(all, second)
	return all
}

// tagsOf are the tags of a variant, with its name in them. Those of the project
// itself are the ones that name no variant.
func (p Project) tagsOf(name string, v Variant) []string {
	var plain, named []string
	for _, t := range p.Tags {
		if strings.Contains(t, "{variant}") {
			named = append(named, t)
		} else {
			plain = append(plain, t)
		}
	}
	if len(p.Tags) == 0 {
		plain = []string{"latest"}
		if _, tag := cutTag(p.Image); tag != "" {
			plain[0] = tag
		}
	}
	tags := v.Tags
	switch {
	case name == "":
		return plain
	case len(tags) > 0:
	case len(named) > 0:
		tags = named
	default:
		for _, t := range plain {
			if t == "latest" {
				tags = append(tags, "{variant}")
			} else {
				tags = append(tags, "{variant}-"+t)
			}
		}
	}
	return each(tags, strings.NewReplacer("{variant}", name))
}

// NeedsVersion tells whether Names, Args or labels have a version in them.
func (p Project) NeedsVersion() bool {
	has := func(s string) bool {
		return slices.ContainsFunc([]string{"{version}", "{major}", "{minor}", "{patch}"}, func(what string) bool { return strings.Contains(s, what) })
	}
	return slices.ContainsFunc(p.Tags, has) ||
		slices.ContainsFunc(slices.Collect(maps.Values(p.Args)), has) ||
		slices.ContainsFunc(slices.Collect(maps.Values(p.Contexts)), has) ||
		slices.ContainsFunc(slices.Collect(maps.Values(p.Labels)), has) ||
		slices.ContainsFunc(slices.Collect(maps.Values(p.Annotations)), has)
}

// At is the project at a version, filled in wherever the file asks for it.
func (p Project) At(version string) Project {
	parts := append(strings.SplitN(core(version), ".", 3), "0", "0")
	with := strings.NewReplacer("{version}", version, "{major}", parts[0], "{minor}", parts[1], "{patch}", parts[2])
	// A + is for build metadata in a version, and nothing for a tag.
	fill := strings.NewReplacer("{version}", strings.ReplaceAll(version, "+", "_"),
		"{major}", parts[0], "{minor}", parts[1], "{patch}", parts[2])
	p.Fixed = each(slices.DeleteFunc(slices.Clone(p.Tags), func(tag string) bool { return !namesVersion(tag, version) }), fill)
	p.Tags = each(p.Tags, fill)
	p.Args, p.Contexts = eachValue(p.Args, with), eachValue(p.Contexts, with)
	p.Labels, p.Annotations = eachValue(p.Labels, with), eachValue(p.Annotations, with)
	return p
}

// namesVersion tells whether a tag, as it is written, will name that version and
// no other. The three numbers of a pre-release are its release's.
func namesVersion(tag, version string) bool {
	has := func(s string) bool { return strings.Contains(tag, s) }
	return has("{version}") || !IsPrerelease(version) && has("{major}") && has("{minor}") && has("{patch}")
}

// IsPrerelease tells whether a version is one that comes before its release, as
// 1.3.0-rc.1 does.
func IsPrerelease(version string) bool {
	release, _, _ := strings.Cut(version, "+")
	return strings.Contains(release, "-")
}

// core is a version without what follows its numbers: 1.2.3 of 1.2.3-rc.1+b.
func core(version string) string {
	if i := strings.IndexAny(version, "-+"); i >= 0 {
		return version[:i]
	}
	return version
}

// Names are the names of the image with its tags; none where the file names no
// image.
func (p Project) Names() []string {
	if p.Image == "" {
		return nil
	}
	var all []string
	for _, t := range p.Tags {
		all = append(all, tagged(p.Image, t))
	}
	return all
}

// CacheRef is where a part of the cache is. auto is IMAGE:buildcache, with the
// variant's name behind it: two variants would overwrite each other's.
func (p Project) CacheRef(part string) string {
	switch {
	case part != "auto":
		return part
	case p.Name != "":
		return tagged(p.Image, "buildcache-"+p.Name)
	}
	return tagged(p.Image, "buildcache")
}

// tagged is a name with a tag, instead of its own where it has one.
func tagged(name, tag string) string {
	name, _ = cutTag(name)
	return name + ":" + tag
}

// cutTag parts a name from its tag. The colon of a port is no tag's.
func cutTag(name string) (repository, tag string) {
	if i := strings.LastIndexByte(name, ':'); i > strings.LastIndexByte(name, '/') {
		return name[:i], name[i+1:]
	}
	return name, ""
}
