package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/lighter-oci/lighter/internal/image"
	"github.com/lighter-oci/lighter/internal/publish"
	"github.com/lighter-oci/lighter/internal/report"
	"github.com/lighter-oci/lighter/internal/term"
)

// publishCmd is a whole release in one command.
type publishCmd struct {
	Dir string `arg:"" optional:"" predictor:"dir" help:"Directory of the project (default: that of lighter.toml, here or above)."`

	Project    string   `predictor:"file" placeholder:"FILE" help:"The project's file (default: lighter.toml in the directory or above)."`
	Variant    []string `predictor:"variant" placeholder:"NAME" help:"Only these variants, . for the project itself; may be repeated (default: the project and all variants)."`
	Platform   []string `predictor:"platform" placeholder:"OS/ARCH" help:"Platforms, separated by commas (default: what lighter.toml says)."`
	Bump       string   `placeholder:"patch|minor|major|auto|VERSION" help:"Count the version up, or name it, and write it back (default: publish the one that is there)."`
	With       string   `enum:"auto,build,pack" default:"auto" help:"build from the Dockerfile, pack what this machine compiles, or auto: what the project has."`
	SkipChecks bool     `help:"Publish without running the checks."`
	GitTag     bool     `help:"At the end commit the version that was written, and tag the commit."`
	DryRun     bool     `short:"n" help:"Print the plan, and do nothing."`
	Progress   string   `enum:"auto,tty,plain,quiet" env:"BUILDKIT_PROGRESS" default:"auto" help:"Live view: auto, tty, plain or quiet."`
	Format     string   `enum:"text,json" default:"text" help:"What was published as text on standard error, or json on standard output."`

	tagged bool // tags may be set
	rec    *recording
}

// Help is what `lighter publish --help` says below the flags.
func (publishCmd) Help() string {
	return "Version, checks, the images of all variants and platforms, proof of what was pushed, tags: in this order. " +
		"Nothing is pushed when a check fails, and no tag is set before the content of all images is there. " +
		"A tag with the whole version in it never moves. What pack would compile incrementally is compiled whole.\n\n" +
		"Exit codes: 0 done, 1 failed, 2 usage, 3 a pushed layer is not as asked, 130 interrupted."
}

// Resume is what the same command does after an interruption.
func (p *publishCmd) Resume() string {
	if p.tagged {
		return "the same command sets the tags that are missing"
	}
	return "no tag was set; the same command goes on from what is compiled and pushed"
}

// Run publishes.
func (p *publishCmd) Run(ctx context.Context, out *term.Output, flags *engineFlags) (err error) {
	r, err := p.plan(ctx)
	if err != nil {
		return err
	}
	defer r.unlock()
	out.JSON = p.Format == "json"
	if p.DryRun {
		return p.printPlan(out, r)
	}
	if p.Progress != "quiet" {
		if err := r.announce(out); err != nil {
			return err
		}
	}
	p.rec = p.record(ctx, out, flags, r)
	defer func() { p.rec.end(ctx, err) }()
	places := newPlaces()
	defer places.Close()
	images, err := r.published(places)
	if err != nil {
		return err
	}
	if err := publish.Ask(ctx, images); err != nil {
		return err
	}
	if err := r.writeVersion(out); err != nil {
		return err
	}
	if err := p.run(ctx, out, flags, r, images); err != nil {
		p.tagged = r.pending.Tagging
		return errors.Join(err, r.takeBack(out))
	}
	p.tagged = true
	err = p.tagCommit(ctx, out, r)
	if ctx.Err() != nil {
		return err // the same command tags the commit
	}
	return errors.Join(err, r.memory.Forget())
}

// published are the images as they are going to be in their registries, without
// content.
func (r *release) published(places *places) ([]publish.Image, error) {
	var images []publish.Image
	for _, img := range r.Images {
		ref, err := image.ParseReference(img.Repository)
		if err != nil {
			return nil, err
		}
		repo, err := places.registry.Repository(ref)
		if err != nil {
			return nil, err
		}
		images = append(images, publish.Image{Variant: img.Variant, Repo: repo, Name: img.Repository, Tags: img.Tags, Fixed: img.Fixed})
	}
	return images, nil
}

// run checks, makes and tags.
func (p *publishCmd) run(ctx context.Context, out *term.Output, flags *engineFlags, r *release, images []publish.Image) error {
	if err := p.check(ctx, out, r); err != nil {
		return err
	}
	roots, err := p.make(ctx, out, flags, r)
	if err != nil {
		return err
	}
	for i := range images {
		images[i].Root = roots[i]
	}
	ended := p.rec.step("tags", "set tags")
	tags, err := publish.Tag(ctx, images, r.tagging)
	ended(err)
	out.JSON = p.Format == "json"
	var half *publish.HalfError
	if errors.As(err, &half) {
		tags = half.Tags
	} else if err != nil {
		return err
	}
	p.rec.tagged(tags)
	return errors.Join(err, r.said(out, tags))
}

// check runs the checks, and shows what those that fail have printed.
func (p *publishCmd) check(ctx context.Context, out *term.Output, r *release) error {
	var list []publish.Check
	for _, name := range r.Checks {
		list = append(list, publish.Check{Name: name, Command: r.proj.Checks[name], Dir: r.proj.Dir()})
	}
	ended := map[string]func(publish.Checked){}
	err := publish.Run(ctx, list, func(c publish.Check) { ended[c.Name] = p.rec.check(c.Name) }, func(c publish.Checked) {
		mark := "✓"
		if c.Err != nil {
			mark = "✗"
		}
		ended[c.Name](c)
		if c.Err != nil || p.Progress != "quiet" {
			fmt.Fprintf(out.Err, "%s check %s %s\n", mark, c.Name, report.Seconds(c.Took))
		}
	})
	var failed *publish.CheckError
	if errors.As(err, &failed) {
		hide := hidden(r.proj)
		for _, c := range failed.Failed {
			for line := range strings.Lines(hide.Replace(string(c.Output))) {
				fmt.Fprintf(out.Err, "  %s: %s\n", c.Name, report.CleanLine(line))
			}
		}
	}
	return err
}

// said is what `--format json` prints, or the tags for people.
func (r *release) said(out *term.Output, tags []publish.Tagged) error {
	if out.JSON {
		return out.Encode(struct {
			*release
			Published []publish.Tagged `json:"published"`
			When      time.Time        `json:"when"`
		}{r, tags, time.Now().UTC()})
	}
	table := report.Table{Columns: []report.Column{{Name: "published", Shrink: true}, {Name: ""}, {Name: "digest"}}}
	for _, t := range tags {
		table.Add(t.Name, string(t.Action), report.ShortDigest(t.Digest.String()))
	}
	fmt.Fprintln(out.Err)
	return out.Table(table)
}

// tagCommit commits what was written, and tags it.
func (p *publishCmd) tagCommit(ctx context.Context, out *term.Output, r *release) error {
	if !p.GitTag {
		return nil
	}
	name, err := r.from.TagCommit(ctx, r.Version)
	if err != nil {
		return &gitTagError{err}
	}
	fmt.Fprintf(out.Err, "git tag %s; push it with `git push origin %[1]s`\n", name)
	return nil
}

// gitTagError is a release that is there, but for its mark in git.
type gitTagError struct{ error }

func (e *gitTagError) Error() string { return "published, but not tagged in git: " + e.error.Error() }
func (e *gitTagError) Unwrap() error { return e.error }

// Hint is the next step.
func (e *gitTagError) Hint() string { return "`lighter publish --git-tag`, without --bump, tags it" }
