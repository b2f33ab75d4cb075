package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/lighter-oci/lighter/internal/cachemount"
	"github.com/lighter-oci/lighter/internal/engine/buildkit"
	"github.com/lighter-oci/lighter/internal/report"
	"github.com/lighter-oci/lighter/internal/term"
)

type cacheCmd struct {
	Ls      cacheLsCmd      `cmd:"" help:"List the engine's build cache."`
	Prune   cachePruneCmd   `cmd:"" help:"Remove build cache that no running build needs, or cache mounts where they are kept."`
	Inspect cacheInspectCmd `cmd:"" help:"Show what a cache in a registry or directory holds: cache mounts, or layers."`
	Push    cachePushCmd    `cmd:"" help:"Send what the engine's cache mounts hold."`
	Pull    cachePullCmd    `cmd:"" help:"Fill the engine's cache mounts with what was sent."`
	Agent   cacheAgentCmd   `cmd:"" hidden:"" help:"Serve cache mounts on standard input and output."`
}

type cacheLsCmd struct {
	Filter []string `sep:"none" placeholder:"FILTER" help:"BuildKit filter, as type==exec.cachemount."`
	Format string   `enum:"text,json" default:"text" help:"text or json."`
}

// Run lists the cache, the largest first.
func (c cacheLsCmd) Run(ctx context.Context, out *term.Output, flags *engineFlags) error {
	e, err := flags.open(ctx, buildkit.Options{})
	if err != nil {
		return err
	}
	defer e.Close()
	records, err := e.DiskUsage(ctx, c.Filter)
	if err != nil {
		return err
	}
	slices.SortFunc(records, func(a, b buildkit.CacheRecord) int { return cmp.Compare(b.Size, a.Size) })
	if c.Format == "json" {
		return out.Encode(records)
	}
	return printCache(out, records)
}

func printCache(out *term.Output, records []buildkit.CacheRecord) error {
	table := report.Table{Columns: []report.Column{
		{Name: "size", Right: true}, {Name: "kind"}, {Name: "last used"}, {Name: "what", Shrink: true},
	}}
	var total int64
	for _, r := range records {
		total += r.Size
		used := r.Created
		if r.LastUsed != nil {
			used = *r.LastUsed
		}
		table.Add(report.Bytes(r.Size), r.Kind, used.Local().Format(time.DateTime), r.Description)
	}
	if err := out.Table(table); err != nil {
		return err
	}
	_, err := fmt.Fprintf(out.Out, "%s in %d records\n", report.Bytes(total), len(records))
	return err
}

type cachePruneCmd struct {
	Ref         string   `arg:"" optional:"" placeholder:"REF" help:"Cache mounts in a registry or oci:DIR; --max-used-space or --keep-for must say what may stay. Without REF the engine's build cache is pruned."`
	All         bool     `short:"a" help:"Internal and frontend images too."`
	Filter      []string `sep:"none" placeholder:"FILTER" help:"BuildKit filter, as type==exec.cachemount."`
	KeepFor     age      `placeholder:"DURATION" help:"Spare what was used within this time, as 48h; of REF, mounts that were sent within it."`
	MaxUsed     size     `name:"max-used-space" placeholder:"SIZE" help:"Stop when no more than this is used, as 10GB."`
	KeepStorage size     `hidden:"" help:"Older name of --max-used-space."`
	Force       bool     `short:"f" hidden:"" help:"Accepted for docker's sake: nothing is asked."`
}

// Run removes cache and says how much went.
func (c cachePruneCmd) Run(ctx context.Context, out *term.Output, flags *engineFlags) error {
	used, keep := int64(cmp.Or(c.MaxUsed, c.KeepStorage)), time.Duration(c.KeepFor)
	if c.MaxUsed != 0 && c.KeepStorage != 0 {
		return usageError{errors.New("--keep-storage is the older name of --max-used-space: give one of them")}
	}
	if c.Ref != "" {
		if c.All || len(c.Filter) > 0 {
			return usageError{fmt.Errorf("--all and --filter are about the engine's cache: of %s say what may stay, with --max-used-space or --keep-for", c.Ref)}
		}
		return c.prune(ctx, out, cachemount.PushOptions{MaxSize: used, MaxAge: keep})
	}
	opt := buildkit.PruneOptions{All: c.All, KeepFor: keep, MaxUsed: used, Filter: c.Filter}
	e, err := flags.open(ctx, buildkit.Options{})
	if err != nil {
		return err
	}
	defer e.Close()
	var total int64
	n := 0
	if err := e.Prune(ctx, opt, func(r buildkit.CacheRecord) { total += r.Size; n++ }); err != nil {
		return err
	}
	fmt.Fprintf(out.Err, "removed %s in %d records\n", report.Bytes(total), n)
	return nil
}
