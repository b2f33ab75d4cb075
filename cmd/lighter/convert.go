package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/lighter-oci/lighter/internal/codec"
	"github.com/lighter-oci/lighter/internal/event"
	"github.com/lighter-oci/lighter/internal/history"
	"github.com/lighter-oci/lighter/internal/image"
	"github.com/lighter-oci/lighter/internal/report"
	"github.com/lighter-oci/lighter/internal/term"
)

// convertCmd makes another image of one that exists, without a build.
type convertCmd struct {
	Source      string `arg:"" help:"Image to read: NAME in a registry, oci:DIR, oci-archive:FILE, docker-archive:FILE, docker-daemon:NAME or containerd:NAME."`
	Destination string `arg:"" help:"Where it goes, written the same way."`

	Compression      string   `predictor:"conversion" placeholder:"CODEC[:LEVEL]" help:"Of layers: zstd[:1-22], zstd:chunked[:1-22], gzip[:1-9], uncompressed, or keep (default ${compression}; keep for docker-archive: and docker-daemon:)."`
	AddCompression   []string `predictor:"compression" placeholder:"CODEC[:LEVEL]" help:"A further variant of each image in one index: gzip for clients that read nothing else."`
	ForceCompression bool     `help:"Make layers anew whose level nobody knows, too, and plain ones of zstd:chunked where zstd is asked for."`
	Format           string   `enum:"text,json" default:"text" help:"json: the result on standard output, too, for programs."`
	Quiet            bool     `short:"q" help:"Print only the digest."`

	chunked bool
}

// Help is what `lighter convert --help` says below the flags.
func (convertCmd) Help() string {
	return "All platforms and attestations are kept; diffIDs and configs never change. Of an index in gzip and zstd each image becomes one in " +
		"--compression, and one more for each --add-compression. The tag is set last. " +
		"Interrupted work goes on where it was in registries and in oci: directories: the same command finds the layers that are finished.\n\n" +
		"docker-archive: holds one platform, as does docker-daemon: unless it keeps images in containerd: " +
		"this machine's, or the daemon's, is taken from an image of several. Daemons and docker-archive: get an image when it is complete: " +
		"until then it needs room in $TMPDIR, or beside the file. Reading from docker-daemon: needs room in $TMPDIR for all layers uncompressed. " +
		"Platforms that a daemon has not pulled are left out, and named."
}

// variants are the compressions asked for; none to keep what there is.
func (c *convertCmd) variants(to image.Location) ([]codec.Compression, error) {
	if len(c.AddCompression) > 0 && to.Transport == image.InDockerArchive {
		return nil, errors.New("--add-compression: a docker-archive holds one variant")
	}
	name := c.Compression
	if name == "" {
		name = defaultFor(to, len(c.AddCompression) > 0 || c.ForceCompression)
	}
	if name == "keep" {
		if len(c.AddCompression) > 0 || c.ForceCompression {
			return nil, errors.New("--compression keep: it changes no layer, so nothing can be added or forced")
		}
		return nil, nil
	}
	_, variants, err := compressions(c.parse, name, c.AddCompression)
	return variants, err
}

// parse reads a compression that this binary is to make, and notes whether it
// is zstd:chunked.
func (c *convertCmd) parse(s string) (codec.Compression, error) {
	comp, chunked, err := parseCompression(s)
	if err != nil {
		return comp, fmt.Errorf("%w, or --compression keep", err)
	}
	c.chunked = c.chunked || chunked
	return comp, comp.Validate()
}

// defaultFor is what layers become for a destination where nothing was asked
// for. Docker unpacks what it gets, so that compressing for it is work for
// nobody; some of what reads its archives knows no zstd.
func defaultFor(to image.Location, asked bool) string {
	if !asked && (to.Transport == image.InDocker || to.Transport == image.InDockerArchive) {
		return "keep"
	}
	return defaultCompression
}

// Run converts.
func (c *convertCmd) Run(ctx context.Context, out *term.Output) (err error) {
	out.JSON, out.Quiet = c.Format == "json", c.Quiet
	from, err := image.ParseLocation(c.Source)
	if err != nil {
		return usageError{err}
	}
	to, err := image.ParseLocation(c.Destination)
	if err != nil {
		return usageError{err}
	}
	variants, err := c.variants(to)
	if err != nil {
		return usageError{err}
	}
	rec := c.record(ctx, out, from, to)
	defer func() { rec.end(ctx, err) }()
	places := newPlaces()
	defer func() { err = errors.Join(err, places.Close()) }()
	src, err := places.source(ctx, from)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, src.close()) }()
	dst, err := places.target(ctx, to)
	if err != nil {
		return err
	}
	defer dst.discard()
	pool := codec.NewPool(0)
	defer pool.Close()
	view := out.NewTransfer(c.Quiet)
	defer view.Close()
	started := time.Now()
	ended := rec.step("convert", "convert "+from.Short()+" to "+to.Short())
	got, notes, err := copyImage(ctx, src, dst, image.CopyOptions{
		Variants: variants, Chunked: c.chunked, Force: c.ForceCompression, Pool: pool, Journal: journal(), Report: dst.told(func(e event.Event) {
			view.Add(e)
			rec.converted(e, dst.sent, to)
		}),
	})
	view.Close()
	ended(err)
	if err != nil {
		if !strings.HasPrefix(err.Error(), from.Short()+": ") {
			err = fmt.Errorf("%s: %w", from.Short(), err)
		}
		return orPath(c.Destination, to, orPath(c.Source, from, fmt.Errorf("convert %w", err)))
	}
	rep := conversion(from, to, got, notes, time.Since(started))
	if rep.Proofs, err = places.prove(ctx, to, got, variants, image.VerifyOptions{ForceBase: c.ForceCompression, Chunked: c.chunked}); err != nil {
		return fmt.Errorf("converted, but reading it back failed: %w", err)
	}
	if n := got.Source.VariantCount(); len(variants) > 0 && n > len(variants) {
		rep.Notes = append(rep.Notes, fmt.Sprintf("%s has %d variants of each image, and %d went there: --add-compression keeps more", from.Short(), n, len(variants)))
	}
	if rep.LeftBehind, err = leftBehind(ctx, src, got); err != nil {
		rep.Notes = append(rep.Notes, "signatures could not be looked for: "+err.Error())
	}
	rec.told(nil, rep.Proofs, nil)
	rec.add(event.Event{Result: &event.Result{Digest: got.Root.Digest.String(), Names: []string{to.Short()}}})
	if c.Quiet && !out.JSON {
		if _, err := fmt.Fprintln(out.Out, got.Root.Digest); err != nil {
			return err
		}
	}
	if err := out.Conversion(rep); err != nil {
		return err
	}
	if slices.ContainsFunc(rep.Proofs, func(p report.Proof) bool { return !p.OK() }) {
		return codeError{code: exitMismatch}
	}
	return nil
}

// record begins the conversion's record in the history: of what it makes.
func (c *convertCmd) record(ctx context.Context, out *term.Output, from, to image.Location) *recording {
	begun := history.Begun{Verb: "convert", Names: []string{to.Short()}, Engine: thisMachine}
	begun.Project, _, _ = strings.Cut(path.Base(from.Short()), ":")
	return startRecording(ctx, out, begun, "")
}

// converted records an event of a copy. What was converted was sent there, too.
func (r *recording) converted(e event.Event, sent event.LayerAction, to image.Location) {
	r.add(e)
	if e.Layer == nil || e.Layer.Action != event.LayerConverted || sent == "" {
		return
	}
	l := *e.Layer
	l.Action, l.Took, l.Where = sent, 0, to.Short()
	r.add(event.Event{Time: e.Time, Layer: &l})
}

// Resume is what the same command does after an interruption.
func (c *convertCmd) Resume() string {
	to, err := image.ParseLocation(c.Destination)
	switch {
	case err != nil:
		return ""
	case to.Transport == image.InRegistry, to.Transport == image.InLayout:
		return "the same command goes on with the layers that are not finished"
	}
	return "the same command starts over: " + string(to.Transport) + ": gets an image when it is complete"
}

// leftBehind lists the signatures and other referrers of what has another digest
// now.
func leftBehind(ctx context.Context, src *readable, got *image.Copied) ([]string, error) {
	repo, ok := src.Source.(interface {
		Referrers(ctx context.Context, d digest.Digest) ([]string, error)
	})
	left := []string{}
	if !ok {
		return left, nil
	}
	for _, d := range slices.Sorted(maps.Keys(got.Replaced)) {
		found, err := repo.Referrers(ctx, d)
		if err != nil {
			return left, err
		}
		left = append(left, found...)
	}
	return left, nil
}

// journal is where conversions are remembered; it may be removed at any time.
func journal() *image.Journal {
	dir, err := os.UserCacheDir()
	if err != nil { // no HOME: the next one starts from nothing
		return nil
	}
	return image.OpenJournal(filepath.Join(dir, "lighter", "converted"))
}

// conversion is what was done in the words of package report.
func conversion(from, to image.Location, got *image.Copied, notes []string, took time.Duration) report.Conversion {
	out := report.Conversion{
		Source: from.String(), SourceRoot: got.Source.Root.Digest.String(), Destination: to.String(), Root: got.Root.Digest.String(),
		Took: report.Seconds(took), Layers: []report.ConvertedLayer{}, LeftBehind: []string{}, Notes: append([]string{}, notes...),
	}
	for _, l := range got.Layers {
		out.Layers = append(out.Layers, report.ConvertedLayer{
			Platform: l.Platform, Source: l.Source.Digest.String(), Was: l.Was, Before: l.Source.Size,
			Digest: l.Blob.Digest.String(), Is: l.Is, After: l.Blob.Size, Tar: l.In, Action: l.Action, Took: report.Seconds(l.Took),
		})
	}
	return out
}
