package image_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/lighter-oci/lighter/internal/image"
	"github.com/lighter-oci/lighter/internal/image/imagetest"
)

func TestLayoutIsASource(t *testing.T) {
	imagetest.TestSource(t, func(t *testing.T, f *imagetest.Fixture) imagetest.Opened {
		dir := t.TempDir()
		f.WriteLayout(t, dir)
		l, err := image.OpenLayout(dir)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { closeOK(t, l) })
		return imagetest.Opened{Source: l, Ref: f.Tag, Damage: func(t testing.TB, d digest.Digest) {
			flip(t, filepath.Join(dir, "blobs", "sha256", d.Encoded()), f.Blob(d))
		}}
	})
}

func TestArchiveIsASource(t *testing.T) {
	imagetest.TestSource(t, func(t *testing.T, f *imagetest.Fixture) imagetest.Opened {
		file := filepath.Join(t.TempDir(), "image.tar")
		if err := os.WriteFile(file, f.Archive(t), 0o644); err != nil {
			t.Fatal(err)
		}
		l, err := image.OpenArchive(file)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { closeOK(t, l) })
		return imagetest.Opened{Source: l, Ref: f.Tag, Damage: func(t testing.TB, d digest.Digest) {
			flip(t, file, f.Blob(d))
		}}
	})
}

func closeOK(t testing.TB, l *image.Layout) {
	t.Helper()
	if err := l.Close(); err != nil {
		t.Error(err)
	}
}

// flip changes one bit in the middle of content, wherever in file it lies.
func flip(t testing.TB, file string, content []byte) {
	t.Helper()
	all, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.Index(all, content)
	if at < 0 {
		t.Fatalf("%s does not hold the content", file)
	}
	f, err := os.OpenFile(file, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	at += len(content) / 2
	if _, err := f.WriteAt([]byte{all[at] ^ 1}, int64(at)); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

// A source that fails with an error around io.EOF has not come to the end.
func TestVerifiedWrappedEOF(t *testing.T) {
	broken := fmt.Errorf("the connection broke: %w", io.EOF)
	content := []byte("hello")
	desc := ocispec.Descriptor{Digest: digest.FromBytes(content), Size: int64(len(content))}
	rc, err := image.Verified(io.NopCloser(io.MultiReader(bytes.NewReader(content[:2]), iotest.ErrReader(broken))), desc)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(rc); !errors.Is(err, broken) || errors.Is(err, image.ErrCorrupt) {
		t.Errorf("%q, %v", b, err)
	}
}

// However the bytes come, content that is longer is no verified content.
func TestVerifiedTooLong(t *testing.T) {
	desc := ocispec.Descriptor{Digest: digest.FromString("hello"), Size: 5}
	for label, r := range map[string]io.Reader{
		"at once": strings.NewReader("hello!"), "byte by byte": iotest.OneByteReader(strings.NewReader("hello!")),
		"with the end": iotest.DataErrReader(strings.NewReader("hello!")),
	} {
		rc, err := image.Verified(io.NopCloser(r), desc)
		if err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(rc); !errors.Is(err, image.ErrCorrupt) || len(b) > 5 {
			t.Errorf("%s: %q, %v", label, b, err)
		}
	}
}

// A part of a file is not read where the whole is not what it should be.
func TestLayoutRangeOfWrongSize(t *testing.T) {
	f := imagetest.Sample(t)
	dir := t.TempDir()
	f.WriteLayout(t, dir)
	l, err := image.OpenLayout(dir)
	if err != nil {
		t.Fatal(err)
	}
	desc := f.Root
	desc.Size++
	if _, err := l.FetchRange(t.Context(), desc, 0, 1); !errors.Is(err, image.ErrCorrupt) {
		t.Errorf("%v, want ErrCorrupt", err)
	}
}
