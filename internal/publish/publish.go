package publish

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

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
	// Of a release that was broken off:
	TagMissing TagAction = "not set"
	TagUnknown TagAction = "not known" // nobody answered any more
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
	return "no tag was moved; publish another version with --bump VERSION, or delete that tag first"
}

func short(d digest.Digest) string { return d.Encoded()[:min(12, len(d.Encoded()))] }

// HalfError is a release of which some tags are set, and others are not.
type HalfError struct {
	Tags []Tagged // all
	Err  error
}

func (e *HalfError) Error() string {
	set := 0
	for _, t := range e.Tags {
		if t.Action != TagMissing && t.Action != TagUnknown {
			set++
		}
	}
	return fmt.Sprintf("%d of %d tags are set: %v", set, len(e.Tags), e.Err)
}

func (e *HalfError) Unwrap() error { return e.Err }

// Hint is the next step.
func (e *HalfError) Hint() string { return "the same command sets the others" }

// step is one tag on its way.
type step struct {
	Tagged
	repo Repository
	tag  string
	root ocispec.Descriptor
	raw  []byte
	now  digest.Digest // what it stands for; "" for nothing
}

// Tag gives all images their tags, when the content of all is there. Nothing is
// tagged where one cannot be: fixed tags are looked at before the first is set.
// Those that say most come first, so that who sees latest move finds the version.
//
// begin is called before the first tag is set, unless all are there. An error
// after that is a *HalfError, and the next Tag completes what it left.
func Tag(ctx context.Context, images []Image, begin func() error) ([]Tagged, error) {
	steps, err := look(ctx, images)
	if err != nil {
		return nil, err
	}
	missing := func(s step) bool { return s.now != s.root.Digest }
	if slices.ContainsFunc(steps, missing) {
		if err := begin(); err != nil {
			return nil, err
		}
	}
	var failed error
	all := make([]Tagged, len(steps))
	for i := range steps {
		s := &steps[i]
		switch {
		case !missing(*s):
			s.Action = TagThere
		case failed != nil:
			s.Action = TagMissing
		default:
			failed = s.set(ctx)
		}
		all[i] = s.Tagged
	}
	if failed != nil {
		return nil, &HalfError{all, failed}
	}
	return all, nil
}

// Ask asks each repository for a tag, before anything is made for it: one that
// cannot be reached, or lets nobody in, is an error now and not after the work.
func Ask(ctx context.Context, images []Image) error {
	asked := map[string]bool{}
	for _, img := range images {
		if asked[img.Name] || len(img.Tags) == 0 {
			continue
		}
		asked[img.Name] = true
		if _, err := img.Repo.Resolve(ctx, img.Tags[0]); err != nil && !errors.Is(err, image.ErrNotFound) {
			return err
		}
	}
	return nil
}

// look reads what the tags stand for, and sorts them.
func look(ctx context.Context, images []Image) ([]step, error) {
	var fixed, others []step
	for _, img := range images {
		root, err := img.Repo.Resolve(ctx, img.Root.String())
		if err != nil {
			return nil, fmt.Errorf("published content is not there: %w", err)
		}
		raw, err := image.ReadAll(ctx, img.Repo, root)
		if err != nil {
			return nil, err
		}
		for _, tag := range img.Tags {
			s := step{repo: img.Repo, tag: tag, root: root, raw: raw,
				Tagged: Tagged{Variant: img.Variant, Name: img.Name + ":" + tag, Digest: root.Digest}}
			now, err := img.Repo.Resolve(ctx, tag)
			if err != nil && !errors.Is(err, image.ErrNotFound) {
				return nil, err
			}
			if err == nil {
				s.now = now.Digest
			}
			if !slices.Contains(img.Fixed, tag) {
				others = append(others, s)
				continue
			}
			if s.now != "" && s.now != root.Digest {
				return nil, &TakenError{Name: s.Name, Is: s.now, To: root.Digest}
			}
			fixed = append(fixed, s)
		}
	}
	return append(fixed, others...), nil
}

// patience bounds the question what became of a tag whose setting failed.
const patience = 5 * time.Second

// set sets one tag. Where that fails, the registry is asked what became of it: an
// answer that is lost is no tag that is not set.
func (s *step) set(ctx context.Context) error {
	err := s.repo.Tag(ctx, s.root, s.raw, s.tag)
	if err != nil {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
		defer cancel()
		now, lost := s.repo.Resolve(ctx, s.tag)
		switch {
		case lost != nil && !errors.Is(lost, image.ErrNotFound):
			s.Action = TagUnknown
			return err
		case lost != nil || now.Digest != s.root.Digest:
			s.Action = TagMissing
			return err
		}
	}
	s.Action = TagSet
	if s.now != "" {
		s.Action, s.Was = TagMoved, s.now
	}
	return nil
}
