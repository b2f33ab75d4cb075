package publish

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/lighter-oci/lighter/internal/image"
)

// Repository is where an image is published: a registry's.
type Repository interface {
	image.Source
	image.Target
}

// Image is one image of a release: a variant, with its content in the repository
// and no name yet.
type Image struct {
	Variant string // "" for the project itself
	Repo    Repository
	Name    string // of the repository, for messages
	Root    digest.Digest
	Tags    []string
	// Fixed are those of the tags that stand for one version, and are never moved.
	Fixed []string
}

// TagAction says what became of a tag.
type TagAction string

// What can happen to a tag.
const (
	TagSet   TagAction = "set"   // it is new
	TagMoved TagAction = "moved" // it stood for something else
	TagThere TagAction = "there" // it stood for the image already
)

// Tagged is a tag of a release.
type Tagged struct {
	Variant string        `json:"variant,omitempty"`
	Name    string        `json:"name"` // with the tag
	Action  TagAction     `json:"action"`
	Digest  digest.Digest `json:"digest"`
	Was     digest.Digest `json:"was,omitempty"` // where it moved
}

// TakenError is a version that is published already, as something else.
type TakenError struct {
	Name   string // with the tag
	Is, To digest.Digest
}

func (e *TakenError) Error() string {
	return fmt.Sprintf("%s is taken: it is %s, not %s", e.Name, short(e.Is), short(e.To))
}

// Hint is the next step.
func (e *TakenError) Hint() string {
	return "no tag was moved; publish another version with --bump, or delete that tag first"
}

func short(d digest.Digest) string { return d.Encoded()[:min(12, len(d.Encoded()))] }

// Tag gives all images their tags, when the content of all is there. Nothing is
// tagged where one cannot be: fixed tags are looked at before the first is set.
// Those that say most come first, so that who sees latest move finds the version;
// an interrupted Tag is completed by the next, which finds what was set.
func Tag(ctx context.Context, images []Image) ([]Tagged, error) {
	type step struct {
		img   *Image
		tag   string
		fixed bool
		root  ocispec.Descriptor
		raw   []byte
		was   digest.Digest
	}
	var steps []step
	for i := range images {
		img := &images[i]
		root, err := img.Repo.Resolve(ctx, img.Root.String())
		if err != nil {
			return nil, fmt.Errorf("published content is not there: %w", err)
		}
		raw, err := image.ReadAll(ctx, img.Repo, root)
		if err != nil {
			return nil, err
		}
		for _, tag := range img.Tags {
			s := step{img: img, tag: tag, fixed: slices.Contains(img.Fixed, tag), root: root, raw: raw}
			now, err := img.Repo.Resolve(ctx, tag)
			if err != nil && !errors.Is(err, image.ErrNotFound) {
				return nil, err
			}
			if err == nil {
				s.was = now.Digest
			}
			if s.was != "" && s.was != root.Digest && s.fixed {
				return nil, &TakenError{Name: img.Name + ":" + tag, Is: s.was, To: root.Digest}
			}
			steps = append(steps, s)
		}
	}
	slices.SortStableFunc(steps, func(a, b step) int {
		switch {
		case a.fixed == b.fixed:
			return 0
		case a.fixed:
			return -1
		}
		return 1
	})
	var done []Tagged
	for _, s := range steps {
		t := Tagged{Variant: s.img.Variant, Name: s.img.Name + ":" + s.tag, Action: TagThere, Digest: s.root.Digest}
		if s.was != s.root.Digest {
			if err := s.img.Repo.Tag(ctx, s.root, s.raw, s.tag); err != nil {
				return done, fmt.Errorf("%w (%d of %d tags are set; the same command sets the others)", err, len(done), len(steps))
			}
			t.Action = TagSet
			if s.was != "" {
				t.Action, t.Was = TagMoved, s.was
			}
		}
		done = append(done, t)
	}
	return done, nil
}

// FixedTags are those of tags that have the whole version in them: the templates
// from which they were made say so.
func FixedTags(tags []string, version string) []string {
	var fixed []string
	for _, t := range tags {
		if version != "" && strings.Contains(t, strings.ReplaceAll(version, "+", "_")) {
			fixed = append(fixed, t)
		}
	}
	return fixed
}
