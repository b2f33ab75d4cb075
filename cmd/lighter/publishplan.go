package main

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/lighter-oci/lighter/internal/image"
	"github.com/lighter-oci/lighter/internal/project"
	"github.com/lighter-oci/lighter/internal/publish"
	"github.com/lighter-oci/lighter/internal/report"
	"github.com/lighter-oci/lighter/internal/term"
	"github.com/lighter-oci/lighter/internal/toolchain"
)

// release is what is to be published; what `--dry-run --format json` prints.
type release struct {
	Project string         `json:"project"` // the file
	Was     string         `json:"was,omitempty"`
	Version string         `json:"version"`
	Goes    bool           `json:"goesOn,omitempty"` // a release that was broken off
	Next    string         `json:"next,omitempty"`   // what the commits since the last tag would make of it
	first   bool           // --bump auto found no tag to count from
	Why     []string       `json:"why,omitempty"`
	Checks  []string       `json:"checks"`
	Images  []releaseImage `json:"images"`

	proj    project.Project
	from    project.Version // the one that is moved
	pending publish.Pending // that this goes on with, or takes back
	memory  publish.Memory
	unlock  func()
}

// releaseImage is one of its images.
type releaseImage struct {
	Variant    string   `json:"variant,omitempty"`
	With       string   `json:"with"` // build or pack
	Repository string   `json:"repository"`
	Tags       []string `json:"tags"`
	Fixed      []string `json:"fixed,omitempty"`   // those that are never moved
	Without    []string `json:"without,omitempty"` // those that a pre-release does not get
	Platforms  []string `json:"platforms,omitempty"`
}

// plan reads the project and decides on the version.
func (p *publishCmd) plan(ctx context.Context) (*release, error) {
	path := p.Project
	if path == "" {
		var err error
		if path, err = project.Find(cmp.Or(p.Dir, ".")); err != nil {
			return nil, usageError{err}
		}
	}
	if path == "" {
		return nil, usageError{fmt.Errorf("there is no %s here or above, which says what to publish: make one with `lighter init`", project.Name)}
	}
	proj, err := project.Load(path)
	if err != nil {
		return nil, codeError{exitUsage, err}
	}
	if proj.Image == "" {
		return nil, usageError{fmt.Errorf("%s names no image: say image = \"REGISTRY/NAME\"", project.Shown(path))}
	}
	r := &release{Project: project.Shown(path), proj: proj, Checks: slices.Sorted(maps.Keys(proj.Checks))}
	if p.SkipChecks {
		r.Checks = []string{}
	}
	if err := p.remember(r); err != nil {
		return nil, err
	}
	if err := p.decide(ctx, r); err != nil {
		r.unlock()
		return nil, err
	}
	if err := p.images(r); err != nil {
		r.unlock()
		return nil, err
	}
	return r, nil
}

// makes is what a project's images are made with: build or pack.
func (r *release) makes() (string, error) {
	if r.proj.Packs() {
		return "pack", nil
	}
	if _, err := os.Stat(filepath.Join(r.proj.Dir(), r.proj.Context, cmp.Or(r.proj.Dockerfile, "Dockerfile"))); err == nil {
		return "build", nil
	}
	if _, err := toolchain.Detect(r.proj.Dir()); err != nil {
		return "", nothingError{project.Shown(r.proj.Dir())}
	}
	return "pack", nil
}

// nothingError is a project that no image can be made of.
type nothingError struct{ dir string }

func (e nothingError) Error() string {
	return "there is nothing to publish: no Dockerfile in " + e.dir + ", and no source that pack would compile"
}

// Hint is the next step.
func (nothingError) Hint() string {
	return `write a Dockerfile, or say in lighter.toml what compiles: toolchain = { command = "…", output = "PATH" }`
}

// images are those of the project and its variants.
func (p *publishCmd) images(r *release) error {
	names := p.Variant
	if len(names) == 0 {
		names = append([]string{""}, slices.Sorted(maps.Keys(r.proj.Variants))...)
	}
	with := p.With
	if with == "auto" {
		var err error
		if with, err = r.makes(); err != nil {
			return err
		}
	}
	taken := map[string]string{}
	said := map[string]bool{}
	for _, name := range names {
		if name == "." {
			name = ""
		}
		if said[name] {
			continue
		}
		said[name] = true
		v, err := r.proj.Variant(name)
		if err != nil {
			return usageError{fmt.Errorf("--variant: %w", err)}
		}
		if r.Version != "" {
			v = v.At(r.Version)
		}
		img := releaseImage{Variant: name, With: with, Platforms: v.Platforms, Fixed: v.Fixed}
		if len(v.Fixed) > 0 && project.IsPrerelease(r.Version) {
			img.Without = slices.DeleteFunc(v.Tags, func(tag string) bool { return slices.Contains(v.Fixed, tag) })
			v.Tags = v.Fixed
		}
		if len(p.Platform) > 0 {
			img.Platforms = p.Platform
		}
		for _, full := range v.Names() {
			ref, err := image.ParseReference(full)
			if err != nil {
				return fmt.Errorf("%s: %w", r.Project, err)
			}
			if other, ok := taken[full]; ok && other != name {
				return codeError{exitUsage, fmt.Errorf("%s: %s and %s would both be %s: give them tags of their own", r.Project, variantName(other), variantName(name), full)}
			}
			taken[full] = name
			img.Repository = ref.Name()
			img.Tags = append(img.Tags, ref.Tag)
		}
		r.Images = append(r.Images, img)
	}
	return nil
}

func variantName(name string) string {
	if name == "" {
		return "the project itself"
	}
	return "variant " + name
}

// printPlan is --dry-run.
func (p *publishCmd) printPlan(out *term.Output, r *release) error {
	if out.JSON {
		return out.Encode(r)
	}
	return r.print(out)
}

// announce says it to people, before it is done: results come at the end.
func (r *release) announce(out *term.Output) error {
	words := *out
	words.Out, words.OutWidth = out.Err, out.Width
	return r.print(&words)
}

// print says what is going to be published.
func (r *release) print(out *term.Output) error {
	if r.Version != "" {
		line := "version  " + r.Version
		switch {
		case r.Version != r.Was:
			line += ", after " + r.Was
			if r.Goes {
				line += ": goes on with what was broken off"
			}
		case r.first:
			line = "no tag yet: " + r.Version + " is the first"
		case r.Next != "" && len(r.Why) > 0:
			line += fmt.Sprintf("; the commits since would make it %s (%s): --bump auto", r.Next, report.Clean(r.Why[0]))
		}
		fmt.Fprintln(out.Err, line)
	}
	if len(r.Checks) > 0 {
		fmt.Fprintln(out.Err, "checks   "+strings.Join(r.Checks, ", "))
	}
	var without []string
	for _, img := range r.Images {
		without = append(without, img.Without...)
	}
	if len(without) > 0 {
		fmt.Fprintln(out.Err, "without  "+strings.Join(without, ", ")+": "+r.Version+" is a pre-release")
	}
	table := report.Table{Columns: []report.Column{{Name: "variant"}, {Name: "with"}, {Name: "platforms", Shrink: true}, {Name: "image", Shrink: true}}}
	for _, img := range r.Images {
		for i, tag := range img.Tags {
			if i == 0 {
				table.Add(cmp.Or(img.Variant, "-"), img.With, strings.Join(img.Platforms, " "), img.Repository+":"+tag)
			} else {
				table.Add("", "", "", img.Repository+":"+tag)
			}
		}
	}
	return out.Table(table)
}
