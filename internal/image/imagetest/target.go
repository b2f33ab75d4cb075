package imagetest

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/lighter-oci/lighter/internal/image"
)

// OpenedTarget is an empty store that can be written to.
type OpenedTarget struct {
	Target image.Target
	Source image.Source // reads back what was written
	// Names are two ways in which the target names images; the source resolves
	// them.
	Names [2]string
	// Other is a repository of the same store that holds the fixture; the zero
	// value where there is none.
	Other image.Reference
}

// TestTarget is the conformance suite of image.Target. open makes a fresh empty
// store; f is for OpenedTarget.Other. It is called once a subtest.
func TestTarget(t *testing.T, open func(t *testing.T, f *Fixture) OpenedTarget) {
	f := Sample(t)
	for name, test := range map[string]func(*testing.T, OpenedTarget, *Fixture){
		"Push": testPush, "Sizes": testSizes, "Has": testHas, "Concurrent": testConcurrent, "Mount": testMount,
		"WrongCommit": testWrongCommit, "WrongManifest": testWrongManifest, "Abort": testAbort, "Ended": testEnded,
		"Tag": testTag, "Cancelled": testTargetCancelled,
	} {
		t.Run(name, func(t *testing.T) { test(t, open(t, f), f) })
	}
}

// Upload writes content to a target in pieces of up to a third, and commits it
// as desc.
func Upload(ctx context.Context, target image.Target, desc ocispec.Descriptor, content []byte) error {
	u, err := target.Upload(ctx)
	if err != nil {
		return err
	}
	defer u.Abort()
	for rest := content; len(rest) > 0; {
		n := min(len(rest), 1+rand.IntN(len(content)/3+1))
		if _, err := u.Write(rest[:n]); err != nil {
			return err
		}
		rest = rest[n:]
	}
	return u.Commit(ctx, desc)
}

// Push writes a fixture to a target, blobs at once, and tags its root.
func Push(ctx context.Context, target image.Target, f *Fixture, name string) error {
	g, blobs := errgroup.WithContext(ctx)
	var manifests []ocispec.Descriptor
	for _, desc := range f.Descriptors {
		if image.IsManifest(desc.MediaType) || image.IsIndex(desc.MediaType) {
			manifests = append(manifests, desc)
			continue
		}
		g.Go(func() error { return Upload(blobs, target, desc, f.Blob(desc.Digest)) })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	for _, desc := range manifests {
		if err := target.PutManifest(ctx, desc, f.Blob(desc.Digest)); err != nil {
			return err
		}
	}
	return target.Tag(ctx, f.Root, f.Blob(f.Root.Digest), name)
}

func testPush(t *testing.T, o OpenedTarget, f *Fixture) {
	if err := Push(t.Context(), o.Target, f, o.Names[0]); err != nil {
		t.Fatal(err)
	}
	img, err := image.Read(t.Context(), o.Source, o.Names[0], image.ReadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if got := Describe(img); img.Root.Digest != f.Root.Digest || got != sampleDescription {
		t.Errorf("%s is %s:\n%s", o.Names[0], img.Root.Digest, got)
	}
	for _, desc := range f.Descriptors {
		present(t, o, desc, f.Blob(desc.Digest))
	}
	if err := Push(t.Context(), o.Target, f, o.Names[0]); err != nil {
		t.Errorf("once more: %v", err)
	}
}

// present fails where a content is not there, or another one.
func present(t *testing.T, o OpenedTarget, desc ocispec.Descriptor, content []byte) {
	t.Helper()
	if there, err := o.Target.Has(t.Context(), desc); !there || err != nil {
		t.Errorf("%s of %d bytes is there: %v, %v", desc.Digest, desc.Size, there, err)
	}
	if got, err := fetch(t.Context(), o.Source, desc); err != nil || !bytes.Equal(got, content) {
		t.Errorf("%s of %d bytes: %d bytes come back, %v", desc.Digest, desc.Size, len(got), err)
	}
}

func absent(t *testing.T, o OpenedTarget, desc ocispec.Descriptor) {
	t.Helper()
	if there, err := o.Target.Has(t.Context(), desc); there || err != nil {
		t.Errorf("%s of %d bytes is there: %v, %v", desc.Digest, desc.Size, there, err)
	}
}

// random is a blob of size bytes that no test has seen.
func random(size int) (ocispec.Descriptor, []byte) {
	var seed [32]byte
	for i := range seed {
		seed[i] = byte(rand.Uint32())
	}
	content := make([]byte, size)
	_, _ = rand.NewChaCha8(seed).Read(content)
	return ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: digest.FromBytes(content), Size: int64(size)}, content
}

func testSizes(t *testing.T, o OpenedTarget, _ *Fixture) {
	for _, size := range []int{0, 1, 2, 4095, 64<<10 - 1, 64 << 10, 64<<10 + 1, 1 << 20, 5<<20 + 7} {
		desc, content := random(size)
		if err := Upload(t.Context(), o.Target, desc, content); err != nil {
			t.Fatalf("%d bytes: %v", size, err)
		}
		present(t, o, desc, content)
	}
	desc, content := random(100_000)
	desc.Digest = digest.SHA512.FromBytes(content)
	if err := Upload(t.Context(), o.Target, desc, content); err != nil {
		t.Fatalf("by another algorithm: %v", err)
	}
	present(t, o, desc, content)
}

func testHas(t *testing.T, o OpenedTarget, f *Fixture) {
	for _, desc := range f.Descriptors {
		absent(t, o, desc)
	}
	if err := Push(t.Context(), o.Target, f, o.Names[0]); err != nil {
		t.Fatal(err)
	}
	for _, desc := range f.Descriptors {
		present(t, o, desc, f.Blob(desc.Digest))
		desc.Size++
		absent(t, o, desc)
	}
	if _, err := o.Target.Has(t.Context(), ocispec.Descriptor{Digest: "sha256:../../x", Size: 1}); err == nil {
		t.Error("what is no digest may be there")
	}
}

// testConcurrent uploads more at once than anybody allows, one blob twice.
func testConcurrent(t *testing.T, o OpenedTarget, _ *Fixture) {
	g, ctx := errgroup.WithContext(t.Context())
	twice, content := random(200_000)
	for i := range 24 {
		g.Go(func() error {
			desc, content := twice, content
			if i%3 != 0 {
				desc, content = random(1000 * i * i)
			}
			if err := Upload(ctx, o.Target, desc, content); err != nil {
				return err
			}
			there, err := o.Target.Has(ctx, desc)
			if err == nil && !there {
				t.Errorf("%s is not there", desc.Digest)
			}
			return err
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	present(t, o, twice, content)
}

// testMount: what can be mounted is there afterwards, and who cannot says so
// without an error.
func testMount(t *testing.T, o OpenedTarget, f *Fixture) {
	blob := f.Descriptors[0]
	ok, err := o.Target.Mount(t.Context(), blob, o.Other)
	switch {
	case err != nil:
		t.Error(err)
	case ok && o.Other == image.Reference{}:
		t.Error("mounted from nowhere")
	case ok:
		present(t, o, blob, f.Blob(blob.Digest))
	default:
		absent(t, o, blob)
	}
	unknown, _ := random(10)
	nowhere := o.Other
	nowhere.Repository = "not/there"
	elsewhere := image.Reference{Host: "registry.invalid", Repository: "app"}
	for _, from := range []image.Reference{o.Other, nowhere, elsewhere} {
		if ok, err := o.Target.Mount(t.Context(), unknown, from); ok || err != nil {
			t.Errorf("what nobody has, from %s: %v, %v", from.Name(), ok, err)
		}
	}
	absent(t, o, unknown)
}

func testWrongCommit(t *testing.T, o OpenedTarget, _ *Fixture) {
	for _, size := range []int{1, 1000, 64<<10 + 1, 3 << 20} {
		right, content := random(size)
		longer, shorter, other, none := right, right, right, right
		longer.Size++
		shorter.Size--
		other.Digest = digest.FromString("something else")
		none.Digest = "sha256:abc"
		for label, wrong := range map[string]ocispec.Descriptor{"longer": longer, "shorter": shorter, "other": other, "none": none} {
			err := Upload(t.Context(), o.Target, wrong, content)
			if err == nil || label != "none" && !errors.Is(err, image.ErrCorrupt) {
				t.Errorf("%d bytes, %s: %v, want ErrCorrupt", size, label, err)
			}
		}
		absent(t, o, right)
		absent(t, o, other)
	}
}

func testWrongManifest(t *testing.T, o OpenedTarget, f *Fixture) {
	if err := Push(t.Context(), o.Target, f, o.Names[0]); err != nil {
		t.Fatal(err)
	}
	content := append(bytes.Clone(f.Blob(f.Root.Digest)), '\n')
	longer := f.Root
	longer.Size++
	for label, desc := range map[string]ocispec.Descriptor{"digest and size": f.Root, "digest": longer} {
		if err := o.Target.PutManifest(t.Context(), desc, content); !errors.Is(err, image.ErrCorrupt) {
			t.Errorf("another %s: %v, want ErrCorrupt", label, err)
		}
		if err := o.Target.Tag(t.Context(), desc, content, o.Names[0]); !errors.Is(err, image.ErrCorrupt) {
			t.Errorf("tag with another %s: %v, want ErrCorrupt", label, err)
		}
	}
	if got, err := o.Source.Resolve(t.Context(), o.Names[0]); err != nil || got.Digest != f.Root.Digest {
		t.Errorf("%s is %s, %v", o.Names[0], got.Digest, err)
	}
}

func testAbort(t *testing.T, o OpenedTarget, _ *Fixture) {
	for _, size := range []int{0, 1000, 3 << 20} {
		desc, content := random(size)
		u, err := o.Target.Upload(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := u.Write(content); err != nil {
			t.Fatal(err)
		}
		u.Abort()
		u.Abort()
		absent(t, o, desc)
	}
}

// testEnded: an upload that has ended stays as it is.
func testEnded(t *testing.T, o OpenedTarget, _ *Fixture) {
	desc, content := random(100_000)
	for _, commit := range []bool{true, false} {
		u, err := o.Target.Upload(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := u.Write(content); err != nil {
			t.Fatal(err)
		}
		if commit {
			if err := u.Commit(t.Context(), desc); err != nil {
				t.Fatal(err)
			}
		}
		u.Abort()
		if _, err := u.Write(content); err == nil {
			t.Error("it can be written to")
		}
		if err := u.Commit(t.Context(), desc); err == nil {
			t.Error("it can be committed")
		}
		u.Abort()
		present(t, o, desc, content)
	}
}

// testTag moves a name, and leaves the other one.
func testTag(t *testing.T, o OpenedTarget, f *Fixture) {
	expect := func(name string, want ocispec.Descriptor) {
		t.Helper()
		got, err := o.Source.Resolve(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		same(t, name, got, want)
	}
	if _, err := o.Source.Resolve(t.Context(), o.Names[0]); !errors.Is(err, image.ErrNotFound) {
		t.Errorf("%s before it is given: %v", o.Names[0], err)
	}
	if err := Push(t.Context(), o.Target, f, o.Names[0]); err != nil {
		t.Fatal(err)
	}
	if _, err := o.Source.Resolve(t.Context(), o.Names[1]); !errors.Is(err, image.ErrNotFound) {
		t.Errorf("%s before it is given: %v", o.Names[1], err)
	}
	var manifest ocispec.Descriptor
	for _, desc := range f.Descriptors {
		if image.IsManifest(desc.MediaType) {
			manifest = desc
		}
	}
	for _, desc := range []ocispec.Descriptor{manifest, f.Root, manifest} {
		if err := o.Target.Tag(t.Context(), desc, f.Blob(desc.Digest), o.Names[1]); err != nil {
			t.Fatal(err)
		}
		expect(o.Names[1], desc)
		expect(o.Names[0], f.Root)
	}
}

func testTargetCancelled(t *testing.T, o OpenedTarget, f *Fixture) {
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	desc, content := random(3 << 20)
	calls := map[string]error{}
	_, calls["Has"] = o.Target.Has(gone, desc)
	calls["Upload"] = Upload(gone, o.Target, desc, content)
	calls["PutManifest"] = o.Target.PutManifest(gone, f.Root, f.Blob(f.Root.Digest))
	calls["Tag"] = o.Target.Tag(gone, f.Root, f.Blob(f.Root.Digest), o.Names[0])

	// Cancelled in the middle: by the context of Upload, and by that of Commit.
	u, err := o.Target.Upload(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := u.Write(content); err != nil {
		t.Fatal(err)
	}
	calls["Commit"] = u.Commit(gone, desc)
	u.Abort()
	ctx, cancel := context.WithCancel(t.Context())
	if u, err = o.Target.Upload(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := u.Write(content); err != nil {
		t.Fatal(err)
	}
	cancel()
	calls["Commit after Upload's context"] = u.Commit(t.Context(), desc)
	u.Abort()
	for label, err := range calls {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v, want it cancelled", label, err)
		}
	}
	absent(t, o, desc)
}
