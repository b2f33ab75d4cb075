package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/posener/complete"

	"github.com/lighter-oci/lighter/internal/history"
	"github.com/lighter-oci/lighter/internal/report"
	"github.com/lighter-oci/lighter/internal/term"
)

// historyCmd reads what builds have left.
type historyCmd struct {
	Ls      historyLsCmd      `cmd:"" default:"withargs" help:"List builds, the last first."`
	Show    historyShowCmd    `cmd:"" help:"Show a build: summary, steps, layers, why it was slow."`
	Logs    historyLogsCmd    `cmd:"" help:"Print what the steps of a build have printed."`
	Compare historyCompareCmd `cmd:"" help:"Say what got slower or bigger between two builds, and why a step lost its cache."`
	Export  historyExportCmd  `cmd:"" help:"Print a build with all its events as JSON, or its timeline as a picture."`
	Rm      historyRmCmd      `cmd:"" help:"Forget builds."`
	Prune   historyPruneCmd   `cmd:"" help:"Forget old builds."`
}

// openHistory opens the history of this user, with what it warns of on standard
// error.
func openHistory(out *term.Output) (*history.Store, error) {
	store, err := history.Open(history.Options{Warn: func(err error) { fmt.Fprintln(out.Err, "warning: "+report.Clean(err.Error())) }})
	if errors.Is(err, history.ErrOff) {
		return nil, fmt.Errorf("%w here: $%s is off, or there is no home directory", err, history.Variable)
	}
	return store, err
}

type historyLsCmd struct {
	Words []string `arg:"" optional:"" help:"Words to look for in names, errors and logs."`

	Project string   `placeholder:"NAME" help:"Of this project."`
	Variant string   `predictor:"variant" placeholder:"NAME" help:"Of this variant."`
	Verb    string   `placeholder:"VERB" enum:",build,pack,publish,convert" default:"" help:"By build, pack, publish or convert."`
	State   []string `predictor:"state" enum:"queued,running,done,failed,killed,interrupted" placeholder:"STATE" help:"queued, running, done, failed, killed (stopped by somebody) or interrupted (its process died); several separated by commas."`
	Since   string   `placeholder:"24h|2026-11-30" help:"Begun since then."`
	Limit   int      `short:"n" default:"30" help:"How many at most; 0 is all."`
	All     bool     `short:"a" help:"The images of a publish, too."`
	Format  string   `enum:"text,json" default:"text" help:"text or json."`
}

// Run lists.
func (c historyLsCmd) Run(ctx context.Context, out *term.Output) error {
	f := history.Filter{Project: c.Project, Variant: c.Variant, Verb: c.Verb, Text: strings.Join(c.Words, " "), Limit: cmp.Or(c.Limit, -1), Top: !c.All}
	for _, s := range c.State {
		f.States = append(f.States, history.State(s))
	}
	var err error
	if f.Since, err = since(c.Since); err != nil {
		return usageError{err}
	}
	store, err := openHistory(out)
	if err != nil {
		return err
	}
	defer store.Close()
	list, err := store.List(ctx, f)
	if err != nil {
		return err
	}
	if c.Format == "json" {
		return out.Encode(append([]history.Build{}, list...))
	}
	if len(list) == 0 {
		_, err := fmt.Fprintln(out.Err, "no such builds in the history")
		return err
	}
	return out.Table(builds(list))
}

// since reads a time, or how long ago it was.
func since(s string) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	if ago, err := time.ParseDuration(s); err == nil && ago >= 0 {
		return time.Now().Add(-ago), nil
	}
	for _, layout := range []string{time.DateOnly, time.DateTime, time.RFC3339} {
		if t, err := time.ParseInLocation(layout, s, time.Local); err == nil {
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf("--since %q: want how long ago, as 24h, or a day, as 2026-11-30", s)
}

// builds is the table of `history ls`.
func builds(list []history.Build) report.Table {
	t := report.Table{Columns: []report.Column{
		{Name: "id"}, {Name: "begun"}, {Name: "verb"}, {Name: "project", Shrink: true}, {Name: "state"}, {Name: "took", Right: true},
		{Name: "cached", Right: true}, {Name: "image", Right: true}, {Name: "pushed", Right: true, Optional: true},
		{Name: "version", Optional: true}, {Name: "commit", Optional: true}, {Name: "how", Optional: true},
	}}
	size := func(n int64) string {
		if n == 0 {
			return ""
		}
		return report.Bytes(n)
	}
	for _, b := range list {
		name, cached := projectOf(b), ""
		if b.Parent != "" {
			name = "└ " + name
		}
		if b.Steps.Total > 0 && b.Verb != "publish" { // whose own steps come from no cache
			cached = fmt.Sprintf("%d/%d", b.Steps.Cached, b.Steps.Total)
		}
		t.Add(history.Short(b.ID), b.Started.Local().Format("2006-01-02 15:04"), b.Verb, name, string(b.State), b.Took.String(),
			cached, size(b.Image), size(b.Pushed), b.Version, commitOf(b), b.How)
	}
	return t
}

// projectOf names what a build made: "shop", "shop gpu", "shop default, gpu".
func projectOf(b history.Build) string {
	if b.Variant == "" {
		return b.Project
	}
	return b.Project + " " + history.Variants(b.Variant)
}

// commitOf is the commit as git shortens it.
func commitOf(b history.Build) string {
	short := b.Commit[:min(len(b.Commit), 9)]
	if b.Dirty {
		short += "+"
	}
	return short
}

type historyRmCmd struct {
	IDs []string `arg:"" name:"id" predictor:"build" help:"Builds, as history ls shows them; @1 is the last."`
}

// Run forgets the builds that are named, and the images of a publish with it.
func (c historyRmCmd) Run(ctx context.Context, out *term.Output) error {
	store, err := openHistory(out)
	if err != nil {
		return err
	}
	defer store.Close()
	var ids []string
	for _, typed := range c.IDs {
		id, err := store.Find(ctx, typed)
		if err != nil {
			return err
		}
		parts, err := store.List(ctx, history.Filter{Parent: id, Limit: -1})
		if err != nil {
			return err
		}
		for _, b := range append([]history.Build{{Begun: history.Begun{ID: id}}}, parts...) {
			if !slices.Contains(ids, b.ID) {
				ids = append(ids, b.ID)
			}
		}
	}
	p, err := store.Remove(ctx, ids...)
	return errors.Join(err, forgot(out, p, p.Builds > 0 || err == nil))
}

func forgot(out *term.Output, p history.Pruned, say bool) error {
	if !say {
		return nil
	}
	_, err := fmt.Fprintf(out.Out, "forgot %s, %s\n", report.Plural(p.Builds, "build"), report.Bytes(p.Bytes))
	return err
}

type historyPruneCmd struct {
	OlderThan age    `placeholder:"720h" help:"Forget builds that are older, but for the last ten of each project (default 4320h, 180 days, or what a dashboard's configuration says)."`
	Keep      size   `placeholder:"SIZE" help:"Forget the oldest until the rest takes no more, as 500MB (default 1GB, or what a dashboard's configuration says)."`
	All       bool   `help:"Forget every build that has ended."`
	Format    string `enum:"text,json" default:"text" help:"text or json."`
}

// Run forgets what is old.
func (c historyPruneCmd) Run(ctx context.Context, out *term.Output) error {
	store, err := openHistory(out)
	if err != nil {
		return err
	}
	defer store.Close()
	limits, err := store.Limits(ctx)
	if err != nil {
		return err
	}
	keep := cmp.Or(int64(c.Keep), limits.Bytes)
	if c.All {
		keep = 0
	}
	p, err := store.Prune(ctx, cmp.Or(time.Duration(c.OlderThan), limits.Age), keep)
	if err != nil {
		return err
	}
	if c.Format == "json" {
		return out.Encode(p)
	}
	return forgot(out, p, true)
}

// buildsHere completes IDs, the last builds first.
func buildsHere(complete.Args) []string {
	store, err := history.Open(history.Options{})
	if err != nil {
		return nil
	}
	defer store.Close()
	list, _ := store.List(context.Background(), history.Filter{})
	ids := []string{}
	for _, b := range list {
		ids = append(ids, history.Short(b.ID))
	}
	return ids
}
