package publish

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/lighter-oci/lighter/internal/codec"
	"github.com/lighter-oci/lighter/internal/image"
	"github.com/lighter-oci/lighter/internal/image/imagetest"
	"github.com/lighter-oci/lighter/internal/registry"
	"github.com/lighter-oci/lighter/internal/registry/registrytest"
)

func repository(t *testing.T, name string) *registry.Repository {
	t.Helper()
	ref, err := image.ParseReference(name)
	if err != nil {
		t.Fatal(err)
	}
	client := registry.New(registry.Options{Credentials: registry.Credentials{Getenv: func(string) string { return "" }}})
	t.Cleanup(func() { client.Close() })
	repo, err := client.Repository(ref)
	if err != nil {
		t.Fatal(err)
	}
	return repo
}

// content pushes an image without a name.
func content(t *testing.T, repo *registry.Repository, f *imagetest.Fixture) Image {
	t.Helper()
	if err := imagetest.Push(t.Context(), repo, f, "content-"+f.Root.Digest.Encoded()[:8]); err != nil {
		t.Fatal(err)
	}
	return Image{Repo: repo, Name: "r/app", Root: f.Root.Digest}
}

// Tags are set together or not at all, fixed ones never move, and what is there
// stays.
func TestTags(t *testing.T) {
	reg := registrytest.Start(t, registrytest.Options{})
	repo := repository(t, reg.Ref("app"))
	f := imagetest.Sample(t)
	g := f.Clone()
	g.Root = g.AddIndex(t, g.AddImage(t, ocispec.Platform{OS: "linux", Architecture: "riscv64"}, g.AddLayer(t, imagetest.Tar(t, 9, 1000), codec.Compression{})))
	one, other := content(t, repo, f), content(t, repo, g)
	release := func(img Image, version string) Image {
		img.Tags, img.Fixed = []string{"latest", version}, []string{version}
		return img
	}
	actions := func(list []Tagged) string {
		var s []string
		for _, t := range list {
			s = append(s, fmt.Sprintf("%s %s", t.Name, t.Action))
		}
		return strings.Join(s, ", ")
	}
	begun := 0
	begin := func() error { begun++; return nil }
	for _, tt := range []struct {
		img   Image
		want  string
		begun int
	}{
		{release(one, "1.0.0"), "r/app:1.0.0 set, r/app:latest set", 1},
		{release(one, "1.0.0"), "r/app:1.0.0 there, r/app:latest there", 1},
		{release(other, "1.1.0"), "r/app:1.1.0 set, r/app:latest moved", 2},
	} {
		got, err := Tag(t.Context(), []Image{tt.img}, begin)
		if err != nil || actions(got) != tt.want || begun != tt.begun {
			t.Errorf("%s, %v, begun %d times; want %s", actions(got), err, begun, tt.want)
		}
	}
	// Of two images one has a version that is taken: neither is tagged.
	second := release(other, "2.0.0")
	second.Tags = append(second.Tags, "slim")
	got, err := Tag(t.Context(), []Image{second, release(other, "1.0.0")}, begin)
	var taken *TakenError
	if !errors.As(err, &taken) || len(got) > 0 || !strings.Contains(err.Error(), "r/app:1.0.0 is taken") {
		t.Errorf("%v, %v", got, err)
	}
	if _, err := repo.Resolve(t.Context(), "2.0.0"); !errors.Is(err, image.ErrNotFound) {
		t.Errorf("half a release is there: %v", err)
	}
	// Who cannot remember that tags are about to be set sets none.
	if _, err := Tag(t.Context(), []Image{release(other, "2.0.0")}, func() error { return os.ErrPermission }); !errors.Is(err, os.ErrPermission) {
		t.Error(err)
	}
	if _, err := repo.Resolve(t.Context(), "2.0.0"); !errors.Is(err, image.ErrNotFound) || begun != 2 {
		t.Errorf("half a release is there: %v, begun %d times", err, begun)
	}
	// Content that is not there gets no name.
	gone := release(one, "3.0.0")
	gone.Root = "sha256:" + gone.Root[7:15] + gone.Root[7:63]
	if _, err := Tag(t.Context(), []Image{gone}, begin); err == nil {
		t.Error("a name for nothing")
	}
}

// Of tags that are broken off it is said which are set; the same again sets the
// others. An answer that is lost is no tag that is not set.
func TestTagsBrokenOff(t *testing.T) {
	reg := registrytest.Start(t, registrytest.Options{})
	proxy := registrytest.NewFaulty(t, reg)
	repo := repository(t, proxy.Ref("app"))
	img := content(t, repo, imagetest.Sample(t))
	img.Tags, img.Fixed = []string{"a", "b", "c"}, nil
	var put atomic.Bool
	isB := func(r *http.Request) bool { return strings.HasSuffix(r.URL.Path, "/manifests/b") }
	isPut := func(r *http.Request) bool { return isB(r) && r.Method == http.MethodPut }
	for _, tt := range []struct {
		name  string
		fault registrytest.Fault
		want  string
	}{
		{"refused", func(w http.ResponseWriter, r *http.Request) bool {
			if isPut(r) {
				w.WriteHeader(http.StatusForbidden)
			}
			return isPut(r)
		}, "set, not set, not set"},
		{"gone", func(w http.ResponseWriter, r *http.Request) bool {
			if !isPut(r) && !(isB(r) && put.Load()) {
				return false
			}
			put.Store(true)
			w.WriteHeader(http.StatusForbidden)
			return true
		}, "there, not known, not set"},
	} {
		proxy.Set(tt.fault)
		_, err := Tag(t.Context(), []Image{img}, func() error { return nil })
		var half *HalfError
		if !errors.As(err, &half) {
			t.Fatalf("%s: %v", tt.name, err)
		}
		var got []string
		for _, tag := range half.Tags {
			got = append(got, string(tag.Action))
		}
		if s := strings.Join(got, ", "); s != tt.want || !strings.Contains(err.Error(), "1 of 3 tags are set: ") {
			t.Errorf("%s: %s, %v; want %s", tt.name, s, err, tt.want)
		}
	}
	// It is set, but the answer says something else.
	proxy.Set(func(w http.ResponseWriter, r *http.Request) bool {
		if isPut(r) {
			registrytest.Answer(r, func(resp *http.Response) error { resp.StatusCode = http.StatusForbidden; return nil })
		}
		return false
	})
	got, err := Tag(t.Context(), []Image{img}, func() error { return nil })
	if err != nil || len(got) != 3 || got[0].Action != TagThere || got[1].Action != TagSet || got[2].Action != TagSet {
		t.Errorf("%v, %v", got, err)
	}
}

// Checks run at the same time, all to their end; what they print is told of those
// that fail.
func TestChecks(t *testing.T) {
	dir := t.TempDir()
	sh := func(name, script string) Check { return Check{name, []string{"sh", "-c", script}, dir} }
	var mu sync.Mutex
	var begun, told []string
	err := Run(t.Context(), []Check{
		sh("good", "echo quiet; echo x > made"), sh("bad", "echo broken >&2; exit 3"), {Name: "none", Command: []string{"/nowhere/at/all"}},
		sh("long", "yes line | head -n 100000; echo the end; false"),
	}, func(c Check) { begun = append(begun, c.Name) }, func(c Checked) {
		mu.Lock()
		defer mu.Unlock()
		if !slices.Contains(begun, c.Name) {
			t.Errorf("%s ended before it began", c.Name)
		}
		told = append(told, c.Name)
	})
	var failed *CheckError
	if !errors.As(err, &failed) || len(failed.Failed) != 3 || len(told) != 4 || len(begun) != 4 {
		t.Fatalf("%v; begun %v, told %v", err, begun, told)
	}
	if _, err := os.Stat(filepath.Join(dir, "made")); err != nil {
		t.Error(err)
	}
	for _, c := range failed.Failed {
		switch out := string(c.Output); {
		case c.Name == "bad" && out != "broken\n",
			c.Name == "long" && (len(out) > maxOutput || !strings.HasSuffix(out, "the end\n")),
			c.Name == "none" && !strings.Contains(c.Err.Error(), "it cannot run"):
			t.Errorf("%s: %v, %d bytes: %.40q", c.Name, c.Err, len(out), out)
		}
	}
}

// Who stops does not wait for what checks have started.
func TestChecksStop(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	started := filepath.Join(t.TempDir(), "started")
	go func() {
		for {
			if _, err := os.Stat(started); err == nil {
				cancel()
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
	}()
	err := Run(ctx, []Check{{"sleeps", []string{"sh", "-c", "touch " + started + "; sleep 600 | sleep 600"}, ""}}, func(Check) {}, func(Checked) {})
	if !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
