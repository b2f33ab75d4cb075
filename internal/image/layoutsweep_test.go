package image_test

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/lighter-oci/lighter/internal/image"
)

// swept is a layout that is written to and swept.
type swept struct {
	*testing.T
	dir string
}

func (s swept) target() *image.LayoutTarget {
	s.Helper()
	target, err := image.CreateLayout(s.dir)
	if err != nil {
		s.Fatal(err)
	}
	return target
}

func (s swept) blob(t *image.LayoutTarget, mediaType, content string) ocispec.Descriptor {
	s.Helper()
	desc := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromString(content), Size: int64(len(content))}
	if has, err := t.Has(s.Context(), desc); err != nil || has {
		return desc
	}
	up, err := t.Upload(s.Context())
	if err != nil {
		s.Fatal(err)
	}
	if _, err := up.Write([]byte(content)); err != nil {
		s.Fatal(err)
	}
	if err := up.Commit(s.Context(), desc); err != nil {
		s.Fatal(err)
	}
	return desc
}

// image writes one of some layers, without a name.
func (s swept) image(t *image.LayoutTarget, config string, layers ...string) (ocispec.Descriptor, []byte) {
	s.Helper()
	m := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, Config: s.blob(t, ocispec.MediaTypeImageConfig, config)}
	for _, l := range layers {
		m.Layers = append(m.Layers, s.blob(t, ocispec.MediaTypeImageLayer, l))
	}
	return s.put(t, ocispec.MediaTypeImageManifest, m)
}

func (s swept) put(t *image.LayoutTarget, mediaType string, v any) (ocispec.Descriptor, []byte) {
	s.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		s.Fatal(err)
	}
	desc := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(b), Size: int64(len(b))}
	if err := t.PutManifest(s.Context(), desc, b); err != nil {
		s.Fatal(err)
	}
	return desc, b
}

func (s swept) tag(t *image.LayoutTarget, desc ocispec.Descriptor, b []byte, name string) {
	s.Helper()
	if err := t.Tag(s.Context(), desc, b, name); err != nil {
		s.Fatal(err)
	}
}

func (s swept) sweep(t *image.LayoutTarget) {
	s.Helper()
	if err := t.Sweep(s.Context()); err != nil {
		s.Fatal(err)
	}
}

func (s swept) has(want bool, what string, contents ...string) {
	s.Helper()
	for _, c := range contents {
		if _, err := os.Stat(s.path(c)); (err == nil) != want {
			s.Errorf("%s: %q is there: %v", what, c, err == nil)
		}
	}
}

func (s swept) path(content string) string {
	return filepath.Join(s.dir, "blobs", "sha256", digest.FromString(content).Encoded())
}

// age makes a file look as if it were there for long.
func (s swept) age(path string) {
	s.Helper()
	long := time.Now().Add(-24 * time.Hour)
	if err := os.Chtimes(path, long, long); err != nil {
		s.Fatal(err)
	}
}

// What a name stood for goes with it, and what others have there stays: images by
// a name or without, what an index leads to, what a document only mentions.
func TestLayoutSweep(t *testing.T) {
	s := swept{t, filepath.Join(t.TempDir(), "layout")}
	other := s.target()
	plain, b := s.image(other, "{}", "layer of an image", "shared")
	s.tag(other, plain, b, "latest")
	part, b := s.image(other, `{"os":"linux"}`, "layer below an index")
	mentioned, _ := s.image(other, "{ }", "layer of what is mentioned")
	index, ib := s.put(other, ocispec.MediaTypeImageIndex, ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex,
		Manifests: []ocispec.Descriptor{part}, Annotations: map[string]string{"see": mentioned.Digest.String()}})
	s.tag(other, index, ib, "")
	other.Release()

	rounds := []string{"cache one", "cache two", "cache three"}
	for i, layer := range rounds {
		c := s.target()
		desc, b := s.image(c, "{\"a\": 1}", layer, "shared", "cache base")
		s.tag(c, desc, b, "buildcache")
		files, err := filepath.Glob(filepath.Join(s.dir, "blobs", "*", "*"))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			s.age(f)
		}
		s.sweep(c)
		s.has(true, layer, layer, "shared", "cache base", "{\"a\": 1}")
		s.has(false, layer, rounds[:i]...)
	}
	s.has(true, "others", "layer of an image", "layer below an index", "layer of what is mentioned", "{}", "{ }", `{"os":"linux"}`, string(b), string(ib))
	if l, err := image.OpenLayout(s.dir); err != nil {
		t.Error(err)
	} else if _, err := l.Resolve(t.Context(), "latest"); err != nil {
		t.Error(err)
	}
}

// Somebody who is not ours may be about to name what nothing names, and a file that
// is none of the specification's is none of ours.
func TestLayoutSweepStrangers(t *testing.T) {
	s := swept{t, filepath.Join(t.TempDir(), "layout")}
	c := s.target()
	s.blob(c, "", "young")
	s.blob(c, "", "old")
	s.age(s.path("old"))
	odd, upload, late := filepath.Join(s.dir, "blobs", "sha256", "odd"), filepath.Join(s.dir, "blobs", ".upload-1"), filepath.Join(s.dir, "blobs", ".upload-2")
	for _, name := range []string{odd, upload, late} {
		if err := os.WriteFile(name, nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	s.age(odd)
	s.age(upload)
	s.sweep(c)
	s.has(true, "strangers", "young")
	s.has(false, "strangers", "old")
	for name, want := range map[string]bool{odd: true, upload: false, late: true} {
		if _, err := os.Stat(name); errors.Is(err, fs.ErrNotExist) == want {
			t.Errorf("%s is there: %v", name, !want)
		}
	}

	// Nothing goes where the index cannot be read, or one that it leads to.
	s.blob(c, "", "other old")
	s.age(s.path("other old"))
	if err := os.WriteFile(filepath.Join(s.dir, "index.json"), []byte(`{"manifests": [`), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := c.Sweep(t.Context()); err == nil {
		t.Error("half an index is no error")
	}
	s.has(true, "half an index", "other old")
}

// Content stays as long as somebody reads or writes there, in a process that is told by
// nothing but the lock.
func TestLayoutSweepInUse(t *testing.T) {
	s := swept{t, filepath.Join(t.TempDir(), "layout")}
	replace := func(layer string) {
		t.Helper()
		c := s.target()
		desc, b := s.image(c, "{}", layer)
		s.tag(c, desc, b, "cache")
		s.sweep(c)
	}
	replace("one")
	reader := s.target()
	reader.Hold(t.Context())
	replace("two")
	s.has(true, "while it is read", "one")
	reader.Release()

	// A writer has found what another replaces.
	writer := s.target()
	if desc, b := s.image(writer, "{}", "two"); true {
		replace("three")
		s.has(true, "while it is written", "two")
		s.tag(writer, desc, b, "mine")
	}
	s.sweep(writer)
	replace("four")
	s.has(true, "afterwards", "two", "four")
	s.has(false, "afterwards", "three")
}
