package main

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/lighter-oci/lighter/internal/image"
	"github.com/lighter-oci/lighter/internal/project"
)

// takeCache takes the caches. A build that pushes nothing only reads them: who
// tries something out need not be allowed to write, nor wait for it.
func (b *buildCmd) takeCache(p project.Project) (took []string) {
	if b.Cache != "" {
		return nil // which says it all
	}
	layers, mounts := p.CacheRef(p.Cache.Layers), p.CacheRef(p.Cache.Mounts)
	if dir, ok := strings.CutPrefix(layers, "oci:"); ok {
		layers = "oci:" + inProject(p, dir)
	}
	if dir, ok := strings.CutPrefix(mounts, "oci:"); ok {
		mounts = "oci:" + inProject(p, dir)
	}
	if mounts == layers {
		mounts = mountsBeside(layers)
	}
	return b.useCache(layers, mounts, p.Cache.Keys(), b.pushes())
}

// mountsBeside is where cache mounts are, of a cache that also has layers.
func mountsBeside(ref string) string {
	switch {
	case ref == "" || ref == inGHA:
		return ref
	case strings.HasPrefix(ref, "oci:"):
		return ref + "/" + mountsTag
	}
	// Without a tag of its own it would be another repository.
	if named, err := image.ParseReference(ref); err == nil && !strings.HasSuffix(ref, ":"+named.Tag) {
		ref += ":" + named.Tag
	}
	return ref + "-" + mountsTag
}

// layersTag is the name of layers in a directory.
const layersTag = "buildcache"

// inGHA is the cache of GitHub Actions.
const inGHA = "gha"

// useCache fills the flags of caches that were not typed, and says which. Keys say
// what is kept of mounts.
func (b *buildCmd) useCache(layers, mounts string, keys []string, write bool) (took []string) {
	if err := ghaError(layers, mounts); err != nil {
		took = append(took, "no cache (gha is for GitHub Actions)")
		if b.Cache != "" || os.Getenv("GITHUB_ACTIONS") != "" { // elsewhere a project's file may name it all the same
			b.without = append(b.without, "no cache: "+err.Error())
		}
		if layers == inGHA {
			layers = ""
		}
		if isGHA(mounts) {
			mounts = ""
		}
	}
	if layers != "" && len(b.CacheFrom) == 0 && len(b.CacheTo) == 0 {
		kind, from, to, tag := "type=registry", "ref="+layers, "ref="+layers, ""
		if dir, ok := strings.CutPrefix(layers, "oci:"); ok {
			// latest, which it is elsewhere, may be an image.
			kind, from, to = "type=local", "src="+dir, "dest="+dir
			tag = "tag=" + layersTag
			b.cacheDir = dir
		}
		if layers == inGHA {
			kind, from, to = "type=gha", "", ""
		}
		b.CacheFrom = []string{csvLine(kind, from, tag)}
		if write {
			b.CacheTo = []string{csvLine(kind, to, tag, "mode=max", "ignore-error=true")}
		}
		took = append(took, "cache "+layers)
	}
	if mounts != "" && b.CacheMountsFrom == "" && b.CacheMountsTo == "" {
		b.CacheMountsFrom = mounts
		if write {
			b.CacheMountsTo = csvLine(append([]string{mounts}, keys...)...)
		}
		took = append(took, "cache mounts "+mounts)
	}
	return took
}

// typedCache reads --cache.
func (b *buildCmd) typedCache() error {
	if b.Cache == "" {
		return nil
	}
	ref, keys, err := refAndKeys("--cache", b.Cache)
	if err != nil {
		return err
	}
	if _, err := keptMounts("--cache", keys); err != nil {
		return err
	}
	if len(keys) > 0 && b.CacheMountsFrom+b.CacheMountsTo != "" {
		key, _, _ := strings.Cut(keys[0], "=")
		return fmt.Errorf("--cache: %s is about cache mounts, and --cache-mounts-from and -to say where those are: give it to --cache-mounts-to", key)
	}
	switch ref {
	case "auto":
		if len(b.Tag) == 0 {
			return errors.New("--cache auto is IMAGE:buildcache of the image's name: name it with -t")
		}
		ref = project.Project{Image: b.Tag[0]}.CacheRef(ref)
	case inGHA:
	default:
		if err := cacheName(ref); err != nil {
			return err
		}
	}
	b.useCache(ref, mountsBeside(ref), keys, b.pushes() || strings.HasPrefix(ref, "oci:"))
	return nil
}

// cacheName refuses what is no place for layers and mounts.
func cacheName(ref string) error {
	l, err := image.ParseLocation(ref)
	if err != nil {
		return fmt.Errorf("--cache: %w", err)
	}
	if isGHA(ref) {
		return fmt.Errorf("--cache %s: only cache mounts have names there: want --cache gha, or --cache-mounts-from %s", ref, ref)
	}
	if l.Transport != image.InRegistry && l.Transport != image.InLayout || l.Transport == image.InLayout && l.Ref != "" {
		return fmt.Errorf("--cache %s: want a name in a registry, oci:DIR, gha or auto", ref)
	}
	if named, err := image.ParseReference(ref); err == nil && named.Digest != "" {
		return fmt.Errorf("--cache %s: a cache is written anew: name a tag, not a digest", ref)
	}
	return nil
}
