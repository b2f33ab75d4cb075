package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/lighter-oci/lighter/internal/cachemount"
	"github.com/lighter-oci/lighter/internal/engine"
	"github.com/lighter-oci/lighter/internal/engine/buildkit"
	"github.com/lighter-oci/lighter/internal/event"
	"github.com/lighter-oci/lighter/internal/image"
	"github.com/lighter-oci/lighter/internal/report"
	"github.com/lighter-oci/lighter/internal/term"
)

// cachePlace is where a cache is kept between machines.
type cachePlace struct {
	Ref string `arg:"" placeholder:"REF" help:"Where the cache is: a name in a registry, oci:DIR, or gha:NAME for mounts."`
}

// open opens the place of cache mounts that REF names.
func (c cachePlace) open(p *places, write bool) (cachemount.Place, error) {
	place, err := mountsIn("cache", c.Ref, p.registry, write)
	if err != nil {
		return place, usageError{err}
	}
	return place, nil
}

// ofLayers is what is wrong with a place, and where the mounts are if it has layers.
func (c cachePlace) ofLayers(ctx context.Context, p cachemount.Place, err error) error {
	if !errors.Is(err, cachemount.ErrForeign) {
		return err
	}
	if _, lerr := layerCache(ctx, p); lerr != nil {
		return err
	}
	ref := c.Ref
	if strings.HasPrefix(ref, "oci:") {
		ref = strings.TrimSuffix(ref, ":"+layersTag)
	}
	return fmt.Errorf("%s is a cache of layers; its mounts are at %s", c.Ref, mountsBeside(ref))
}

type cacheInspectCmd struct {
	cachePlace `embed:""`
	Format     string `enum:"text,json" default:"text" help:"text or json."`
}

// cacheContents is what `lighter cache inspect --format json` prints.
type cacheContents struct {
	Ref    string             `json:"ref"`
	Kind   string             `json:"kind"` // "mounts" or "layers"
	Digest string             `json:"digest"`
	Stored int64              `json:"stored"` // bytes where it is
	Mounts []cachemount.Mount `json:"mounts,omitempty"`
	Layers []cachedLayer      `json:"layers,omitempty"`
}

type cachedLayer struct {
	Digest    string `json:"digest"`
	MediaType string `json:"mediaType"`
	Size      int64  `json:"size"`
}

// Run shows what a cache holds, of either kind.
func (c cacheInspectCmd) Run(ctx context.Context, out *term.Output) error {
	p := newPlaces()
	defer p.Close()
	place, err := c.open(p, false)
	if err != nil {
		return err
	}
	found := &cacheContents{Kind: "mounts"}
	art, err := cachemount.Open(ctx, place)
	switch {
	case errors.Is(err, cachemount.ErrForeign):
		var lerr error
		if found, lerr = layerCache(ctx, place); errors.Is(lerr, errNoCache) {
			return fmt.Errorf("%s: %w", c.Ref, lerr)
		} else if lerr != nil {
			return fmt.Errorf("%w; %w", err, lerr)
		}
	case err != nil:
		return err
	default:
		found.Digest, found.Mounts = art.Descriptor.Digest.String(), art.Mounts
		for i := range art.Mounts {
			found.Stored += art.Mounts[i].Stored()
		}
	}
	found.Ref = c.Ref
	if c.Format == "json" {
		return out.Encode(found)
	}
	return found.print(out)
}

// cacheConfig is BuildKit's media type of what a layer cache says of itself.
const cacheConfig = "application/vnd.buildkit.cacheconfig.v0"

// errNoCache is a place that holds something else.
var errNoCache = errors.New("this is no cache, neither of mounts nor of layers: `lighter inspect` shows images")

// layerCache reads BuildKit's cache of layers. That the place holds none is an error.
func layerCache(ctx context.Context, p cachemount.Place) (*cacheContents, error) {
	src, err := p.Source()
	if err != nil {
		return nil, err
	}
	desc, err := src.Resolve(ctx, p.Name)
	if err != nil {
		return nil, err
	}
	b, err := image.ReadAll(ctx, src, desc)
	if err != nil {
		return nil, err
	}
	// As an image it names its config apart, as an index among the others.
	var m struct {
		Config    ocispec.Descriptor
		Layers    []ocispec.Descriptor
		Manifests []ocispec.Descriptor
	}
	if err := json.Unmarshal(b, &m); err != nil {
		return nil, err
	}
	found := &cacheContents{Kind: "layers", Digest: desc.Digest.String()}
	isCache := m.Config.MediaType == cacheConfig
	seen := map[digest.Digest]bool{}
	for _, d := range slices.Concat(m.Layers, m.Manifests) {
		if seen[d.Digest] { // two steps that made the same
			continue
		}
		seen[d.Digest] = true
		if d.MediaType == cacheConfig {
			isCache = true
			continue
		}
		found.Layers = append(found.Layers, cachedLayer{d.Digest.String(), d.MediaType, d.Size})
		found.Stored += d.Size
	}
	if !isCache {
		return nil, errNoCache
	}
	return found, nil
}

func (c cacheContents) print(out *term.Output) error {
	var table report.Table
	if c.Kind == "layers" {
		table.Columns = []report.Column{{Name: "layer"}, {Name: "stored", Right: true}, {Name: "type", Shrink: true}}
		for _, l := range c.Layers {
			table.Add(report.ShortDigest(l.Digest), report.Bytes(l.Size), strings.TrimPrefix(l.MediaType, "application/vnd.oci.image.layer.v1."))
		}
	} else {
		table.Columns = []report.Column{
			{Name: "mount", Shrink: true}, {Name: "platform"}, {Name: "files", Right: true}, {Name: "size", Right: true},
			{Name: "stored", Right: true}, {Name: "sent"},
		}
		for i := range c.Mounts {
			m := &c.Mounts[i]
			name := m.Name()
			if m.From != "" {
				name += " (from)"
			}
			table.Add(name, m.Platform, fmt.Sprint(m.Files), report.Bytes(m.Size), report.Bytes(m.Stored()), m.Pushed.Local().Format(time.DateTime))
		}
	}
	if err := out.Table(table); err != nil {
		return err
	}
	n := report.Plural(len(c.Mounts), "cache mount")
	if c.Kind == "layers" {
		n = report.Plural(len(c.Layers), "layer")
	}
	_, err := fmt.Fprintf(out.Out, "%s, %s in %s\n", n, report.Bytes(c.Stored), c.Ref)
	return err
}

type cachePushCmd struct {
	cachePlace `embed:""`
	Mount      []string `arg:"" optional:"" placeholder:"MOUNT" help:"Cache mounts by target or id (default: all that the engine has)."`
	MaxSize    size     `placeholder:"SIZE" help:"Keep no more than this there, as 10GB: what was of use longest ago goes first."`
	MaxAge     age      `placeholder:"DURATION" help:"Drop what was of no use for so long, as 720h."`
	Format     string   `enum:"text,json" default:"text" help:"text or json."`
}

// Run sends what the engine's cache mounts hold.
func (c cachePushCmd) Run(ctx context.Context, out *term.Output, flags *engineFlags) error {
	p := newPlaces()
	defer p.Close()
	place, err := c.open(p, true)
	if err != nil {
		return err
	}
	o := cachemount.PushOptions{MaxSize: int64(c.MaxSize), MaxAge: time.Duration(c.MaxAge)}
	o.Export.MaxAge = o.MaxAge
	e, err := flags.open(ctx, buildkit.Options{})
	if err != nil {
		return err
	}
	defer e.Close()
	list, err := e.CacheMounts(ctx)
	if err != nil {
		return err
	}
	if list, err = pick(list, c.Mount, "the engine"); err != nil {
		return err
	}
	told := []event.Mount{}
	t := &cachemount.Travel{
		To: func() (cachemount.Place, error) { return place, nil }, ToName: c.Ref, Push: o,
		Report: func(m event.Mount) { told = append(told, m) },
	}
	if err := e.PushMounts(ctx, list, t); err != nil {
		return err
	}
	return errors.Join(travelled(out, told, c.Format), swept(ctx, place))
}

// pick are the mounts of the names that were given, or all.
func pick(all []engine.CacheMount, names []string, of string) ([]engine.CacheMount, error) {
	if len(all) == 0 {
		return nil, fmt.Errorf("%s has no cache mounts: a build of a Dockerfile with RUN --mount=type=cache makes them", of)
	}
	var list []engine.CacheMount
	for _, name := range names {
		n := len(list)
		for _, m := range all {
			if m.ID == name || m.Name() == name {
				list = append(list, m)
			}
		}
		if len(list) == n {
			return nil, fmt.Errorf("%s has no cache mount %s; it has %s", of, name, mountNames(all))
		}
	}
	if len(names) == 0 {
		return all, nil
	}
	return list, nil
}

func mountNames(all []engine.CacheMount) string {
	var names []string
	for _, m := range all {
		names = append(names, m.Name())
	}
	slices.Sort(names)
	return strings.Join(slices.Compact(names), ", ")
}

// travelled says what became of mounts. One that failed is an error.
func travelled(out *term.Output, list []event.Mount, format string) error {
	var failed []event.Mount
	for _, m := range list {
		if m.Action == event.MountFailed {
			failed = append(failed, m)
		}
	}
	if format == "json" {
		if err := out.Encode(list); err != nil {
			return err
		}
	} else {
		table := report.Table{Columns: []report.Column{
			{Name: "mount", Shrink: true}, {Name: "platform"}, {Name: ""}, {Name: "files", Right: true}, {Name: "size", Right: true}, {Name: "moved", Right: true},
		}}
		for _, m := range list {
			table.Add(m.Name, m.Platform, string(m.Action), fmt.Sprint(m.Files), report.Bytes(m.Size), report.Bytes(m.Moved))
		}
		if err := out.Table(table); err != nil {
			return err
		}
	}
	switch len(failed) {
	case 0:
		return nil
	case 1:
		return errors.New(failed[0].Error)
	}
	return fmt.Errorf("%d cache mounts failed, the first: %s", len(failed), failed[0].Error)
}

type cachePullCmd struct {
	cachePlace `embed:""`
	Mount      []string `arg:"" optional:"" placeholder:"MOUNT" help:"Cache mounts by target or id (default: all that are there)."`
	Replace    bool     `help:"Give up what the engine's mounts hold where they have changes of their own."`
	Format     string   `enum:"text,json" default:"text" help:"text or json."`
}

// Run fills the engine's cache mounts.
func (c cachePullCmd) Run(ctx context.Context, out *term.Output, flags *engineFlags) error {
	p := newPlaces()
	defer p.Close()
	place, err := c.open(p, false)
	if err != nil {
		return err
	}
	art, err := cachemount.Open(ctx, place)
	if err != nil {
		return c.ofLayers(ctx, place, err)
	}
	var list []engine.CacheMount
	for _, m := range art.Mounts {
		list = append(list, engine.CacheMount{ID: m.ID, Platform: m.Platform, Base: m.From})
	}
	if list, err = pick(list, c.Mount, c.Ref); err != nil {
		return err
	}
	e, err := flags.open(ctx, buildkit.Options{})
	if err != nil {
		return err
	}
	defer e.Close()
	here, err := e.CacheMounts(ctx)
	if err != nil {
		return err
	}
	told := []event.Mount{} // one mount after the other
	t := &cachemount.Travel{
		From: &place, FromName: c.Ref, Import: cachemount.ImportOptions{Replace: c.Replace},
		Report: func(m event.Mount) { told = append(told, m) },
	}
	for _, m := range list {
		if m.Base != "" && !slices.Contains(here, m) {
			fmt.Fprintf(out.Err, "note: cache mount %s starts from something that this engine has not made yet; a build restores it\n", report.Clean(m.Name()))
			continue
		}
		before := len(told)
		if err := e.PullMount(ctx, m, t); err != nil && (ctx.Err() != nil || len(told) == before) {
			return err // of the engine; what became of the mount is in the report
		}
	}
	return travelled(out, told, c.Format)
}

// prune drops cache mounts where they are kept.
func (c cachePruneCmd) prune(ctx context.Context, out *term.Output, o cachemount.PushOptions) error {
	if o.MaxSize == 0 && o.MaxAge == 0 {
		return usageError{fmt.Errorf("say what may stay of %s: --max-used-space 10GB or --keep-for 720h", c.Ref)}
	}
	p := newPlaces()
	defer p.Close()
	place, err := cachePlace{c.Ref}.open(p, true)
	if err != nil {
		return err
	}
	gone, err := cachemount.Prune(ctx, place, o)
	if err != nil {
		return cachePlace{c.Ref}.ofLayers(ctx, place, err)
	}
	for _, k := range gone {
		fmt.Fprintln(out.Err, "dropped", k)
	}
	if len(gone) == 0 {
		fmt.Fprintln(out.Err, "nothing to drop")
	}
	return swept(ctx, place)
}
