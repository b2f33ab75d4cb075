package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/lighter-oci/lighter/internal/codec"
	"github.com/lighter-oci/lighter/internal/image"
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
}

// source opens a location to read from.
func (p *places) source(l image.Location) (*readable, error) {
	switch l.Transport {
	case image.InRegistry:
		ref, err := image.ParseReference(l.Ref)
		if err != nil {
			return nil, err
		}
		repo, err := p.registry.Repository(ref)
		if err != nil {
			return nil, err
		}
		return &readable{repo, ref.Identifier(), ref, func() error { return nil }}, nil
	case image.InLayout, image.InArchive:
		open := image.OpenLayout
		if l.Transport == image.InArchive {
			open = image.OpenArchive
		}
		layout, err := open(l.Path)
		if err != nil {
			return nil, err
		}
		return &readable{layout, l.Ref, image.Reference{}, layout.Close}, nil
	}
	return nil, fmt.Errorf("%s: reading from %s: is not possible yet", l, l.Transport)
}

// writable is a location opened for writing.
type writable struct {
	image.Target
	names []string
	// finish is called when all has been written, discard always.
	finish  func() error
	discard func()
}

// target opens a location to write to.
func (p *places) target(l image.Location) (*writable, error) {
	nothing := &writable{finish: func() error { return nil }, discard: func() {}}
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
		nothing.Target, nothing.names = repo, []string{ref.Tag}
		return nothing, nil
	case image.InLayout:
		layout, err := image.CreateLayout(l.Path)
		if err != nil {
			return nil, err
		}
		nothing.Target, nothing.names = layout, []string{l.Ref}
		return nothing, nil
	case image.InArchive:
		if info, err := os.Stat(l.Path); err == nil && info.IsDir() {
			return nil, usageError{errors.New(l.String() + ": it is a directory: name a file")}
		}
		archive, err := image.CreateArchive(l.Path)
		if err != nil {
			return nil, err
		}
		return &writable{archive, []string{l.Ref}, archive.Finish, archive.Discard}, nil
	}
	return nil, fmt.Errorf("%s: writing to %s: is not possible yet", l, l.Transport)
}

// prove reads an image back from where it went, if that can be read by digest.
func (p *places) prove(ctx context.Context, l image.Location, got *image.Copied, variants []codec.Compression, force bool) ([]report.Proof, error) {
	proofs := []report.Proof{}
	switch l.Transport {
	case image.InRegistry, image.InLayout, image.InArchive:
	default:
		return proofs, nil
	}
	back, err := p.source(l)
	if err != nil {
		return proofs, err
	}
	defer back.close()
	img, err := image.Read(ctx, back, got.Root.Digest.String(), image.ReadOptions{})
	if err != nil {
		return proofs, err
	}
	return append(proofs, proofsOf(img, l.Short(), variants, force)...), nil
}

// copyImage copies, and finishes what the destination needs.
func copyImage(ctx context.Context, src *readable, dst *writable, opts image.CopyOptions) (*image.Copied, error) {
	opts.From = src.lies
	got, err := image.Copy(ctx, src, src.ref, dst, dst.names, opts)
	if err == nil {
		err = dst.finish()
	}
	return got, err
}
