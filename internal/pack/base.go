package pack

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"github.com/containerd/platforms"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/lighter-oci/lighter/internal/codec"
	"github.com/lighter-oci/lighter/internal/image"
)

// scratch is the base that is none.
const scratch = "scratch"

// Base is the image that a packed one stands on. Its layers are taken over as
// they are.
type Base struct {
	Source image.Source
	Ref    string // what Source resolves
	Name   string // as people write it

	read *image.Image
}

// Read reads what the base is; of its layers only what inspecting takes.
func (b *Base) Read(ctx context.Context) error {
	read, err := image.Read(ctx, b.Source, b.Ref, image.ReadOptions{})
	if err != nil {
		return fmt.Errorf("base %s: %w", b.Name, err)
	}
	b.read = read
	return nil
}

// on is the base's image for a platform.
func (b *Base) on(p ocispec.Platform) (*image.Manifest, error) {
	want := platforms.Only(p) // arm/v7 runs what is for arm/v6
	var best *image.Manifest
	var have []string
	for _, m := range b.read.Manifests {
		if !m.IsImage() {
			continue
		}
		have = append(have, m.Platform)
		is, err := platforms.Parse(m.Platform)
		if err != nil || !want.Match(is) {
			continue
		}
		if known, err := platforms.Parse(platformOf(best)); best == nil || err == nil && want.Less(is, known) {
			best = m
		}
	}
	if best == nil {
		return nil, fmt.Errorf("base %s has no image for %s, but for %s", b.Name, platforms.Format(p), strings.Join(have, ", "))
	}
	return best, nil
}

// DiffIDs are those of all its layers; none of scratch.
func (b *Base) DiffIDs() []digest.Digest {
	if b == nil {
		return []digest.Digest{}
	}
	all := []digest.Digest{}
	for _, m := range b.read.Manifests {
		for _, l := range m.Layers {
			all = append(all, l.DiffID)
		}
	}
	return all
}

func platformOf(m *image.Manifest) string {
	if m == nil {
		return ""
	}
	return m.Platform
}

// layers are the names in the layers of a base: what a loader would find. It is
// made only for binaries that need one, because all layers have to be read.
type layers struct {
	base  string
	links map[string]string // every path there is, without / before it; "" for no link
}

func (l *layers) name() string {
	if l == nil {
		return scratch
	}
	return l.base
}

// list reads the layers of one platform of the base.
func (b *Base) list(ctx context.Context, m *image.Manifest, pool *codec.Pool) (*layers, error) {
	all := &layers{base: b.Name, links: map[string]string{}}
	for _, l := range m.Layers {
		if err := all.read(ctx, b.Source, l.Descriptor, pool); err != nil {
			return nil, fmt.Errorf("base %s: layer %s: %w", b.Name, l.Descriptor.Digest, err)
		}
	}
	return all, nil
}

// read puts a layer on top of those before.
func (l *layers) read(ctx context.Context, src image.Source, desc ocispec.Descriptor, pool *codec.Pool) (err error) {
	blob, err := src.Fetch(ctx, desc)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, blob.Close()) }()
	plain, err := pool.NewReader(blob)
	if err != nil {
		return err
	}
	defer plain.Close()
	for t := tar.NewReader(plain); ; {
		h, err := t.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		name := strings.TrimPrefix(path.Clean("/"+h.Name), "/")
		dir, file := path.Split(name)
		switch {
		case file == ".wh..wh..opq":
			l.remove(strings.TrimSuffix(dir, "/"), false)
		case strings.HasPrefix(file, ".wh."):
			l.remove(dir+strings.TrimPrefix(file, ".wh."), true)
		case h.Typeflag == tar.TypeSymlink:
			l.links[name] = h.Linkname
		default:
			l.links[name] = ""
		}
	}
}

// remove takes away what lies under a path, and itself.
func (l *layers) remove(name string, itself bool) {
	for other := range l.links {
		if strings.HasPrefix(other, name+"/") || name == "" || itself && other == name {
			delete(l.links, other)
		}
	}
}

// libraryDirs is where loaders look: glibc's and musl's own directories, and
// those that Debian's and others' configuration adds.
var libraryDirs = []string{"/lib", "/usr/lib", "/lib64", "/usr/lib64", "/usr/local/lib", "/usr/local/lib64"}

// has tells whether a loader (a path) or a library (a name) is there.
func (l *layers) has(need string, paths []string) bool {
	if l == nil {
		return false
	}
	if strings.Contains(need, "/") {
		return l.resolves(need)
	}
	for _, dir := range append(paths, libraryDirs...) {
		if strings.HasPrefix(dir, "$ORIGIN") {
			dir = path.Join(binDir, strings.TrimPrefix(dir, "$ORIGIN"))
		}
		if l.resolves(path.Join(dir, need)) {
			return true
		}
	}
	// Debian has a directory for each architecture: lib/x86_64-linux-gnu.
	for name := range l.links {
		dir, file := path.Split(name)
		if file == need && strings.Contains(dir, "-linux-") && strings.Contains(dir, "lib/") && l.resolves("/"+name) {
			return true
		}
	}
	return false
}

// resolves follows links as the kernel does, within the image.
func (l *layers) resolves(name string) bool {
	todo, at := strings.Split(strings.Trim(name, "/"), "/"), ""
	for hops := 0; len(todo) > 0 && hops < 255; hops++ {
		next := path.Join(at, todo[0])
		if todo[0] == ".." {
			next = strings.TrimPrefix(path.Dir("/"+at), "/")
		}
		link := l.links[next]
		if todo = todo[1:]; link == "" {
			at = next
			continue
		}
		if strings.HasPrefix(link, "/") {
			at = ""
		}
		todo = append(strings.Split(strings.Trim(link, "/"), "/"), todo...)
	}
	_, ok := l.links[at]
	return ok && len(todo) == 0
}
