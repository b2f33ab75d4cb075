package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/identity"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"pgregory.net/rapid"
)

// TestHasChains: whatever images there are, a layer is left out only where
// each of its places in the image has its whole stack below in one of them.
func TestHasChains(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		stack := rapid.SliceOfN(rapid.SampledFrom([]digest.Digest{"sha256:a", "sha256:b", "sha256:c"}), 0, 5)
		images := rapid.SliceOfN(stack, 0, 4).Draw(t, "images")
		diffIDs := stack.Draw(t, "image")
		img := &loadable{chains: identity.ChainIDs(slices.Clone(diffIDs))}
		for _, d := range diffIDs {
			img.layers = append(img.layers, blob{desc: ocispec.Descriptor{Digest: d}, layer: true, diffID: d})
		}
		has := hasChains(img, images)
		for _, d := range diffIDs {
			want := true
			for i := range diffIDs {
				if diffIDs[i] == d {
					want = want && slices.ContainsFunc(images, func(other []digest.Digest) bool {
						return len(other) > i && slices.Equal(other[:i+1], diffIDs[:i+1])
					})
				}
			}
			if has[d] != want {
				t.Fatalf("%s in %v with %v: has %v, want %v", d, diffIDs, images, has[d], want)
			}
		}
	})
}

// FuzzGraph: no index, manifest or config, whatever is in it, does more than fail.
func FuzzGraph(f *testing.F) {
	config := digest.FromString(`{}`)
	for _, s := range []string{
		`{}`, `null`, `[]`, `{"manifests":null}`, `{"manifests":[{}]}`,
		`{"manifests":[{"mediaType":"application/vnd.oci.image.index.v1+json","digest":"sha256:1"}]}`,
		`{"config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"` + config.String() + `"},"layers":[{"digest":"../../x"}]}`,
		`{"rootfs":{"diff_ids":["x"]}}`,
	} {
		f.Add([]byte(s), true)
		f.Add([]byte(s), false)
	}
	f.Fuzz(func(t *testing.T, raw []byte, index bool) {
		src := newSource(t)
		src.add("", []byte(`{}`))
		mediaType := ocispec.MediaTypeImageManifest
		if index {
			mediaType = ocispec.MediaTypeImageIndex
		}
		ctx, root := context.Background(), src.add(mediaType, raw)
		blobs, err := graph(ctx, src, root)
		for _, b := range blobs {
			if p := blobPath(b.desc.Digest); strings.Contains(p, "..") || strings.Count(p, "/") != 2 {
				t.Errorf("path %q, error %v", p, err)
			}
		}
		if c, err := choose(ctx, src, root, ocispec.Platform{OS: "linux", Architecture: runtime.GOARCH}); err == nil {
			_, _ = readImage(ctx, src, c.desc)
		}
	})
}

func TestGraphErrors(t *testing.T) {
	src := newSource(t)
	ctx := context.Background()
	nested := src.addJSON(t, ocispec.MediaTypeImageIndex, ocispec.Index{})
	for range maxDepth + 1 {
		nested = src.addJSON(t, ocispec.MediaTypeImageIndex, ocispec.Index{Manifests: []ocispec.Descriptor{nested}})
	}
	layer := src.hello(t, "x")
	var m ocispec.Manifest
	if err := json.Unmarshal(src.blobs[src.image(t, layer).Digest], &m); err != nil {
		t.Fatal(err)
	}
	m.Layers = append(m.Layers, layer.desc)
	uneven := src.addJSON(t, ocispec.MediaTypeImageManifest, m)
	lying := src.add(ocispec.MediaTypeImageManifest, []byte("{}"))
	src.blobs[lying.Digest] = []byte(`{"a":1}`)
	large := src.add(ocispec.MediaTypeImageIndex, make([]byte, maxJSON+1))

	for _, c := range []struct {
		root ocispec.Descriptor
		want string
	}{
		{nested, "nested more than 4 deep"},
		{uneven, "does not have a diffID for each of its 2 layers"},
		{lying, "its bytes have the digest sha256:"},
		{large, "bytes are too many"},
		{src.add(ocispec.MediaTypeImageIndex, []byte("{")), "unexpected end of JSON input"},
		{ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: "sha256:../x"}, "invalid checksum digest"},
		{ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromString("none")}, "no such blob"},
	} {
		_, gerr := graph(ctx, src, c.root)
		_, ierr := readImage(ctx, src, c.root)
		if err := errors.Join(gerr, ierr); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("error %v, want %q", err, c.want)
		}
	}
}

func TestFullNames(t *testing.T) {
	got, err := fullNames([]string{"a", "docker.io/library/a:latest", "localhost:5000/x/y:1", "ghcr.io/a/b"})
	if want := []string{"docker.io/library/a:latest", "localhost:5000/x/y:1", "ghcr.io/a/b:latest"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("%v, %v, want %v", got, err, want)
	}
	for _, name := range []string{"", "A", "a:b:c", "a@" + digest.FromString("").String()} {
		if got, err := fullNames([]string{name}); err == nil {
			t.Errorf("%q: %v", name, got)
		}
	}
}
