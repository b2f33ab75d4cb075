package registry_test

import (
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/lighter-oci/lighter/internal/image"
	"github.com/lighter-oci/lighter/internal/image/imagetest"
	"github.com/lighter-oci/lighter/internal/registry"
	"github.com/lighter-oci/lighter/internal/registry/registrytest"
)

// says answers with a registry's error.
func says(code int, name, message string) func(http.ResponseWriter, *http.Request) {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(code)
		_, _ = io.WriteString(w, `{"errors":[{"code":"`+name+`","message":"`+message+`"}]}`)
	}
}

// What passes is waited out with manifests, tags, questions, mounts and deletes.
func TestPassingWriteFaults(t *testing.T) {
	y := newYard(t, registrytest.Options{})
	f := imagetest.Sample(t)
	for label, fault := range map[string]func(http.ResponseWriter, *http.Request){
		"429": status(429, "Retry-After", "0"), "503": status(503), "reset": reset,
	} {
		for _, method := range []string{"PUT", "HEAD", "DELETE", "POST"} {
			t.Run(label+" of "+method, func(t *testing.T) {
				r := y.repository(t, registry.Options{})
				y.proxy.Set(nil)
				if err := imagetest.Push(t.Context(), r, f, "one"); err != nil {
					t.Fatal(err)
				}
				y.proxy.Set(on(method, 3, "/", fault))
				if err := r.PutManifest(t.Context(), f.Root, f.Blob(f.Root.Digest)); err != nil {
					t.Error(err)
				}
				if err := r.Tag(t.Context(), f.Root, f.Blob(f.Root.Digest), "two"); err != nil {
					t.Error(err)
				}
				if there, err := r.Has(t.Context(), f.Root); !there || err != nil {
					t.Errorf("it is there: %v, %v", there, err)
				}
				if _, err := y.repository(t, registry.Options{}).Mount(t.Context(), f.Descriptors[0], reference(t, y.proxy.Ref("nowhere"))); err != nil {
					t.Error(err)
				}
				if err := r.Delete(t.Context(), f.Root); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

// A manifest is sent again where the registry may be writing what it names, and
// only there.
func TestManifestWaitsForLinks(t *testing.T) {
	y := newYard(t, registrytest.Options{})
	f := imagetest.Sample(t)
	r := y.repository(t, registry.Options{})
	if err := imagetest.Push(t.Context(), r, f, "one"); err != nil {
		t.Fatal(err)
	}
	root := f.Blob(f.Root.Digest)
	for _, code := range []string{"DIGEST_INVALID", "MANIFEST_BLOB_UNKNOWN", "BLOB_UNKNOWN"} {
		y.proxy.Set(on("PUT", 1, "/manifests/", says(400, code, "a moment")))
		if err := errors.Join(r.PutManifest(t.Context(), f.Root, root), r.Tag(t.Context(), f.Root, root, "two")); err != nil {
			t.Errorf("%s: %v", code, err)
		}
	}
	y.proxy.Set(on("PUT", 1, "/manifests/", says(400, "MANIFEST_INVALID", "no moment")))
	if err := r.PutManifest(t.Context(), f.Root, root); err == nil {
		t.Error("a manifest that is wrong was sent again")
	}
}

// Every refusal is one line and a next step.
func TestRefusedWrites(t *testing.T) {
	y := newYard(t, registrytest.Options{})
	f := imagetest.Sample(t)
	r := y.repository(t, registry.Options{})
	root := f.Blob(f.Root.Digest)
	// The real one: nothing that the index names is there.
	expect(t, r.PutManifest(t.Context(), f.Root, root), "that the registry does not have", "push again")
	for _, tt := range []struct {
		code                      int
		name, message, line, hint string
	}{
		{400, "TAG_INVALID", "The image tag '1' already exists and cannot be overwritten because the repository is immutable.", "the tag is taken", "another tag"},
		{412, "PRECONDITION", "configured as immutable", "the tag is taken", "another tag"},
		{409, "", "", "the tag is taken", "another tag"},
		{404, "NAME_UNKNOWN", "repository name not known", "no such repository", "create the repository"},
		{403, "DENIED", "quota exceeded", "access denied; no credential for " + y.proxy.Addr, "docker login"},
		{413, "", "", "bigger than", "raise the limit"},
		{400, "MANIFEST_INVALID", "unknown media type", "refuses the manifest", "gzip"},
		{405, "UNSUPPORTED", "pull-through cache", "does not allow", "settings"},
		{400, "", "", "status 400", ""},
	} {
		y.proxy.Set(on("PUT", -1, "/manifests/", says(tt.code, tt.name, tt.message)))
		err := r.Tag(t.Context(), f.Root, root, "one")
		expect(t, err, tt.line, tt.hint)
		if err != nil && (strings.Contains(err.Error(), "\n") || !strings.Contains(err.Error(), ":one: ") || !strings.Contains(err.Error(), tt.message)) {
			t.Errorf("not one line with the tag and what the registry says: %q", err)
		}
		if n := y.proxy.Count("PUT", ""); n != 1 {
			t.Errorf("%d: asked %d times", tt.code, n)
		}
	}
	y.proxy.Set(on("DELETE", -1, "", says(405, "UNSUPPORTED", "no deletes here")))
	expect(t, r.Delete(t.Context(), f.Root), "does not allow that", "settings")
	y.proxy.Set(nil)
	for _, name := range []string{"", "a b", "../x", "sha256:abc", "x@y", strings.Repeat("x", 200)} {
		if err := r.Tag(t.Context(), f.Root, root, name); err == nil || !strings.Contains(err.Error(), "is no tag") || len(y.proxy.Requests()) > 0 {
			t.Errorf("%q: %v", name, err)
		}
	}
}

// A tag that may not be moved and already stands for the image was moved by an
// attempt whose answer got lost.
func TestImmutableTag(t *testing.T) {
	y := newYard(t, registrytest.Options{})
	f := imagetest.Sample(t)
	r := y.repository(t, registry.Options{})
	if err := imagetest.Push(t.Context(), r, f, "one"); err != nil {
		t.Fatal(err)
	}
	y.proxy.Set(on("PUT", -1, "/manifests/", says(400, "TAG_INVALID", "the tag is immutable")))
	if err := r.Tag(t.Context(), f.Root, f.Blob(f.Root.Digest), "one"); err != nil {
		t.Error(err)
	}
	for _, desc := range f.Descriptors {
		if image.IsManifest(desc.MediaType) {
			expect(t, r.Tag(t.Context(), desc, f.Blob(desc.Digest), "one"), "the tag is taken", "another tag")
		}
	}
}

// What a registry answers after a write is compared with what was written.
func TestWriteLies(t *testing.T) {
	y := newYard(t, registrytest.Options{})
	f := imagetest.Sample(t)
	r := y.repository(t, registry.Options{})
	if err := imagetest.Push(t.Context(), r, f, "one"); err != nil {
		t.Fatal(err)
	}
	y.proxy.Rewrite(func(resp *http.Response) error {
		resp.Header.Set("Docker-Content-Digest", digest.FromString("x").String())
		return nil
	})
	for _, err := range []error{r.PutManifest(t.Context(), f.Root, f.Blob(f.Root.Digest)), r.Tag(t.Context(), f.Root, f.Blob(f.Root.Digest), "one")} {
		if !errors.Is(err, image.ErrCorrupt) {
			t.Errorf("%v, want ErrCorrupt", err)
		}
	}
	if there, err := r.Has(t.Context(), f.Root); there || err != nil {
		t.Errorf("by another digest it is there: %v, %v", there, err)
	}
}

// What is deleted is gone, and gone is what was never there.
func TestDelete(t *testing.T) {
	y := newYard(t, registrytest.Options{})
	f := imagetest.Sample(t)
	r := y.repository(t, registry.Options{})
	if err := imagetest.Push(t.Context(), r, f, "one"); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		for _, desc := range slices.Backward(f.Descriptors) {
			if err := r.Delete(t.Context(), desc); err != nil {
				t.Fatal(err)
			}
			invisible(t, r, desc)
		}
	}
	if _, err := r.Resolve(t.Context(), "one"); !errors.Is(err, image.ErrNotFound) {
		t.Errorf("its tag: %v", err)
	}
	if err := r.Delete(t.Context(), ocispec.Descriptor{Digest: "sha256:../x"}); err == nil {
		t.Error("what is no digest can be deleted")
	}
}

// Tags come page by page.
func TestTags(t *testing.T) {
	y := newYard(t, registrytest.Options{})
	f := imagetest.Sample(t)
	r := y.repository(t, registry.Options{})
	if _, err := r.Tags(t.Context()); !errors.Is(err, image.ErrNotFound) {
		t.Errorf("of a repository that is not there: %v", err)
	}
	want := []string{"a", "b", "c", "d", "e"}
	for _, name := range want {
		if err := imagetest.Push(t.Context(), r, f, name); err != nil {
			t.Fatal(err)
		}
	}
	got, err := r.Tags(t.Context())
	if slices.Sort(got); err != nil || !slices.Equal(got, want) {
		t.Errorf("%v, %v", got, err)
	}
	// Debian's registry has no pages; these come as others make them.
	y.proxy.Set(on("GET", -1, "/tags/", func(w http.ResponseWriter, r *http.Request) {
		page, last := `{"tags":["a","b"]}`, r.URL.Query().Get("last")
		if last == "b" {
			page = `{"tags":["c"]}`
		} else {
			w.Header().Set("Link", `</v2/elsewhere/tags/list?last=b&n=2>; rel="next"`)
		}
		_, _ = io.WriteString(w, page)
	}))
	if got, err := r.Tags(t.Context()); err != nil || !slices.Equal(got, want[:3]) || y.proxy.Count("GET", "/tags/list") != 2 || y.proxy.Count("GET", "elsewhere") != 0 {
		t.Errorf("%v, %v, %v", got, err, y.proxy.Requests())
	}
	y.proxy.Set(on("GET", -1, "/tags/", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Link", `</v2/x/tags/list?n=1&last=a>; rel="next"`)
		_, _ = io.WriteString(w, `{"tags":["a","b`)
	}))
	if _, err := r.Tags(t.Context()); err == nil || strings.Contains(err.Error(), "\n") {
		t.Errorf("broken JSON: %v", err)
	}
}
