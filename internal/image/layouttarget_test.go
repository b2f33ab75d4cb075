package image_test

import (
	"context"
	"errors"
	"io"
	"path/filepath"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/lighter-oci/lighter/internal/image"
	"github.com/lighter-oci/lighter/internal/image/imagetest"
)

func TestLayoutIsATarget(t *testing.T) {
	imagetest.TestTarget(t, func(t *testing.T, _ *imagetest.Fixture) imagetest.OpenedTarget {
		dir := filepath.Join(t.TempDir(), "layout")
		target, err := image.CreateLayout(dir)
		if err != nil {
			t.Fatal(err)
		}
		return imagetest.OpenedTarget{Target: target, Source: rereading{dir}, Names: [2]string{"one", "two"}}
	})
}

// rereading is a layout whose index is read anew for each question, because
// OpenLayout does not see what comes later.
type rereading struct{ dir string }

func (r rereading) open() (*image.Layout, error) { return image.OpenLayout(r.dir) }

func (r rereading) Resolve(ctx context.Context, ref string) (ocispec.Descriptor, error) {
	l, err := r.open()
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	return l.Resolve(ctx, ref)
}

func (r rereading) Fetch(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
	l, err := r.open()
	if err != nil {
		return nil, err
	}
	return l.Fetch(ctx, desc)
}

func (r rereading) FetchRange(ctx context.Context, desc ocispec.Descriptor, offset, length int64) (io.ReadCloser, error) {
	l, err := r.open()
	if err != nil {
		return nil, err
	}
	return l.FetchRange(ctx, desc, offset, length)
}

// Of two that swap from the same state, one wins.
func TestLayoutSwap(t *testing.T) {
	target, err := image.CreateLayout(filepath.Join(t.TempDir(), "layout"))
	if err != nil {
		t.Fatal(err)
	}
	swap := func(content string, was digest.Digest) (ocispec.Descriptor, error) {
		desc := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromString(content), Size: int64(len(content))}
		return desc, target.Swap(t.Context(), desc, []byte(content), "n", was)
	}
	first, err := swap("{}", "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := swap("{ }", ""); !errors.Is(err, image.ErrMoved) {
		t.Errorf("a second first one: %v", err)
	}
	if _, err := swap("{  }", first.Digest); err != nil {
		t.Error(err)
	}
	if _, err := swap("{   }", first.Digest); !errors.Is(err, image.ErrMoved) {
		t.Errorf("a second second one: %v", err)
	}
}
