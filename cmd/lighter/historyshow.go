package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/lighter-oci/lighter/internal/history"
	"github.com/lighter-oci/lighter/internal/report"
	"github.com/lighter-oci/lighter/internal/term"
)

// buildArg is the build that a verb is about.
type buildArg struct {
	ID string `arg:"" optional:"" name:"id" default:"@1" predictor:"build" help:"A build, as history ls shows it; @1, the default, is the last, @2 the one before."`
}

// open finds it.
func (a buildArg) open(ctx context.Context, out *term.Output) (*history.Store, history.Build, error) {
	store, err := openHistory(out)
	if err != nil {
		return nil, history.Build{}, err
	}
	b, err := foundBuild(ctx, store, a.ID)
	if err != nil {
		return nil, b, errors.Join(err, store.Close())
	}
	return store, b, nil
}

func foundBuild(ctx context.Context, store *history.Store, typed string) (history.Build, error) {
	id, err := store.Find(ctx, typed)
	if err != nil {
		return history.Build{}, err
	}
	return store.Build(ctx, id)
}

type historyShowCmd struct {
	buildArg
	Format string `enum:"text,json" default:"text" help:"text or json."`
}

// Run shows one build.
func (c historyShowCmd) Run(ctx context.Context, out *term.Output) error {
	store, b, err := c.open(ctx, out)
	if err != nil {
		return err
	}
	defer store.Close()
	rep, err := store.Report(ctx, b.ID)
	if err != nil {
		return err
	}
	if c.Format == "json" {
		return out.Encode(struct {
			Build  history.Build `json:"build"`
			Report report.Report `json:"report"`
		}{b, rep})
	}
	parts, err := store.List(ctx, history.Filter{Parent: b.ID, Limit: -1})
	if err != nil {
		return err
	}
	history.SumUp(&rep.Summary, parts)
	if b.Error != "" && b.State.Over() {
		rep.Summary.Error = b.Error
	}
	if err := out.Shown(term.Shown{Head: b.Verb + " " + projectOf(b) + " · " + string(b.State), Facts: facts(b), Error: b.Error, Report: rep, Running: !b.State.Over()}); err != nil {
		return err
	}
	if len(parts) == 0 {
		return nil
	}
	fmt.Fprintln(out.Out)
	slices.Reverse(parts)
	return out.Table(builds(parts))
}

// facts are the row of a build for people.
func facts(b history.Build) []term.Fact {
	when := b.Started.Local().Format(time.DateTime)
	if !b.Ended.IsZero() {
		when += " – " + b.Ended.Local().Format(time.TimeOnly)
	}
	source := commitOf(b)
	if b.Branch != "" {
		source += " on " + b.Branch
	}
	if b.Dirty {
		source += ", with changes"
	}
	var list []term.Fact
	for _, f := range []term.Fact{
		{Label: "id", Text: b.ID}, {Label: "begun", Text: when}, {Label: "by", Text: b.Who + ", " + b.How}, {Label: "engine", Text: b.Engine},
		{Label: "in", Text: b.Dir}, {Label: "platforms", Text: strings.Join(b.Platforms, " ")}, {Label: "version", Text: b.Version}, {Label: "commit", Text: source},
		{Label: "part of", Text: history.Short(b.Parent)},
	} {
		if f.Text != "" {
			list = append(list, f)
		}
	}
	return list
}

type historyCompareCmd struct {
	Before string `arg:"" optional:"" name:"before" predictor:"build" help:"The earlier build; @2 is the last but one. One build alone is compared with the last of the same that ended well before it."`
	After  string `arg:"" optional:"" name:"after" predictor:"build" help:"The later build (default: the last)."`
	Format string `enum:"text,json,svg" default:"text" help:"text, json, or svg: a picture of both."`
}

// Run compares two builds.
func (c historyCompareCmd) Run(ctx context.Context, out *term.Output) error {
	store, err := openHistory(out)
	if err != nil {
		return err
	}
	defer store.Close()
	before, after, err := c.pair(ctx, store)
	if err != nil {
		return err
	}
	was, err := store.Report(ctx, before.ID)
	if err != nil {
		return err
	}
	is, err := store.Report(ctx, after.ID)
	if err != nil {
		return err
	}
	diff := report.Compare(was, is)
	if c.Format == "json" {
		return out.Encode(struct {
			Before     history.Build     `json:"before"`
			After      history.Build     `json:"after"`
			Comparison report.Comparison `json:"comparison"`
		}{before, after, diff})
	}
	if c.Format == "svg" {
		_, err := fmt.Fprint(out.Out, report.ComparisonChart{Standalone: true}.SVG(&diff))
		return err
	}
	name := func(b history.Build) string {
		return fmt.Sprintf("%s  %s  %s %s, %s", history.Short(b.ID), b.Started.Local().Format("2006-01-02 15:04"), b.Verb, projectOf(b), b.State)
	}
	return out.Comparison(name(before), name(after), diff)
}

// pair finds the two.
func (c historyCompareCmd) pair(ctx context.Context, store *history.Store) (before, after history.Build, err error) {
	one := c.After
	if one == "" {
		one = c.Before
	}
	if one == "" {
		one = "@1"
	}
	if after, err = foundBuild(ctx, store, one); err != nil {
		return before, after, err
	}
	if c.After != "" {
		before, err = foundBuild(ctx, store, c.Before)
		return before, after, err
	}
	before, err = store.Previous(ctx, after)
	var none *history.NotFoundError
	if errors.As(err, &none) {
		err = &noEarlierError{projectOf(after)}
	}
	return before, after, err
}

// noEarlierError is a build with nothing to compare it with.
type noEarlierError struct{ of string }

func (e *noEarlierError) Error() string { return "no earlier build of " + e.of + " that ended well" }

// Hint is the next step.
func (*noEarlierError) Hint() string {
	return "name two: `lighter history compare BEFORE AFTER`, as `lighter history ls` shows them"
}
