package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/containerd/platforms"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/lighter-oci/lighter/internal/codec"
	"github.com/lighter-oci/lighter/internal/image"
	"github.com/lighter-oci/lighter/internal/report"
	"github.com/lighter-oci/lighter/internal/term"
)

// inspectCmd shows what an image is by its own bytes.
type inspectCmd struct {
	Image string `arg:"" help:"NAME in a registry, oci:DIR, oci-archive:FILE, docker-archive:FILE, docker-daemon:NAME or containerd:NAME."`

	Platform string   `predictor:"platform" placeholder:"OS/ARCH" help:"Only this platform, as linux/arm64."`
	Require  []string `predictor:"required" placeholder:"CODEC[:LEVEL],..." help:"Prove that every layer is zstd, zstd:3, zstd:chunked, gzip …; exit 3 and name those that are not. Of an image in several variants name each: gzip,zstd:3."`
	Raw      bool     `help:"Print the manifest or index as it is; with --platform, that platform's manifest."`
	Format   string   `enum:"text,json" default:"text" help:"text or json."`
}

// Help is what `lighter inspect --help` says below the flags.
func (inspectCmd) Help() string {
	return "Of each layer the first and the last few KiB are read, never a whole one, and no media type is believed. " +
		"The size of a tar is shown where the blob tells it: gzip does not. What --require proves is read from the registry itself, never from a mirror."
}

// Run inspects.
func (c *inspectCmd) Run(ctx context.Context, out *term.Output) (err error) {
	out.JSON = c.Format == "json"
	required, err := c.required()
	if err != nil {
		return usageError{err}
	}
	if c.Platform != "" {
		if _, err := platforms.Parse(c.Platform); err != nil {
			return usageError{fmt.Errorf("--platform %.100q: want OS/ARCHITECTURE[/VARIANT], as linux/arm64", c.Platform)}
		}
	}
	at, err := image.ParseLocation(c.Image)
	if err != nil {
		return usageError{err}
	}
	places := newPlaces()
	defer func() { err = errors.Join(err, places.Close()) }()
	open := places.source
	if required != nil {
		open = places.itself
	}
	src, err := open(ctx, at)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, src.close()) }()
	if c.Raw {
		return orPath(c.Image, at, c.raw(ctx, out, src))
	}
	img, err := c.read(ctx, src)
	if err != nil {
		return orPath(c.Image, at, err)
	}
	found := inspection(at, img)
	if required != nil {
		if n := img.VariantCount(); n > len(required.variants) && len(required.variants) > 1 {
			return codeError{exitMismatch, fmt.Errorf("%s has %d variants for a platform, and --require names %d", at.Short(), n, len(required.variants))}
		}
		found.Proofs = required.proofs(at, img)
	}
	if err := out.Inspection(found); err != nil {
		return err
	}
	if slices.ContainsFunc(found.Proofs, func(p report.Proof) bool { return !p.OK() }) {
		return codeError{code: exitMismatch}
	}
	return nil
}

// requirement is what --require says: the variants, in the order of an index,
// and how each is to be looked at.
type requirement struct {
	variants []codec.Compression
	opts     map[codec.Codec]image.VerifyOptions
}

// required reads it; nil where it is not given.
func (c *inspectCmd) required() (*requirement, error) {
	if len(c.Require) == 0 {
		return nil, nil
	}
	if c.Raw {
		return nil, errors.New("--raw prints a manifest and proves nothing: drop --require")
	}
	r := &requirement{opts: map[codec.Codec]image.VerifyOptions{}}
	for _, s := range c.Require {
		want, chunked, err := parseCompression(s)
		if err != nil {
			return nil, fmt.Errorf("--require: %w", err)
		}
		level := strings.TrimPrefix(s, image.TOCChunked)
		r.variants = append(r.variants, want)
		r.opts[want.Codec] = image.VerifyOptions{AnyLevel: !strings.Contains(level, ":"), Chunked: chunked}
	}
	var err error
	if r.variants, err = image.Variants(r.variants...); err != nil {
		return nil, fmt.Errorf("--require %w", err)
	}
	return r, nil
}

// read reads the image, and no more of it than --platform asks for.
func (c *inspectCmd) read(ctx context.Context, src *readable) (*image.Image, error) {
	img, err := image.Read(ctx, src, src.ref, image.ReadOptions{})
	if err != nil {
		return nil, err
	}
	for _, m := range img.Manifests {
		if m.IsImage() {
			if c.Platform == "" {
				return img, nil
			}
			return img.Only(c.Platform)
		}
	}
	return nil, noImageError{c.Image, img}
}

// noImageError is something that an image's name stands for and that is none.
type noImageError struct {
	name string
	img  *image.Image
}

func (e noImageError) Error() string {
	if len(e.img.Manifests) == 0 {
		return e.name + ": the index is empty"
	}
	return fmt.Sprintf("%s is no image, but an artifact of type %.200q", e.name, e.img.Manifests[0].Kind())
}

// Hint is the next step.
func (noImageError) Hint() string { return "`lighter inspect --raw` shows its manifest" }

// raw prints the bytes that the name stands for.
func (c *inspectCmd) raw(ctx context.Context, out *term.Output, src *readable) error {
	desc, err := src.Resolve(ctx, src.ref)
	if err != nil {
		return err
	}
	if c.Platform != "" {
		img, err := c.read(ctx, src)
		if err != nil {
			return err
		}
		var of []ocispec.Descriptor
		for _, m := range img.Manifests {
			if m.IsImage() {
				of = append(of, m.Descriptor)
			}
		}
		if len(of) > 1 {
			return fmt.Errorf("%s has %d images for %s: name one by its digest, %s or %s", c.Image, len(of), c.Platform, of[0].Digest, of[1].Digest)
		}
		desc = of[0]
	}
	b, err := image.ReadAll(ctx, src, desc)
	if err != nil {
		return err
	}
	return out.Raw(b)
}

// proofs hold the layers against what is required. One requirement is about
// every layer that there is.
func (r *requirement) proofs(at image.Location, img *image.Image) []report.Proof {
	var proofs []report.Proof
	if len(r.variants) == 1 {
		proofs = append(proofs, proofOf(img, at.Short(), r.variants[0], r.opts[r.variants[0].Codec]))
	} else {
		proofs = proofsOf(img, at.Short(), r.variants, func(_ *image.Image, want codec.Compression) image.VerifyOptions { return r.opts[want.Codec] })
	}
	convert := "lighter convert --compression " + proofs[0].Want
	for _, p := range proofs[1:] {
		convert += " --add-compression " + p.Want
	}
	several := img.VariantCount() > 1
	for _, p := range proofs {
		for k := range p.Layers {
			l := &p.Layers[k]
			switch is, _, _ := strings.Cut(l.Codec, ":"); {
			case l.Fix == "":
			case several && p.Variant == "" && is != string(r.variants[0].Codec):
				l.Fix = fmt.Sprintf("it has several variants: lighter inspect --require %s,%s %s", is, p.Want, at.Short())
			default:
				l.Fix = fmt.Sprintf("%s --force-compression %s NAME", convert, at.Short())
			}
		}
	}
	return proofs
}
