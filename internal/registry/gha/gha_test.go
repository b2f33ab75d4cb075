package gha

import (
	"bytes"
	"errors"
	"io"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/lighter-oci/lighter/internal/image"
	"github.com/lighter-oci/lighter/internal/image/imagetest"
	"github.com/lighter-oci/lighter/internal/registry/gha/ghatest"
)

// env is a workflow's, with an older service that is not to be asked.
func env(svc *ghatest.Service, scopes ...string) func(string) string {
	vars := map[string]string{tokenVar: ghatest.Token(scopes...), urlV2Var: svc.URL + "/", urlV1Var: "http://v1.invalid/", isV2Var: "True"}
	return func(name string) string { return vars[name] }
}

func open(t *testing.T, svc *ghatest.Service, scopes ...string) *Store {
	t.Helper()
	s, err := Open(env(svc, scopes...))
	if err != nil {
		t.Fatal(err)
	}
	s.wait = 10 * time.Millisecond
	return s
}

func TestCacheIsASource(t *testing.T) {
	imagetest.TestSource(t, func(t *testing.T, f *imagetest.Fixture) imagetest.Opened {
		svc := ghatest.Start(t)
		s := open(t, svc, "refs/heads/main")
		if err := imagetest.Push(t.Context(), s, f, "app"); err != nil {
			t.Fatal(err)
		}
		return imagetest.Opened{Source: s, Ref: "app", Damage: func(t testing.TB, d digest.Digest) {
			svc.Damage(func(key string, content []byte) bool {
				return strings.Contains(key, d.Encoded()) || strings.Contains(key, "name-") && bytes.Contains(content, []byte(d))
			})
		}}
	})
}

func TestCacheIsATarget(t *testing.T) {
	imagetest.TestTarget(t, func(t *testing.T, _ *imagetest.Fixture) imagetest.OpenedTarget {
		s := open(t, ghatest.Start(t), "refs/heads/main")
		return imagetest.OpenedTarget{Target: s, Source: s, Names: [2]string{"one", "feature/two"}}
	})
}

func manifest(content string) (ocispec.Descriptor, []byte) {
	b := []byte(`{"schemaVersion":2,"mediaType":"` + ocispec.MediaTypeImageManifest + `","x":"` + content + `"}`)
	return ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromBytes(b), Size: int64(len(b))}, b
}

// A branch begins with what the default branch has, and what it writes stays its own.
func TestBranches(t *testing.T) {
	svc := ghatest.Start(t)
	main := open(t, svc, "refs/heads/main")
	branch := open(t, svc, "refs/heads/feature", "refs/heads/main")
	tag := func(s *Store, content string) digest.Digest {
		desc, b := manifest(content)
		if err := errors.Join(s.PutManifest(t.Context(), desc, b), s.Tag(t.Context(), desc, b, "m")); err != nil {
			t.Fatal(err)
		}
		return desc.Digest
	}
	expect := func(s *Store, want digest.Digest) {
		t.Helper()
		if got, err := s.Resolve(t.Context(), "m"); err != nil || got.Digest != want {
			t.Errorf("it is %s, %v, not %s", got.Digest, err, want)
		}
	}
	first := tag(main, "first")
	expect(branch, first)
	own := tag(branch, "own")
	expect(branch, own)
	expect(main, first)
	second := tag(main, "second")
	expect(main, second)
	expect(branch, own)
}

// Of two that swap from the same state one wins, and a number that somebody died
// with is passed over.
func TestSwap(t *testing.T) {
	svc := ghatest.Start(t)
	s := open(t, svc, "refs/heads/main")
	swap := func(content string, was digest.Digest) (digest.Digest, error) {
		desc, b := manifest(content)
		return desc.Digest, s.Swap(t.Context(), desc, b, "m", was)
	}
	first, err := swap("1", "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := swap("2", ""); !errors.Is(err, image.ErrMoved) {
		t.Errorf("a second first one: %v", err)
	}
	won := make(chan error, 8)
	for i := range cap(won) {
		go func() {
			_, err := swap(strings.Repeat("x", i+1), first)
			won <- err
		}()
	}
	winners := 0
	for range cap(won) {
		switch err := <-won; {
		case err == nil:
			winners++
		case !errors.Is(err, image.ErrMoved):
			t.Error(err)
		}
	}
	if winners != 1 {
		t.Errorf("%d of %d swapped from the same state", winners, cap(won))
	}
	now, err := s.Resolve(t.Context(), "m")
	if err != nil {
		t.Fatal(err)
	}
	svc.Abandon("refs/heads/main", version+"name-m#3")
	if _, err := swap("after", now.Digest); err != nil {
		t.Error(err)
	}
}

// A content whose key is taken by somebody who died gets another.
func TestAbandonedContent(t *testing.T) {
	svc := ghatest.Start(t)
	s := open(t, svc, "refs/heads/main")
	desc, b := manifest("abandoned")
	svc.Abandon("refs/heads/main", digestKey(desc.Digest)+strconv.FormatInt(desc.Size, 10)+"#")
	if err := s.PutManifest(t.Context(), desc, b); err != nil {
		t.Fatal(err)
	}
	if got, err := image.ReadAll(t.Context(), s, desc); err != nil || !bytes.Equal(got, b) {
		t.Errorf("%q, %v", got, err)
	}
}

// Addresses are good for a while, and the storage has bad moments.
func TestAddressesExpire(t *testing.T) {
	svc := ghatest.Start(t)
	s := open(t, svc, "refs/heads/main")
	desc, b := manifest("here")
	if err := s.PutManifest(t.Context(), desc, b); err != nil {
		t.Fatal(err)
	}
	part := func() string {
		t.Helper()
		rc, err := s.FetchRange(t.Context(), desc, 2, 13)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(rc)
		if err := errors.Join(err, rc.Close()); err != nil {
			t.Fatal(err)
		}
		return string(got)
	}
	for range 3 {
		if got := part(); got != "schemaVersion" {
			t.Errorf("%q", got)
		}
	}
	svc.Expire()
	if got := part(); got != "schemaVersion" {
		t.Errorf("%q from where it was before", got)
	}
	svc.Trouble(1)
	if got := part(); got != "schemaVersion" {
		t.Errorf("%q", got)
	}
}

// What is wrong is said before anything is done.
func TestRefusals(t *testing.T) {
	svc := ghatest.Start(t)
	if _, err := Open(func(string) string { return "" }); err == nil || !strings.Contains(err.Error(), tokenVar) {
		t.Errorf("outside of a workflow: %v", err)
	}
	if _, err := Open(func(name string) string {
		if name == tokenVar {
			return "none"
		}
		return env(svc, "x")(name)
	}); err == nil {
		t.Error("a token that is none is taken")
	}
	reader := open(t, svc, "read:refs/pull/1/merge", "refs/heads/main")
	desc, b := manifest("no")
	if err := reader.PutManifest(t.Context(), desc, b); !errors.Is(err, os.ErrPermission) {
		t.Errorf("a manifest that may not be put: %v", err)
	}
	if _, err := reader.Upload(t.Context()); !errors.Is(err, os.ErrPermission) {
		t.Errorf("an upload that may not be: %v", err)
	}
	s := open(t, svc, "refs/heads/main")
	for _, name := range []string{"", "a,b", "a#1", "-a", strings.Repeat("x", 129)} {
		if err := s.Tag(t.Context(), desc, b, name); err == nil {
			t.Errorf("%.20q is taken for a name", name)
		}
	}
	svc.Close()
	if _, err := s.Has(t.Context(), desc); err == nil {
		t.Error("a service that is gone is no error")
	}
}
