package main

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/tonistiigi/go-csvvalue"

	"github.com/lighter-oci/lighter/internal/cachemount"
	"github.com/lighter-oci/lighter/internal/event"
	"github.com/lighter-oci/lighter/internal/image"
	"github.com/lighter-oci/lighter/internal/project"
	"github.com/lighter-oci/lighter/internal/registry"
	"github.com/lighter-oci/lighter/internal/registry/gha"
)

// mountsTag is the name of cache mounts where none is said.
const mountsTag = "mounts"

// mountsTo is what --cache-mounts-to says.
type mountsTo struct {
	ref    string
	always bool // after a failed build, too
	push   cachemount.PushOptions
}

// unusedMounts is how long a mount is kept that no build has sent; nobody misses
// one that the project's Dockerfile no longer has.
const unusedMounts = 30 * 24 * time.Hour

// parseMountsTo reads what --cache-mounts-to says, REF and keys.
func parseMountsTo(s string) (mountsTo, error) {
	const flag = "--cache-mounts-to"
	ref, keys, err := refAndKeys(flag, s)
	if err != nil {
		return mountsTo{}, err
	}
	to, err := keptMounts(flag, keys)
	to.ref = ref
	return to, err
}

// refAndKeys parts REF[,when=always][,max-size=SIZE][,max-age=DURATION].
func refAndKeys(flag, s string) (ref string, keys []string, err error) {
	parts, err := csvvalue.Fields(s, nil)
	if err != nil || len(parts) == 0 || parts[0] == "" || strings.Contains(parts[0], "=") {
		return "", nil, fmt.Errorf("%s %.300q: want REF, or REF,when=always,max-size=10GB,max-age=720h", flag, s)
	}
	return parts[0], parts[1:], nil
}

// keptMounts is what keys, each KEY=VALUE, say of what is kept of cache mounts.
func keptMounts(flag string, keys []string) (to mountsTo, err error) {
	to.push.MaxAge = unusedMounts
	seen := map[string]bool{}
	for _, p := range keys {
		key, value, _ := strings.Cut(p, "=")
		if seen[key] {
			return to, fmt.Errorf("%s: %s is there twice", flag, key)
		}
		seen[key] = true
		switch key {
		case "when":
			if value != "always" && value != "success" {
				err = errors.New("want always or success")
			}
			to.always = value == "always"
		case "max-size":
			to.push.MaxSize, err = project.ParseSize(value)
		case "max-age":
			to.push.MaxAge, err = project.ParseAge(value)
			to.push.Export.MaxAge = to.push.MaxAge
		default:
			return to, fmt.Errorf("%s: %.100q is not known: want when, max-size or max-age", flag, key)
		}
		if err != nil {
			return to, fmt.Errorf("%s: %s=%.100s: %w", flag, key, value, err)
		}
	}
	return to, nil
}

// isGHA tells whether cache mounts are there.
func isGHA(mounts string) bool { return mounts == inGHA || strings.HasPrefix(mounts, inGHA+":") }

// ghaError is why a cache that is there cannot be used.
func ghaError(layers, mounts string) error {
	if layers != inGHA && !isGHA(mounts) {
		return nil
	}
	_, err := gha.Open(os.Getenv)
	return err
}

// mountsIn is a place where cache mounts are kept, to read from or to write to.
func mountsIn(flag, ref string, client *registry.Client, write bool) (cachemount.Place, error) {
	if isGHA(ref) {
		store, err := gha.Open(os.Getenv)
		if err != nil {
			return cachemount.Place{}, fmt.Errorf("%s %s: %w", flag, ref, err)
		}
		name := cmp.Or(strings.TrimPrefix(strings.TrimPrefix(ref, inGHA), ":"), mountsTag)
		return cachemount.Place{Source: func() (image.Source, error) { return store, nil }, Target: store, Name: name}, nil
	}
	l, err := image.ParseLocation(ref)
	if err != nil {
		return cachemount.Place{}, fmt.Errorf("%s: %w", flag, err)
	}
	switch l.Transport {
	case image.InRegistry:
		named, err := image.ParseReference(l.Ref)
		if err != nil {
			return cachemount.Place{}, err
		}
		if named.Tag == "" {
			return cachemount.Place{}, fmt.Errorf("%s %s: cache mounts have a tag, not a digest", flag, ref)
		}
		repo, err := client.Repository(named)
		if err != nil {
			return cachemount.Place{}, err
		}
		return cachemount.Place{Source: func() (image.Source, error) { return repo, nil }, Target: repo, Name: named.Tag}, nil
	case image.InLayout:
		if l.Ref == "" {
			l.Ref = mountsTag
		}
		p := cachemount.Place{Name: l.Ref, Source: func() (image.Source, error) {
			layout, err := image.OpenLayout(l.Path)
			if errors.Is(err, image.ErrNotFound) {
				return nil, fmt.Errorf("%w: %w", cachemount.ErrNone, err)
			}
			return layout, err
		}}
		if write {
			target, err := image.CreateLayout(l.Path)
			if err != nil {
				return p, fmt.Errorf("%s: %w", flag, err)
			}
			p.Target = target
		}
		return p, nil
	}
	return cachemount.Place{}, fmt.Errorf("%s %s: cache mounts are kept in a registry, in oci:DIR or gha", flag, ref)
}

// travel is how the build's cache mounts travel; nil where none do.
func (b *buildCmd) travel(client *registry.Client, report func(event.Mount)) (*cachemount.Travel, mountsTo, error) {
	var to mountsTo
	if b.CacheMountsFrom == "" && b.CacheMountsTo == "" {
		return nil, to, nil
	}
	t := &cachemount.Travel{Report: report}
	if b.CacheMountsFrom != "" {
		from, err := mountsIn("--cache-mounts-from", b.CacheMountsFrom, client, false)
		if err != nil {
			return nil, to, err
		}
		t.From, t.FromName = &from, b.CacheMountsFrom
	}
	if b.CacheMountsTo != "" {
		var err error
		if to, err = parseMountsTo(b.CacheMountsTo); err != nil {
			return nil, to, err
		}
		if _, err := mountsIn("--cache-mounts-to", to.ref, client, false); err != nil {
			return nil, to, err
		}
		t.To = func() (cachemount.Place, error) {
			place, err := mountsIn("--cache-mounts-to", to.ref, client, true)
			b.savedTo, _ = place.Target.(*image.LayoutTarget)
			return place, err
		}
		t.ToName, t.Push = to.ref, to.push
	}
	return t, to, nil
}
