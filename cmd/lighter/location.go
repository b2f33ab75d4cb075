package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/lighter-oci/lighter/internal/codec"
	"github.com/lighter-oci/lighter/internal/event"
	"github.com/lighter-oci/lighter/internal/image"
	"github.com/lighter-oci/lighter/internal/image/daemon"
	"github.com/lighter-oci/lighter/internal/registry"
	"github.com/lighter-oci/lighter/internal/report"
)

// places opens what locations name. One registry client serves all of them, so
// that connections and limits are shared.
type places struct{ registry *registry.Client }

func newPlaces() *places {
	return &places{registry.New(registry.Options{UserAgent: "lighter/" + version()})}
}

func (p *places) Close() error { return p.registry.Close() }

// readable is a location opened for reading.
type readable struct {
	image.Source
	ref   string          // of the image
	lies  image.Reference // where that is a registry
	close func() error
	notes []string // what a user should know of what was found
}

// pathError is what happened to an image of a registry that was meant to be a
// path, most likely.
type pathError struct {
	error
	hint string
}

func (e pathError) Unwrap() error { return e.error }

// Hint is the next step.
func (e pathError) Hint() string { return e.hint }

// orPath adds to the next step after err, of an image at l that was typed as name,
// that a path of that name wants its transport: one that is there, or that could
// be made in a directory that is.
func orPath(name string, l image.Location, err error) error {
	if err == nil || l.Transport != image.InRegistry {
		return err
	}
	var hint string
	info, missing := os.Stat(name)
	dir, noDir := os.Stat(filepath.Dir(name))
	switch {
	case missing == nil && info.IsDir():
		hint = "if the directory is meant, write oci:" + name
	case missing == nil, noDir == nil && dir.IsDir() && filepath.Base(name) != name:
		hint = fmt.Sprintf("if a path is meant, write oci:%[1]s, oci-archive:%[1]s or docker-archive:%[1]s", name)
	default:
		return err
	}
	var hinted interface{ Hint() string }
	if errors.As(err, &hinted) {
		hint = hinted.Hint() + "; " + hint
	}
	return pathError{err, hint}
}

// itself opens a location to prove what is there: mirrors of a registry may have
// something else.
func (p *places) itself(ctx context.Context, l image.Location) (*readable, error) {
	if l.Transport != image.InRegistry {
		return p.source(ctx, l)
	}
	return inRegistry(l, p.registry.Repository)
}

// inRegistry opens a repository in one of the ways that a client has.
func inRegistry[S image.Source](l image.Location, open func(image.Reference) (S, error)) (*readable, error) {
	ref, err := image.ParseReference(l.Ref)
	if err != nil {
		return nil, err
	}
	repo, err := open(ref)
	if err != nil {
		return nil, err
	}
	return &readable{repo, ref.Identifier(), ref, func() error { return nil }, nil}, nil
}

// source opens a location to read from.
func (p *places) source(ctx context.Context, l image.Location) (*readable, error) {
	switch l.Transport {
	case image.InRegistry:
		return inRegistry(l, p.registry.Mirrored)
	case image.InLayout, image.InArchive:
		open := image.OpenLayout
		if l.Transport == image.InArchive {
			open = image.OpenArchive
		}
		layout, err := open(l.Path)
		if err != nil {
			return nil, err
		}
		return &readable{layout, l.Ref, image.Reference{}, layout.Close, nil}, nil
	case image.InDockerArchive:
		archive, err := image.OpenDockerArchive(l.Path)
		if err != nil {
			return nil, err
		}
		return present(ctx, l, &readable{Source: archive, ref: l.Ref, close: archive.Close})
	}
	open := daemon.OpenDocker
	if l.Transport == image.InContainerd {
		open = daemon.OpenContainerd
	}
	stored, err := open(ctx, l.Ref, daemon.Options{})
	if err != nil {
		return nil, err
	}
	return present(ctx, l, &readable{Source: stored, ref: stored.Ref, close: stored.Close})
}

// present leaves out what r, opened from l, has only the digests of.
func present(ctx context.Context, l image.Location, r *readable) (*readable, error) {
	src, left, err := image.Present(ctx, r.Source, r.ref)
	if err != nil {
		return nil, errors.Join(err, r.close())
	}
	r.Source = src
	if len(left) > 0 {
		r.notes = []string{fmt.Sprintf("%s has a part of the image only; it lacks %s", l.Short(), strings.Join(left, ", "))}
	}
	return r, nil
}

// writable is a location opened for writing.
type writable struct {
	image.Target
	names []string
	// narrow answers what of the image ref is to be copied; nil is all of it.
	narrow func(ctx context.Context, src image.Source, ref string) (string, error)
	// sent is what a layer is that went there; "" where only finish knows.
	sent event.LayerAction
	// finish is called when all has been written and answers notes; discard is
	// called always.
	finish  func(ctx context.Context, report func(event.Event)) ([]string, error)
	discard func()
}

// told hands on the events of an image.Copy, for which every layer that travels is
// pushed, in the words of the place.
func (w *writable) told(report func(event.Event)) func(event.Event) {
	return func(e event.Event) {
		if e.Layer != nil && e.Layer.Action == event.LayerPushed {
			if w.sent == "" {
				return
			}
			l := *e.Layer
			l.Action = w.sent
			e.Layer = &l
		}
		report(e)
	}
}

// target opens a location to write to.
func (p *places) target(ctx context.Context, l image.Location) (*writable, error) {
	nothing := &writable{
		sent:   event.LayerWritten,
		finish: func(context.Context, func(event.Event)) ([]string, error) { return nil, nil }, discard: func() {},
	}
	if info, err := os.Stat(l.Path); err == nil && info.IsDir() && l.Transport != image.InLayout {
		return nil, usageError{errors.New(l.String() + ": it is a directory: name a file")}
	}
	switch l.Transport {
	case image.InRegistry:
		ref, err := image.ParseReference(l.Ref)
		if err != nil {
			return nil, err
		}
		if ref.Tag == "" {
			return nil, usageError{fmt.Errorf("%s: a destination is named by a tag, not by a digest", l)}
		}
		repo, err := p.registry.Repository(ref)
		if err != nil {
			return nil, err
		}
		nothing.Target, nothing.names, nothing.sent = repo, []string{ref.Tag}, event.LayerPushed
		return nothing, nil
	case image.InLayout:
		layout, err := image.NewLayout(l.Path)
		if err != nil {
			return nil, err
		}
		nothing.Target, nothing.names = layout, []string{l.Ref}
		return nothing, nil
	case image.InArchive:
		archive, err := image.CreateArchive(l.Path)
		if err != nil {
			return nil, err
		}
		finish := func(context.Context, func(event.Event)) ([]string, error) { return nil, archive.Finish() }
		return &writable{Target: archive, names: []string{l.Ref}, sent: event.LayerWritten, finish: finish, discard: archive.Discard}, nil
	case image.InDockerArchive:
		return staged(daemon.File{Path: l.Path}, filepath.Dir(l.Path), l, l.Short())
	case image.InDocker, image.InContainerd:
		kind := "docker"
		if l.Transport == image.InContainerd {
			kind = "containerd"
		}
		to, err := daemon.Detect(ctx, kind, daemon.Options{})
		if err != nil {
			return nil, err
		}
		return staged(to, "", l, l.Short())
	}
	return nil, fmt.Errorf("%s: nothing can be written there", l)
}

// prove reads an image back from where it went, if that can be read by digest.
func (p *places) prove(ctx context.Context, l image.Location, got *image.Copied, variants []codec.Compression, asked image.VerifyOptions) ([]report.Proof, error) {
	proofs := []report.Proof{}
	switch l.Transport {
	case image.InRegistry, image.InLayout, image.InArchive:
	default:
		return proofs, nil
	}
	back, err := p.itself(ctx, l)
	if err != nil {
		return proofs, err
	}
	defer func() { _ = back.close() }()
	img, err := image.Read(ctx, back, got.Root.Digest.String(), image.ReadOptions{})
	if err != nil {
		return proofs, err
	}
	return proofsOf(img, l.Short(), variants, func(_ *image.Image, want codec.Compression) image.VerifyOptions {
		opts := asked
		opts.Chunked = asked.Chunked && want.Codec == codec.Zstd
		opts.KeepUnknown = !asked.ForceBase
		opts.OldClients = len(variants) > 1 && want.Codec == codec.Gzip
		return opts
	}), nil
}

// staged is a destination that takes an image as a whole; until then it lies
// in a directory under dir. said is what notes call it.
func staged(to daemon.Target, dir string, l image.Location, said string) (*writable, error) {
	stage, err := daemon.Stage(to, dir, []string{l.Ref})
	if err != nil {
		return nil, err
	}
	finish := func(ctx context.Context, report func(event.Event)) ([]string, error) {
		loaded, err := stage.Finish(ctx, func(l event.Layer) { report(event.Event{Time: time.Now(), Layer: &l}) })
		if err != nil {
			return nil, err
		}
		var notes []string
		if len(loaded.Left) > 0 {
			notes = append(notes, fmt.Sprintf("%s takes one platform, %s; left behind: %s", said, loaded.Platform, strings.Join(loaded.Left, ", ")))
		}
		if loaded.Decoded > 0 {
			layers := "1 zstd layer"
			if loaded.Decoded > 1 {
				layers = fmt.Sprintf("%d zstd layers", loaded.Decoded)
			}
			notes = append(notes, layers+" went there uncompressed: Docker before 23 reads no zstd")
		}
		return notes, nil
	}
	return &writable{Target: stage, names: []string{l.Ref}, narrow: stage.Narrow, finish: finish, discard: stage.Discard}, nil
}

// copyImage copies, finishes what the destination needs, and answers what a
// user should know besides.
func copyImage(ctx context.Context, src *readable, dst *writable, opts image.CopyOptions) (*image.Copied, []string, error) {
	opts.From = src.lies
	ref := src.ref
	if dst.narrow != nil {
		narrowed, err := dst.narrow(ctx, src, ref)
		if err != nil {
			return nil, nil, err
		}
		ref = narrowed
	}
	got, err := image.Copy(ctx, src, ref, dst, dst.names, opts)
	if err != nil {
		return nil, nil, err
	}
	notes, err := dst.finish(ctx, opts.Report)
	return got, append(src.notes, notes...), err
}
