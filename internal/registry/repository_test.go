package registry_test

import (
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/lighter-oci/lighter/internal/image"
	"github.com/lighter-oci/lighter/internal/image/imagetest"
	"github.com/lighter-oci/lighter/internal/registry"
	"github.com/lighter-oci/lighter/internal/registry/registrytest"
)

func TestRepositoryIsASource(t *testing.T) {
	imagetest.TestSource(t, func(t *testing.T, f *imagetest.Fixture) imagetest.Opened {
		s := registrytest.Start(t, registrytest.Options{})
		r, ref := repository(t, client(t, registry.Options{}), s.Push(t, "team/app", f))
		return imagetest.Opened{Source: r, Ref: ref, Damage: func(t testing.TB, d digest.Digest) { damage(t, s, f, d) }}
	})
}

// damage flips a bit of what a registry has stored.
func damage(t testing.TB, s *registrytest.Server, f *imagetest.Fixture, d digest.Digest) {
	t.Helper()
	content := append([]byte(nil), f.Blob(d)...)
	content[len(content)/2] ^= 1
	if err := os.WriteFile(s.BlobFile(d), content, 0o644); err != nil {
		t.Fatal(err)
	}
}

// A registry that sends a manifest as plain text has sent a manifest.
func TestResolveWithoutMediaType(t *testing.T) {
	b := newBench(t)
	for _, contentType := range []string{"", "text/plain; charset=utf-8", "application/json"} {
		b.proxy.Rewrite(func(resp *http.Response) error {
			resp.Header.Set("Content-Type", contentType)
			return nil
		})
		r, ref := repository(t, client(t, registry.Options{}), b.ref)
		desc, err := r.Resolve(t.Context(), ref)
		if err != nil || desc.MediaType != b.fixture.Root.MediaType {
			t.Errorf("%q: %s, %v", contentType, desc.MediaType, err)
		}
	}
}

// Every request for a manifest says what is understood, and none asks for
// compression: a blob that a proxy compressed once more would be unpacked.
func TestRequestHeaders(t *testing.T) {
	b := newBench(t)
	b.proxy.Set(func(_ http.ResponseWriter, r *http.Request) bool {
		if v := r.Header.Get("Accept-Encoding"); v != "" {
			t.Errorf("%s accepts the encoding %q", r.URL.Path, v)
		}
		for _, mediaType := range []string{image.DockerIndex, image.DockerManifest, "application/vnd.oci.image.index.v1+json", "application/vnd.oci.image.manifest.v1+json"} {
			if strings.Contains(r.URL.Path, "/manifests/") && !strings.Contains(r.Header.Get("Accept"), mediaType) {
				t.Errorf("%s accepts %q", r.URL.Path, r.Header.Get("Accept"))
			}
		}
		if v := r.Header.Get("User-Agent"); !strings.HasPrefix(v, "lighter") && r.URL.Path != "/v2/" {
			t.Errorf("user agent %q", v)
		}
		return false
	})
	r, ref := repository(t, client(t, registry.Options{}), b.ref)
	if _, err := image.Read(t.Context(), r, ref, image.ReadOptions{}); err != nil {
		t.Fatal(err)
	}
}
