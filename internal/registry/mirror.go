package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	pathpkg "path"
	"slices"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/lighter-oci/lighter/internal/image"
)

// mirrorAttempts is how often a mirror is asked: there is somebody else to ask.
const mirrorAttempts = 2

// Mirrored is a repository that is read by way of the mirrors of its registry,
// in the order of the configuration; what they do not have, or do not give, comes
// from the registry itself. Everything else goes there at once. A mirror that
// fails otherwise than by not having something is not asked again.
//
// Mirrors get the credentials for their own hosts. What a tag stands for is what
// the first of them says that has it; all else is held against its digest.
type Mirrored struct {
	*Repository
	mirrors []*Repository
}

var _ image.Source = (*Mirrored)(nil)

// Mirrored answers the repository that ref lies in for reading. It connects to
// nothing yet.
func (c *Client) Mirrored(ref image.Reference) (*Mirrored, error) {
	r, err := c.Repository(ref)
	if err != nil {
		return nil, err
	}
	configs, err := c.configs()
	if err != nil {
		return nil, err
	}
	m := &Mirrored{Repository: r}
	for _, s := range configs.Hosts[r.ref.Host].Mirrors {
		host, prefix := splitMirror(s)
		at := image.Reference{Host: host, Repository: pathpkg.Join(prefix, r.ref.Repository)}
		mirror, err := c.repository(at, r.ref.Host)
		if err != nil {
			return nil, err
		}
		m.mirrors = append(m.mirrors, mirror)
	}
	return m, nil
}

// sources are whom to ask, in order; the registry itself is the last.
func (m *Mirrored) sources() []*Repository {
	up := slices.DeleteFunc(slices.Clone(m.mirrors), func(r *Repository) bool { return r.down.Load() })
	return append(up, m.Repository)
}

// Resolve implements image.Source.
func (m *Mirrored) Resolve(ctx context.Context, ref string) (ocispec.Descriptor, error) {
	named, err := m.names(ref)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	var missed misses
	for _, r := range m.sources() {
		at := named
		at.Host, at.Repository = r.ref.Host, r.ref.Repository
		desc, err := r.resolve(ctx, at)
		if err == nil && r != m.Repository && !image.IsIndex(desc.MediaType) && !image.IsManifest(desc.MediaType) {
			err = fmt.Errorf("%s: what it gives is no manifest", at)
		}
		switch {
		case err == nil || ctx.Err() != nil:
			return desc, err
		case r == m.Repository:
			return desc, missed.with(err)
		}
		missed.add(r, err)
	}
	panic("unreachable: the registry itself is always asked")
}

// Fetch implements image.Source. A download that breaks at a mirror goes on at
// the next.
func (m *Mirrored) Fetch(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
	return fetch(ctx, m.sources(), desc)
}

// FetchRange implements image.Source.
func (m *Mirrored) FetchRange(ctx context.Context, desc ocispec.Descriptor, offset, length int64) (io.ReadCloser, error) {
	return fetchRange(ctx, m.sources(), desc, offset, length)
}

// misses are why mirrors did not do.
type misses []string

// add takes one down, and the mirror out of use unless it only lacks something.
func (m *misses) add(r *Repository, err error) {
	*m = append(*m, err.Error())
	if !errors.Is(err, image.ErrNotFound) && !errors.Is(err, image.ErrNoRange) {
		r.down.Store(true)
	}
}

// with is the registry's own failure, with what the mirrors said before.
func (m misses) with(err error) error {
	var failed *Error
	if len(m) == 0 || !errors.As(err, &failed) {
		return err
	}
	said := *failed
	said.Reason += " (mirror " + strings.Join(m, "; mirror ") + ")"
	return &said
}

// suspect is a blob of which a mirror gave a part at least.
type suspect struct {
	io.ReadCloser
	d *download
}

func (s *suspect) Read(p []byte) (int, error) {
	n, err := s.ReadCloser.Read(p)
	if r := s.d.lent; r != nil && errors.Is(err, image.ErrCorrupt) {
		r.down.Store(true)
		err = &Error{
			Host: r.ref.Host, What: r.ref.Name() + "@" + s.d.desc.Digest.String(), causes: []error{err},
			Reason: fmt.Sprintf("the mirror of %s gives something else than it was asked for: %v", r.mirrorOf, err),
			Next:   fmt.Sprintf("take it out of the mirrors below [registry.%q] in %s", r.mirrorOf, r.client.file()),
		}
	}
	return n, err
}

// namespace tells a mirror whose image it is asked for, as containerd does: one
// mirror may serve several registries.
func (r *Repository) namespace() string {
	if r.mirrorOf == "" {
		return ""
	}
	return "?ns=" + url.QueryEscape(r.mirrorOf)
}
