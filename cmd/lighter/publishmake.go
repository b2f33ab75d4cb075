package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"github.com/lighter-oci/lighter/internal/codec"
	"github.com/lighter-oci/lighter/internal/image"
	"github.com/lighter-oci/lighter/internal/term"
)

// sendingAtOnce bounds how many variants are on their way at a time, each with
// its plain layers on the disk.
const sendingAtOnce = 4

// make builds or packs all images, pushes them without names, and proves them.
// Variants compile one after the other, as their compilers use all cores; while
// one does, those before it are packed and pushed. An engine has its own order.
func (p *publishCmd) make(ctx context.Context, out *term.Output, flags *engineFlags, r *release) ([]digest.Digest, error) {
	pool := codec.NewPool(0)
	defer pool.Close()
	sending := newTurn()
	roots := make([]digest.Digest, len(r.Images))
	queue, outs := out.NewQueue(len(r.Images))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(sendingAtOnce)
	if r.Images[0].With == "build" {
		g.SetLimit(1)
	}
	before := make(chan struct{})
	close(before)
	for i, img := range r.Images {
		compiles, compiled := before, make(chan struct{})
		before = compiled
		g.Go(func() (err error) {
			defer queue.End(i)
			select {
			case <-compiles:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
			if img.Variant != "" && p.Progress != "quiet" {
				fmt.Fprintln(outs[i].Err, "\nvariant "+img.Variant)
			}
			ended := p.rec.step("image "+img.Variant, img.With+" "+cmp.Or(img.Variant, img.Repository))
			defer func() { ended(err) }()
			if img.With == "build" {
				if roots[i], err = p.build(ctx, outs[i], flags, r, img); err == nil {
					close(compiled)
				}
			} else {
				roots[i], err = p.pack(ctx, outs[i], r, img, partOfRelease{r.Version, p.rec.id(), pool, sending, func() { close(compiled) }})
			}
			if err != nil && img.Variant != "" {
				err = fmt.Errorf("variant %s: %w", img.Variant, err)
			}
			return err
		})
	}
	return roots, g.Wait()
}

// output is how an image is pushed without a name.
func (img releaseImage) output() []string {
	return []string{"type=image,push=true,push-by-digest=true,name=" + img.Repository}
}

func (p *publishCmd) pack(ctx context.Context, out *term.Output, r *release, img releaseImage, part partOfRelease) (digest.Digest, error) {
	c := &packCmd{Project: r.proj.Path, Variant: img.Variant, Platform: p.Platform, Output: img.output(), Progress: p.Progress, Format: "text", release: part}
	return c.run(ctx, out)
}

func (p *publishCmd) build(ctx context.Context, out *term.Output, flags *engineFlags, r *release, img releaseImage) (digest.Digest, error) {
	dir, discard, err := image.TempDir("")
	if err != nil {
		return "", err
	}
	defer discard()
	b := &buildCmd{
		Project: r.proj.Path, Variant: img.Variant, Platform: p.Platform, Output: img.output(),
		MetadataFile: filepath.Join(dir, "metadata.json"), Progress: p.Progress, Format: "text", Call: "build", version: r.Version, release: p.rec.id(),
	}
	if err := b.Run(ctx, out, flags); err != nil {
		return "", err
	}
	raw, err := os.ReadFile(b.MetadataFile)
	if err != nil {
		return "", err
	}
	var made struct {
		Digest digest.Digest `json:"containerimage.digest"`
	}
	if err := json.Unmarshal(raw, &made); err != nil {
		return "", err
	}
	return made.Digest, made.Digest.Validate()
}
