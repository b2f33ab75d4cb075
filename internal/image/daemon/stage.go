package daemon

import (
	"context"
	"errors"
	"fmt"
	"sync"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/lighter-oci/lighter/internal/event"
	"github.com/lighter-oci/lighter/internal/image"
)

// Staged is an image.Target before a daemon: what is copied to it waits in a
// layout on this machine until Finish loads it. It is for one image.
type Staged struct {
	*image.LayoutTarget
	dir     string
	discard func()
	to      Target

	// What Narrow has chosen, and left behind.
	platform string
	left     []string

	mu    sync.Mutex
	root  ocispec.Descriptor // what was tagged
	names []string
}

// Stage starts one, in an image.TempDir under dir, which needs room for the image.
// It must be finished or discarded.
// The names that will be tagged are checked now, before the work.
func Stage(to Target, dir string, names []string) (*Staged, error) {
	if _, err := fullNames(given(names)); err != nil {
		return nil, err
	}
	dir, discard, err := image.TempDir(dir)
	if err != nil {
		return nil, fmt.Errorf("temporary directory: %w", err)
	}
	layout, err := image.CreateLayout(dir)
	if err != nil {
		discard()
		return nil, err
	}
	return &Staged{LayoutTarget: layout, dir: dir, discard: discard, to: to}, nil
}

// given are the names that are not "".
func given(names []string) []string {
	var out []string
	for _, name := range names {
		if name != "" {
			out = append(out, name)
		}
	}
	return out
}

// Narrow answers what to copy of the image ref: for a daemon that takes one
// platform the digest of that one's manifest, so that nothing is made of the
// others; else ref.
func (s *Staged) Narrow(ctx context.Context, src image.Source, ref string) (string, error) {
	runs, one := s.to.Platform()
	if !one {
		return ref, nil
	}
	root, err := src.Resolve(ctx, ref)
	if err != nil || !image.IsIndex(root.MediaType) {
		return ref, err
	}
	c, err := choose(ctx, Provider(src), root, runs)
	if err != nil {
		return ref, err
	}
	s.platform, s.left = c.platform, c.left
	return c.desc.Digest.String(), nil
}

// Tag implements image.Target.
func (s *Staged) Tag(ctx context.Context, desc ocispec.Descriptor, b []byte, name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.root = desc
	s.names = append(s.names, given([]string{name})...)
	return s.LayoutTarget.Tag(ctx, desc, b, "")
}

// Finish loads what was tagged, with the reports of Target.Load, and discards it
// here.
func (s *Staged) Finish(ctx context.Context, report func(event.Layer)) (*Loaded, error) {
	defer s.Discard()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.root.Digest == "" {
		return nil, errors.New("nothing was tagged that could be loaded")
	}
	layout, err := image.OpenLayout(s.dir)
	if err != nil {
		return nil, err
	}
	defer layout.Close()
	loaded, err := s.to.Load(ctx, Provider(layout), s.root, s.names, report)
	if err != nil {
		return nil, err
	}
	if len(loaded.Left) == 0 {
		loaded.Platform, loaded.Left = s.platform, s.left
	}
	return loaded, nil
}

// Discard removes what waits. It does nothing after Finish.
func (s *Staged) Discard() { s.discard() }

var _ image.Target = (*Staged)(nil)
