package imagetest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/lighter-oci/lighter/internal/image"
)

// Opened is a store that holds a fixture.
type Opened struct {
	Source image.Source
	Ref    string // resolves to the fixture's root
	// Damage flips the lowest bit of the middle byte of a stored content, behind
	// the store's back. Nil where nobody can.
	Damage func(t testing.TB, d digest.Digest)
}

// TestSource is the conformance suite of image.Source. open fills a fresh store
// with the fixture; it is called once a subtest.
func TestSource(t *testing.T, open func(t *testing.T, f *Fixture) Opened) {
	TestSourceOf(t, Sample(t), sampleDescription, open)
}

// TestSourceOf is TestSource with another fixture, for stores that cannot hold
// the sample, and what Describe says of it.
func TestSourceOf(t *testing.T, f *Fixture, description string, open func(t *testing.T, f *Fixture) Opened) {
	with := func(name string, test func(t *testing.T, o Opened)) {
		t.Run(name, func(t *testing.T) { test(t, open(t, f)) })
	}
	with("Resolve", func(t *testing.T, o Opened) { testResolve(t, o, f) })
	with("Fetch", func(t *testing.T, o Opened) { testFetch(t, o, f) })
	with("FetchRange", func(t *testing.T, o Opened) { testRange(t, o, f) })
	with("Missing", testMissing)
	with("WrongSize", func(t *testing.T, o Opened) { testWrongSize(t, o, f) })
	with("Damaged", func(t *testing.T, o Opened) { testDamaged(t, o, f) })
	with("Cancelled", func(t *testing.T, o Opened) { testCancelled(t, o, f) })
	with("Read", func(t *testing.T, o Opened) { testRead(t, o, description) })
}

func testResolve(t *testing.T, o Opened, f *Fixture) {
	for _, ref := range []string{o.Ref, f.Root.Digest.String()} {
		got, err := o.Source.Resolve(t.Context(), ref)
		if err != nil {
			t.Fatalf("%s: %v", ref, err)
		}
		same(t, ref, got, f.Root)
	}
	for _, desc := range f.Descriptors { // what is in an index can be named by digest
		if image.IsManifest(desc.MediaType) {
			got, err := o.Source.Resolve(t.Context(), desc.Digest.String())
			if err != nil {
				t.Fatalf("%s: %v", desc.Digest, err)
			}
			same(t, desc.Digest.String(), got, desc)
		}
	}
}

func same(t *testing.T, ref string, got, want ocispec.Descriptor) {
	t.Helper()
	if got.MediaType != want.MediaType || got.Digest != want.Digest || got.Size != want.Size {
		t.Errorf("%s resolves to %s %s of %d bytes, want %s %s of %d bytes",
			ref, got.MediaType, got.Digest, got.Size, want.MediaType, want.Digest, want.Size)
	}
}

func testFetch(t *testing.T, o Opened, f *Fixture) {
	g, ctx := errgroup.WithContext(t.Context()) // all at once: sources are for concurrent use
	for _, desc := range f.Descriptors {
		g.Go(func() error {
			b, err := fetch(ctx, o.Source, desc)
			if err == nil && !bytes.Equal(b, f.Blob(desc.Digest)) {
				t.Errorf("%s %s: got %d other bytes", desc.MediaType, desc.Digest, len(b))
			}
			return err
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	// A reader that is closed early is an ordinary one.
	rc, err := o.Source.Fetch(t.Context(), f.Root)
	if err != nil {
		t.Fatal(err)
	}
	if err := rc.Close(); err != nil {
		t.Errorf("closed before the end: %v", err)
	}
}

func fetch(ctx context.Context, src image.Source, desc ocispec.Descriptor) ([]byte, error) {
	rc, err := src.Fetch(ctx, desc)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(rc)
	return b, errors.Join(err, rc.Close())
}

func testRange(t *testing.T, o Opened, f *Fixture) {
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 0))
	for _, desc := range f.Descriptors {
		content, size := f.Blob(desc.Digest), desc.Size
		ranges := [][2]int64{
			{0, 4}, {0, size}, {0, size + 10}, {size - 1, 1}, {size, 5}, {size + 7, 5},
			{-4, 4}, {-4, 100}, {-size, 3}, {-size - 9, 3}, {0, 0}, {3, 0},
			{random.Int64N(size), random.Int64N(size)}, {-random.Int64N(size), random.Int64N(size)},
		}
		for _, r := range ranges {
			start, end, err := image.Span(desc, r[0], r[1])
			if err != nil {
				t.Fatal(err)
			}
			rc, err := o.Source.FetchRange(t.Context(), desc, r[0], r[1])
			if err != nil {
				t.Fatalf("%s of %d bytes, %d from %d (seed %d): %v", desc.MediaType, size, r[1], r[0], seed, err)
			}
			got, err := io.ReadAll(rc)
			if err = errors.Join(err, rc.Close()); err != nil {
				t.Fatalf("%s of %d bytes, %d from %d (seed %d): %v", desc.MediaType, size, r[1], r[0], seed, err)
			}
			if !bytes.Equal(got, content[start:end]) {
				t.Errorf("%s of %d bytes, %d from %d (seed %d): got %d other bytes", desc.MediaType, size, r[1], r[0], seed, len(got))
			}
		}
	}
	if rc, err := o.Source.FetchRange(t.Context(), f.Root, 0, -1); err == nil {
		_ = rc.Close()
		t.Error("a range of -1 bytes is no error")
	}
}

// testMissing asks for what is not there, and for what cannot be.
func testMissing(t *testing.T, o Opened) {
	absent := digest.FromString("absent")
	for _, ref := range []string{"absent", absent.String()} {
		if _, err := o.Source.Resolve(t.Context(), ref); !errors.Is(err, image.ErrNotFound) {
			t.Errorf("resolve %s: %v, want ErrNotFound", ref, err)
		}
	}
	for _, mediaType := range []string{ocispec.MediaTypeImageLayer, ocispec.MediaTypeImageManifest} {
		desc := ocispec.Descriptor{MediaType: mediaType, Digest: absent, Size: 6}
		if _, err := fetch(t.Context(), o.Source, desc); !errors.Is(err, image.ErrNotFound) {
			t.Errorf("fetch %s: %v, want ErrNotFound", mediaType, err)
		}
		rc, err := o.Source.FetchRange(t.Context(), desc, 0, 3)
		if err == nil {
			_, err = io.ReadAll(rc)
			_ = rc.Close()
		}
		if !errors.Is(err, image.ErrNotFound) {
			t.Errorf("fetch a range of %s: %v, want ErrNotFound", mediaType, err)
		}
	}
	for _, d := range []digest.Digest{"", "sha256:../../../../etc/passwd", "sha256:abc", "md5:d41d8cd98f00b204e9800998ecf8427e"} {
		if _, err := fetch(t.Context(), o.Source, ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: d, Size: 1}); err == nil {
			t.Errorf("fetching the digest %q is no error", d)
		}
	}
}

func testWrongSize(t *testing.T, o Opened, f *Fixture) {
	for _, desc := range f.Descriptors {
		for _, size := range []int64{desc.Size - 1, desc.Size + 1, 0, desc.Size * 1000} {
			wrong := desc
			wrong.Size = size
			if _, err := fetch(t.Context(), o.Source, wrong); !errors.Is(err, image.ErrCorrupt) {
				t.Errorf("%s of %d bytes, said to have %d: %v, want ErrCorrupt", desc.MediaType, desc.Size, size, err)
			}
		}
	}
}

func testDamaged(t *testing.T, o Opened, f *Fixture) {
	if o.Damage == nil {
		t.Skip("nobody can damage this store's content")
	}
	for _, desc := range f.Descriptors {
		if image.IsIndex(desc.MediaType) || image.IsManifest(desc.MediaType) {
			continue // a registry may refuse to serve a damaged manifest at all
		}
		o.Damage(t, desc.Digest)
		b, err := fetch(t.Context(), o.Source, desc)
		if !errors.Is(err, image.ErrCorrupt) {
			t.Errorf("damaged %s: %v, want ErrCorrupt", desc.MediaType, err)
		}
		if int64(len(b)) >= desc.Size {
			t.Errorf("damaged %s: all %d bytes were given out", desc.MediaType, len(b))
		}
	}
	o.Damage(t, f.Root.Digest)
	if _, err := o.Source.Resolve(t.Context(), o.Ref); err == nil {
		t.Error("a damaged root resolves")
	}
}

func testCancelled(t *testing.T, o Opened, f *Fixture) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := o.Source.Resolve(ctx, o.Ref); !errors.Is(err, context.Canceled) {
		t.Errorf("resolve: %v, want it cancelled", err)
	}
	if _, err := fetch(ctx, o.Source, f.Descriptors[0]); !errors.Is(err, context.Canceled) {
		t.Errorf("fetch: %v, want it cancelled", err)
	}
}

// testRead reads the fixture as image.Read does and looks at what only real
// bytes can tell.
func testRead(t *testing.T, o Opened, want string) {
	img, err := image.Read(t.Context(), o.Source, o.Ref, image.ReadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if got := Describe(img); got != want {
		t.Errorf("got:\n%swant:\n%s", got, want)
	}
}
