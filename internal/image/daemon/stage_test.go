package daemon

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/lighter-oci/lighter/internal/event"
	"github.com/lighter-oci/lighter/internal/image"
	"github.com/lighter-oci/lighter/internal/image/imagetest"
)

type archs = map[string]ocispec.Descriptor

// other is an architecture that is not this machine's.
func other() string {
	if runtime.GOARCH == "arm64" {
		return "amd64"
	}
	return "arm64"
}

// layout is a source with what src has below root, named "".
func (s *source) layout(t *testing.T, root ocispec.Descriptor) *image.Layout {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "layout")
	to, err := image.CreateLayout(dir)
	if err != nil {
		t.Fatal(err)
	}
	for d, b := range s.blobs {
		up, err := to.Upload(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := up.Write(b); err != nil {
			t.Fatal(err)
		}
		if err := up.Commit(t.Context(), ocispec.Descriptor{Digest: d, Size: int64(len(b))}); err != nil {
			t.Fatal(err)
		}
	}
	if err := to.Tag(t.Context(), root, s.blobs[root.Digest], ""); err != nil {
		t.Fatal(err)
	}
	l, err := image.OpenLayout(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// stage copies root, narrowed, to target by way of a stage.
func stage(t *testing.T, target Target, src *source, root ocispec.Descriptor, names ...string) (*Loaded, error) {
	t.Helper()
	tmp := t.TempDir()
	s, err := Stage(target, tmp, names)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Discard()
	from := src.layout(t, root)
	ref, err := s.Narrow(t.Context(), from, "")
	if err != nil {
		t.Fatal(err)
	}
	if _, one := target.Platform(); one && (ref == "") == image.IsIndex(root.MediaType) {
		t.Errorf("%s is narrowed to %q", root.MediaType, ref)
	}
	if _, err := image.Copy(t.Context(), from, ref, s, names, image.CopyOptions{}); err != nil {
		t.Fatal(err)
	}
	did := map[event.LayerAction]int{}
	loaded, err := s.Finish(t.Context(), func(l event.Layer) { did[l.Action]++ })
	want := event.LayerLoaded
	if _, file := target.(File); file {
		want = event.LayerWritten
	}
	if err == nil && (did[want] == 0 || len(did) > 1) {
		t.Errorf("layers are %v, want %s", did, want)
	}
	if left := files(t, tmp); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
	return loaded, err
}

// What is copied to a stage, the real daemon runs.
func TestStage(t *testing.T) {
	for label, start := range map[string]func(t *testing.T) *peer{
		"docker":           func(t *testing.T) *peer { return dockerPeer(t, false) },
		"podman":           podmanPeer,
		"podman as docker": func(t *testing.T) *peer { return podmanAPIPeer(t, "DOCKER_HOST", "docker") },
		"containerd":       containerdPeer,
	} {
		t.Run(label, func(t *testing.T) {
			p, src := start(t), newSource(t)
			base := src.base(t, "zstd:3")
			index := src.index(t, archs{runtime.GOARCH: src.image(t, base, src.hello(t, "staged")), other(): src.imageFor(t, other(), src.hello(t, "other"))})
			loaded, err := stage(t, p.target, src, index, "app:staged")
			if err != nil {
				t.Fatal(err)
			}
			if got := p.run(t, "docker.io/library/app:staged"); got != "staged" {
				t.Errorf("prints %q", got)
			}
			var left []string
			platform := ""
			if !p.whole {
				platform, left = "linux/"+runtime.GOARCH, []string{"linux/" + other()}
			}
			if loaded.Platform != platform || !slices.Equal(loaded.Left, left) {
				t.Errorf("%q, left %q; want %q, %q", loaded.Platform, loaded.Left, platform, left)
			}
			if d, ok := p.target.(*docker); ok && d.kind == storeClassic && !d.zstd && loaded.Decoded != 2 {
				t.Errorf("%d layers decoded", loaded.Decoded)
			}
		})
	}
}

func TestStageNames(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"UPPER", "app@" + digest.FromString("x").String(), digest.FromString("x").String(), "a b"} {
		if _, err := Stage(File{}, dir, []string{name}); err == nil {
			t.Errorf("%q is no error", name)
		}
	}
	s, err := Stage(File{}, dir, []string{""})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Finish(t.Context(), nil); err == nil {
		t.Error("nothing was tagged, and it loads")
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) > 0 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
}

// The archive that a File makes is loaded by Docker 20.10, which knows no zstd,
// and by podman.
func TestFileLoads(t *testing.T) {
	src, file := newSource(t), filepath.Join(t.TempDir(), "app.tar")
	gz := src.layer(t, "gzip", map[string][]byte{"more": []byte("more")})
	root := src.image(t, src.base(t, "zstd:3"), gz, src.hello(t, "from a file"), gz)
	loaded, err := stage(t, File{Path: file}, src, root, "app:file")
	if err != nil {
		t.Fatal(err)
	}
	if loaded.Decoded != 2 || len(loaded.Left) > 0 {
		t.Errorf("%d layers decoded, left %q", loaded.Decoded, loaded.Left)
	}
	t.Run("docker", func(t *testing.T) {
		p := dockerPeer(t, false)
		bin, _ := dockerd(t)
		output(t, []string{"PATH=" + bin + ":" + os.Getenv("PATH")}, "docker", "--host", "unix://"+p.dir+"/d.sock", "load", "-i", file)
		if got := p.run(t, "app:file"); got != "from a file" {
			t.Errorf("prints %q", got)
		}
		if id := src.configOf(t, root).Encoded(); !p.has(t, id) {
			t.Errorf("%s is not there", id)
		}
	})
	t.Run("podman", func(t *testing.T) {
		p := podmanPeer(t)
		output(t, nil, "podman", "load", "-i", file)
		if got := p.run(t, "docker.io/library/app:file"); got != "from a file" {
			t.Errorf("prints %q", got)
		}
	})
	t.Run("lighter", func(t *testing.T) {
		a, err := image.OpenDockerArchive(file)
		if err != nil {
			t.Fatal(err)
		}
		defer a.Close()
		img, err := image.Read(t.Context(), a, "app:file", image.ReadOptions{})
		if err != nil {
			t.Fatal(err)
		}
		want := "linux/" + runtime.GOARCH + "\n  uncompressed called uncompressed, no record\n  gzip called gzip, gzip:6\n" +
			"  uncompressed called uncompressed, no record\n  gzip called gzip, gzip:6\n"
		if got := imagetest.Describe(img); got != want {
			t.Errorf("%swant\n%s", got, want)
		}
	})
}

// Whatever goes wrong, the file that was there is there, and nothing else.
func TestFileFails(t *testing.T) {
	src, dir := newSource(t), t.TempDir()
	big := src.noise(t, 4<<20)
	root := src.image(t, src.base(t, "zstd:3"), big)
	f := File{Path: filepath.Join(dir, "app.tar"), Pool: src.pool}
	write(t, f.Path, "old")
	fails := func(t *testing.T, ctx context.Context, want func(error) bool) {
		t.Helper()
		_, err := f.Load(ctx, src, root, []string{"app"}, nil)
		if err == nil || !want(err) || strings.Contains(err.Error(), "\n") {
			t.Errorf("error %v", err)
		}
		if got := files(t, dir); len(got) != 1 {
			t.Errorf("files %q", got)
		}
		if b, err := os.ReadFile(f.Path); err != nil || string(b) != "old" {
			t.Errorf("%d other bytes, %v", len(b), err)
		}
	}
	blob := src.blobs[big.desc.Digest]
	names := func(err error) bool { return strings.Contains(err.Error(), big.desc.Digest.String()) }
	t.Run("a blob that we lack", func(t *testing.T) {
		delete(src.blobs, big.desc.Digest)
		fails(t, t.Context(), names)
	})
	t.Run("a blob with other bytes", func(t *testing.T) {
		otherTar := src.noise(t, 4<<20)
		src.blobs[big.desc.Digest] = src.blobs[otherTar.desc.Digest]
		fails(t, t.Context(), names)
	})
	src.blobs[big.desc.Digest] = blob
	t.Run("Ctrl-C", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		src.before = func(d digest.Digest, off int64) {
			if d == big.desc.Digest && off >= 2<<20 {
				cancel()
			}
		}
		defer func() { src.before = nil }()
		fails(t, ctx, func(err error) bool { return errors.Is(err, context.Canceled) })
	})
	t.Run("no directory", func(t *testing.T) {
		f := File{Path: filepath.Join(dir, "no", "app.tar")}
		if _, err := f.Load(t.Context(), src, root, []string{"app"}, nil); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("error %v", err)
		}
	})
	t.Run("next", func(t *testing.T) {
		if _, err := f.Load(t.Context(), src, root, []string{"app"}, nil); err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(f.Path)
		if err != nil {
			t.Fatal(err)
		}
		last := ""
		for r := tar.NewReader(bytes.NewReader(b)); ; {
			h, err := r.Next()
			if err == io.EOF {
				break
			} else if err != nil {
				t.Fatal(err)
			}
			last = h.Name
		}
		if last != "manifest.json" {
			t.Errorf("%s comes last", last)
		}
	})
}

// A File holds one platform: this machine's of several, or the only one.
func TestFilePlatform(t *testing.T) {
	src := newSource(t)
	mine, theirs := src.image(t, src.hello(t, "mine")), src.imageFor(t, other(), src.hello(t, "theirs"))
	dir := t.TempDir()
	f := File{Path: filepath.Join(dir, "app.tar")}
	loaded, err := f.Load(t.Context(), src, src.index(t, archs{runtime.GOARCH: mine, other(): theirs}), nil, nil)
	if err != nil || loaded.Digest != mine.Digest || !slices.Equal(loaded.Left, []string{"linux/" + other()}) {
		t.Errorf("%+v, %v", loaded, err)
	}
	loaded, err = f.Load(t.Context(), src, src.index(t, archs{other(): theirs}), nil, nil)
	if err != nil || loaded.Digest != theirs.Digest || len(loaded.Left) > 0 {
		t.Errorf("%+v, %v", loaded, err)
	}
	// The same platform in another compression is nothing that is left behind.
	mine.Platform = &ocispec.Platform{OS: "linux", Architecture: runtime.GOARCH}
	again := src.image(t, src.layer(t, "gzip", map[string][]byte{"hello": []byte("mine")}))
	again.Platform = mine.Platform
	both := src.addJSON(t, ocispec.MediaTypeImageIndex, ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, Manifests: []ocispec.Descriptor{mine, again}})
	loaded, err = f.Load(t.Context(), src, both, nil, nil)
	if err != nil || loaded.Digest != mine.Digest || len(loaded.Left) > 0 {
		t.Errorf("%+v, %v", loaded, err)
	}
	_, err = f.Load(t.Context(), src, src.index(t, archs{"riscv64": mine, "s390x": theirs}), nil, nil)
	if err == nil || !strings.Contains(err.Error(), "linux/riscv64, linux/s390x") || hint(err) == "" {
		t.Errorf("%v, hint %q", err, hint(err))
	}
}
