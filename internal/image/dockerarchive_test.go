package image_test

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/lighter-oci/lighter/internal/codec"
	"github.com/lighter-oci/lighter/internal/image"
	"github.com/lighter-oci/lighter/internal/image/imagetest"
)

// saveable is one image with a layer of each codec, one of them twice, and no
// index: all that an archive without a layout can hold.
func saveable(t *testing.T) *imagetest.Fixture {
	f := &imagetest.Fixture{Tag: "example.com/app:1"}
	plain := f.AddLayer(t, imagetest.Tar(t, 1, 3000), codec.Compression{Codec: codec.Uncompressed})
	f.AddImage(t, amd64, plain, f.AddForeignGzip(t, imagetest.Tar(t, 2, 3000)), f.AddLayer(t, imagetest.Tar(t, 3, 400<<10), zstd3), plain)
	return f
}

const saveableDescription = `linux/amd64
  uncompressed called uncompressed, no record
  gzip called gzip, no record
  zstd called zstd, zstd:3
  uncompressed called uncompressed, no record
`

// saved is a tar in the making that `docker save` before Docker 25 might have
// written: a directory a layer, and links where a layer is there already.
type saved struct {
	tar.Writer
	b        bytes.Buffer
	manifest []map[string]any
	at       map[digest.Digest]string
}

func newSaved() *saved {
	s := &saved{at: map[digest.Digest]string{}}
	s.Writer = *tar.NewWriter(&s.b)
	return s
}

func (s *saved) file(t testing.TB, name string, content []byte) {
	t.Helper()
	if err := s.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(content))}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Write(content); err != nil {
		t.Fatal(err)
	}
}

// add adds the fixture's root, a manifest.
func (s *saved) add(t testing.TB, f *imagetest.Fixture, tags ...string) {
	t.Helper()
	var m ocispec.Manifest
	if err := json.Unmarshal(f.Blob(f.Root.Digest), &m); err != nil {
		t.Fatal(err)
	}
	config := m.Config.Digest.Encoded() + ".json"
	s.file(t, config, f.Blob(m.Config.Digest))
	var layers []string
	for i, l := range m.Layers {
		dir := fmt.Sprintf("%s-%d-%d", m.Config.Digest.Encoded()[:20], len(s.manifest), i)
		layers = append(layers, dir+"/layer.tar")
		s.file(t, dir+"/VERSION", []byte("1.0"))
		if at := s.at[l.Digest]; at != "" {
			if err := s.WriteHeader(&tar.Header{Name: dir + "/layer.tar", Typeflag: tar.TypeSymlink, Linkname: "../" + at}); err != nil {
				t.Fatal(err)
			}
			continue
		}
		s.at[l.Digest] = dir + "/layer.tar"
		s.file(t, dir+"/layer.tar", f.Blob(l.Digest))
	}
	s.manifest = append(s.manifest, map[string]any{"Config": config, "RepoTags": tags, "Layers": layers})
}

func (s *saved) bytes(t testing.TB) []byte {
	t.Helper()
	b, err := json.Marshal(s.manifest)
	if err != nil {
		t.Fatal(err)
	}
	s.file(t, "manifest.json", b)
	s.file(t, "repositories", []byte(`{"none":"of this is read`))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return s.b.Bytes()
}

func openDocker(t *testing.T, content []byte) (*image.DockerArchive, string) {
	t.Helper()
	name := filepath.Join(t.TempDir(), "image.tar")
	if err := os.WriteFile(name, content, 0o644); err != nil {
		t.Fatal(err)
	}
	a, err := image.OpenDockerArchive(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	})
	return a, name
}

func TestDockerArchiveIsASource(t *testing.T) {
	imagetest.TestSourceOf(t, saveable(t), saveableDescription, func(t *testing.T, f *imagetest.Fixture) imagetest.Opened {
		s := newSaved()
		s.add(t, f, f.Tag)
		a, _ := openDocker(t, s.bytes(t))
		if _, err := a.Resolve(t.Context(), f.Tag); err != nil { // until then it has no digests
			t.Fatal(err)
		}
		return imagetest.Opened{Source: a, Ref: f.Tag}
	})
}

// Since Docker 25 an archive is a layout with a manifest.json beside.
func TestDockerLayoutIsASource(t *testing.T) {
	imagetest.TestSource(t, func(t *testing.T, f *imagetest.Fixture) imagetest.Opened {
		a, name := openDocker(t, withFile(t, f.Archive(t), "manifest.json", `[{"Config":"x","Layers":[]}]`))
		return imagetest.Opened{Source: a, Ref: f.Tag, Damage: func(t testing.TB, d digest.Digest) { flip(t, name, f.Blob(d)) }}
	})
}

// withFile is an archive with another file at its end.
func withFile(t *testing.T, archive []byte, name, content string) []byte {
	t.Helper()
	s := newSaved()
	for r := tar.NewReader(bytes.NewReader(archive)); ; {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		b, err2 := io.ReadAll(r)
		if err = errors.Join(err, err2); err != nil {
			t.Fatal(err)
		}
		s.file(t, h.Name, b)
	}
	s.file(t, name, []byte(content))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return s.b.Bytes()
}

// A layer that is damaged before anybody has hashed it.
func TestDockerArchiveDamaged(t *testing.T) {
	f := saveable(t)
	s := newSaved()
	s.add(t, f)
	a, name := openDocker(t, s.bytes(t))
	var m ocispec.Manifest
	if err := json.Unmarshal(f.Blob(f.Root.Digest), &m); err != nil {
		t.Fatal(err)
	}
	flip(t, name, f.Blob(m.Layers[0].Digest))
	if _, err := a.Resolve(t.Context(), ""); !errors.Is(err, image.ErrCorrupt) || !strings.Contains(err.Error(), "layer.tar") {
		t.Errorf("%v, want ErrCorrupt that names the layer", err)
	}
}

func TestDockerArchiveNames(t *testing.T) {
	one, two := saveable(t), &imagetest.Fixture{}
	two.AddImage(t, amd64, two.AddForeignGzip(t, imagetest.Tar(t, 9, 10)))
	roots := map[string]digest.Digest{"one": one.Root.Digest, "two": two.Root.Digest}
	s := newSaved()
	s.add(t, one, "app:1", "docker.io/library/other:latest")
	s.add(t, two)
	a, _ := openDocker(t, s.bytes(t))
	config := func(f *imagetest.Fixture) string {
		var m ocispec.Manifest
		if err := json.Unmarshal(f.Blob(f.Root.Digest), &m); err != nil {
			t.Fatal(err)
		}
		return m.Config.Digest.String()
	}
	for ref, want := range map[string]string{
		"app:1": "one", "docker.io/library/app:1": "one", "other": "one", "other:latest": "one", "@0": "one", "@1": "two",
		config(one): "one", config(two): "two", one.Root.Digest.String(): "one", two.Root.Digest.String(): "two",
		"": `holds 2 images: name one of "app:1", "@1"`, "app:2": `has no "app:2", but "app:1", "@1"`, "@2": `has no "@2"`, "app": `has no "app"`, "@-1": "has no",
	} {
		desc, err := a.Resolve(t.Context(), ref)
		switch d, ok := roots[want]; {
		case ok && (err != nil || desc.Digest != d):
			t.Errorf("%q: %s, %v; want %s", ref, desc.Digest, err, want)
		case !ok && (err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("%q: %v, want %s", ref, err, want)
		}
	}
}

// Docker 25 names images in the index; others leave that to manifest.json.
func TestDockerLayoutNames(t *testing.T) {
	f := saveable(t)
	f.Tag = ""
	var m ocispec.Manifest
	if err := json.Unmarshal(f.Blob(f.Root.Digest), &m); err != nil {
		t.Fatal(err)
	}
	names := fmt.Sprintf(`[{"Config":"blobs/sha256/%s","RepoTags":["app:1","example.com/app:2"],"Layers":[]},{"Config":"x","RepoTags":["app:2"]}]`, m.Config.Digest.Encoded())
	a, _ := openDocker(t, withFile(t, f.Archive(t), "manifest.json", names))
	for _, ref := range []string{"", "app:1", "docker.io/library/app:1", "example.com/app:2"} {
		if desc, err := a.Resolve(t.Context(), ref); err != nil || desc.Digest != f.Root.Digest {
			t.Errorf("%q: %s, %v", ref, desc.Digest, err)
		}
	}
	if _, err := a.Resolve(t.Context(), "app:2"); !errors.Is(err, image.ErrNotFound) {
		t.Errorf("app:2: %v", err)
	}
}

// DiffIDs and config survive the way through an archive, whatever the layers
// become.
func TestConvertDockerArchive(t *testing.T) {
	f := saveable(t)
	s := newSaved()
	s.add(t, f, f.Tag)
	a, _ := openDocker(t, s.bytes(t))
	d := newDestination(t)
	if _, err := image.Copy(t.Context(), a, "", d, []string{"copy"}, image.CopyOptions{Variants: []codec.Compression{gzip6}, Pool: newPool(t)}); err != nil {
		t.Fatal(err)
	}
	checkTars(t, d)
	var m ocispec.Manifest
	if err := json.Unmarshal(f.Blob(f.Root.Digest), &m); err != nil {
		t.Fatal(err)
	}
	if got := d.read(t, "copy").Manifests[0]; got.ConfigDescriptor.Digest != m.Config.Digest || got.Layers[2].Codec != codec.Gzip {
		t.Errorf("config %s, want %s; layer is %s", got.ConfigDescriptor.Digest, m.Config.Digest, got.Layers[2].Codec)
	}
}

// Present leaves out what a store has only the digests of.
func TestPresent(t *testing.T) {
	sample := imagetest.Sample(t)
	var index ocispec.Index
	if err := json.Unmarshal(sample.Blob(sample.Root.Digest), &index); err != nil {
		t.Fatal(err)
	}
	amd, arm, attestation := index.Manifests[0].Digest, index.Manifests[1].Digest, index.Manifests[2].Digest
	layer := func(d digest.Digest, i int) digest.Digest {
		var m ocispec.Manifest
		if err := json.Unmarshal(sample.Blob(d), &m); err != nil {
			t.Fatal(err)
		}
		return m.Layers[i].Digest
	}
	for label, tt := range map[string]struct {
		gone []digest.Digest
		want string // described, or an error
		left []string
	}{
		"all there":         {nil, sampleDescription, nil},
		"no arm":            {[]digest.Digest{arm}, "linux/amd64 attestation of true", []string{"linux/arm/v7"}},
		"a layer of arm":    {[]digest.Digest{layer(arm, 3)}, "linux/amd64 attestation of true", []string{"linux/arm/v7"}},
		"no amd":            {[]digest.Digest{amd}, "linux/arm/v7", []string{"linux/amd64"}},
		"no attestation":    {[]digest.Digest{attestation}, "linux/amd64 linux/arm/v7", []string{"attestation " + attestation.Encoded()[:12]}},
		"a shared layer":    {[]digest.Digest{layer(amd, 1)}, "no platform of " + sample.Root.Digest.String() + " is there whole: linux/amd64: ", nil},
		"images, no images": {[]digest.Digest{amd, arm, attestation}, "no platform of", nil},
		"no index":          {[]digest.Digest{sample.Root.Digest}, "not found", nil},
	} {
		t.Run(label, func(t *testing.T) {
			l := source(sample)
			l.content = maps.Clone(l.content)
			for _, d := range tt.gone {
				delete(l.content, d)
			}
			src, left, err := image.Present(t.Context(), l, sample.Tag)
			if err != nil {
				if !strings.Contains(err.Error(), tt.want) || !errors.Is(err, image.ErrNotFound) {
					t.Errorf("%v, want ErrNotFound, %s", err, tt.want)
				}
				return
			}
			img, err := image.Read(t.Context(), src, sample.Tag, image.ReadOptions{})
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for line := range strings.Lines(imagetest.Describe(img)) {
				if !strings.HasPrefix(line, " ") {
					got = append(got, strings.TrimSpace(line))
				}
			}
			if strings.Join(got, " ") != tt.want || !slices.Equal(left, tt.left) {
				t.Errorf("%q, left %q; want %q, left %q", got, left, tt.want, tt.left)
			}
			if again, _, err := image.Present(t.Context(), src, sample.Tag); err != nil || again != src {
				t.Errorf("what is present is not whole: %v", err)
			}
		})
	}
}

// Provenance alone is no image.
func TestPresentAttestation(t *testing.T) {
	f := &imagetest.Fixture{Tag: "app"}
	gone := f.AddImage(t, amd64, f.AddForeignGzip(t, imagetest.Tar(t, 1, 10)))
	f.AddIndex(t, gone, f.AddAttestation(t, digest.FromString("another")))
	l := source(f)
	delete(l.content, gone.Digest)
	_, _, err := image.Present(t.Context(), l, "app")
	var hinted interface{ Hint() string }
	if !errors.Is(err, image.ErrNotFound) || !errors.As(err, &hinted) || !strings.Contains(hinted.Hint(), "registry") {
		t.Errorf("%v, want ErrNotFound with a hint", err)
	}
}

const sampleDescription = "linux/amd64 linux/arm/v7 attestation of true"
