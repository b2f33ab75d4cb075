package main

import (
	"context"
	"fmt"
	"slices"

	"github.com/lighter-oci/lighter/internal/cachemount"
	"github.com/lighter-oci/lighter/internal/image"
	"github.com/lighter-oci/lighter/internal/report"
	"github.com/lighter-oci/lighter/internal/term"
)

// heldCaches are the directories that a build's caches are in. What is in them
// stays while it runs; after it what its own caches have replaced goes.
type heldCaches struct {
	layers, mounts []*image.LayoutTarget
}

// holdCaches keeps others from sweeping them. What is no layout is not swept either.
func (b *buildCmd) holdCaches(ctx context.Context) (h heldCaches) {
	hold := func(to *[]*image.LayoutTarget, dir string) {
		if t, err := image.NewLayout(dir); err == nil {
			t.Hold(ctx)
			*to = append(*to, t)
		}
	}
	if b.cacheDir != "" {
		hold(&h.layers, b.cacheDir)
	}
	if l, err := image.ParseLocation(b.CacheMountsFrom); err == nil && l.Transport == image.InLayout {
		hold(&h.mounts, l.Path)
	}
	return h
}

// sweep lets go of them, and sweeps those that the build has written.
func (h heldCaches) sweep(ctx context.Context, out *term.Output, b *buildCmd) {
	for _, t := range slices.Concat(h.layers, h.mounts) {
		t.Release()
	}
	var written []*image.LayoutTarget
	if len(b.CacheTo) > 0 {
		written = h.layers
	}
	if b.savedTo != nil {
		written = append(written, b.savedTo)
	}
	for _, t := range written {
		if err := t.Sweep(ctx); err != nil && ctx.Err() == nil && !out.Quiet {
			fmt.Fprintln(out.Err, "!", report.Clean(err.Error()))
		}
	}
}

// swept removes from a place of cache mounts what is of no use there any more, where
// lighter has to.
func swept(ctx context.Context, p cachemount.Place) error {
	if t, ok := p.Target.(*image.LayoutTarget); ok {
		return t.Sweep(ctx)
	}
	return nil
}
