package kitchen

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
)

// Choice is what somebody wants built: each field is one of what the project
// offers, never text of their own.
type Choice struct {
	Verb      string   `json:"verb"`                // build, pack or publish
	Variants  []string `json:"variants,omitempty"`  // "" is the project itself; none is that, and for publish all
	Platforms []string `json:"platforms,omitempty"` // none is what the file says
	Push      bool     `json:"push,omitempty"`
	Bump      string   `json:"bump,omitempty"` // patch, minor, major or auto, to publish
}

// bumps are how a version may move.
var bumps = []string{"patch", "minor", "major", "auto"}

// choiceError is a choice that the project does not offer.
type choiceError struct{ what string }

func (e choiceError) Error() string { return e.what }

// check holds a choice against what the project offers.
func (c Choice) check(p Project) error {
	wrong := func(format string, args ...any) error { return choiceError{fmt.Sprintf(format, args...)} }
	if len(p.Problems) > 0 {
		return wrong("%s cannot be built: %s", p.Slug, p.Problems[0])
	}
	if !p.Can(c.Verb) {
		return wrong("%s has no %q: it can %s", p.Slug, clip(c.Verb), strings.Join(p.Verbs, ", "))
	}
	for i, name := range c.Variants {
		if !slices.ContainsFunc(p.Variants, func(v Variant) bool { return v.Name == name }) {
			return wrong("%s has no variant %q", p.Slug, clip(name))
		}
		if slices.Contains(c.Variants[:i], name) {
			return wrong("variant %q is there twice", clip(name))
		}
	}
	for i, name := range c.Platforms {
		if slices.Contains(c.Platforms[:i], name) {
			return wrong("platform %q is there twice", clip(name))
		}
		if !slices.Contains(p.Platforms, name) {
			return wrong("%s is not for platform %q: it has %s", p.Slug, clip(name), strings.Join(p.Platforms, ", "))
		}
	}
	switch {
	case c.Push && p.Image == "" && !p.bake:
		return wrong("%s names no image to push: say image = \"REGISTRY/NAME\" in its lighter.toml", p.Slug)
	case c.Bump != "" && (c.Verb != "publish" || !slices.Contains(bumps, c.Bump)):
		return wrong("bump %q: want patch, minor, major or auto, to publish", clip(c.Bump))
	}
	return nil
}

// clip is what is looked at of a text from a request, whole characters.
func clip(s string) string { return strings.ToValidUTF8(s[:min(len(s), 80)], "") }

// jobs are the builds that a choice asks for: one for each variant, and one for a
// whole release.
func (c Choice) jobs(p Project) []*job {
	variants := c.Variants
	if len(variants) == 0 && len(p.Variants) > 0 {
		variants = []string{p.Variants[0].Name}
	}
	if c.Verb == "publish" {
		return []*job{c.job(p, c.Variants)}
	}
	var all []*job
	for _, name := range variants {
		all = append(all, c.job(p, []string{name}))
	}
	return all
}

// job is one child's command line.
func (c Choice) job(p Project, variants []string) *job {
	args := []string{c.Verb}
	if p.File == "Dockerfile" {
		args = append(args, "--project=none", "--", p.Dir)
		args = slices.Insert(args, 2, c.flags(p, nil)...)
	} else {
		args = append(append(args, "--project="+filepath.Join(p.Dir, p.File)), c.flags(p, variants)...)
	}
	j := &job{project: p.Slug, dir: p.Dir, args: args, choice: c, done: make(chan struct{})}
	j.choice.Variants = variants
	return j
}

func (c Choice) flags(p Project, variants []string) []string {
	flags := []string{"--progress=quiet"}
	if p.Engine != "" && c.Verb != "pack" {
		flags = append(flags, "--engine="+p.Engine)
	}
	for _, name := range variants {
		switch {
		case name != "":
			flags = append(flags, "--variant="+name)
		case c.Verb == "publish": // which takes all where none is named
			flags = append(flags, "--variant=.")
		}
	}
	if len(c.Platforms) > 0 && len(c.Platforms) < len(p.Platforms) {
		flags = append(flags, "--platform="+strings.Join(c.Platforms, ","))
	}
	if c.Push && c.Verb != "publish" {
		flags = append(flags, "--push")
	}
	if c.Bump != "" {
		flags = append(flags, "--bump="+c.Bump)
	}
	return flags
}
