package daemon

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/lighter-oci/lighter/internal/image"
	"github.com/lighter-oci/lighter/internal/image/imagetest"
)

// An image that is loaded is read back with the config and tars that it had,
// through the peer's own API.
func conformOpen(t *testing.T, p *peer, open func(ctx context.Context, name string, opts Options) (*Source, error), getenv func(string) string) {
	src := newSource(t)
	root := src.image(t, src.base(t, "zstd:3"), src.hello(t, "read back"), src.hello(t, "twice"), src.hello(t, "read back"))
	p.load(t, src, root, "app:back", "app:too")
	tmp := t.TempDir()
	t.Setenv("TMPDIR", tmp)
	s, err := open(t.Context(), "docker.io/library/app:back", Options{Getenv: getenv})
	if err != nil {
		t.Fatal(err)
	}
	if left := files(t, tmp); len(left) > 0 {
		t.Errorf("files with names: %q", left)
	}
	if s.Daemon != p.target.Name() {
		t.Errorf("from %q, not %q", s.Daemon, p.target.Name())
	}
	img, err := image.Read(t.Context(), s, s.Ref, image.ReadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	m := img.Manifests[0]
	if want := src.configOf(t, root); m.ConfigDescriptor.Digest != want || len(img.Manifests) != 1 || len(m.Layers) != 4 {
		t.Errorf("config %s, want %s; %d layers", m.ConfigDescriptor.Digest, want, len(m.Layers))
	}
	for _, l := range m.Layers {
		rc, err := s.Fetch(t.Context(), l.Descriptor)
		if err != nil {
			t.Fatal(err)
		}
		tar, err := src.pool.NewReader(rc)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := digest.FromReader(tar); err != nil || got != l.DiffID {
			t.Errorf("layer %s: tar %s, %v; want %s", l.Descriptor.Digest, got, err, l.DiffID)
		}
		if err := errors.Join(tar.Close(), rc.Close()); err != nil {
			t.Error(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	gone, err := open(t.Context(), "docker.io/library/app:absent", Options{Getenv: getenv})
	if err == nil {
		_, err = gone.Resolve(t.Context(), gone.Ref)
		gone.Close()
	}
	if !errors.Is(err, image.ErrNotFound) || hint(err) == "" || strings.Contains(err.Error(), "\n") {
		t.Errorf("%v, hint %q; want ErrNotFound in a line with a hint", err, hint(err))
	}
	if left := files(t, tmp); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

func TestOpenDocker(t *testing.T) {
	p := dockerPeer(t, false)
	getenv := only("DOCKER_HOST", "unix://"+p.dir+"/d.sock.front")
	conformOpen(t, p, OpenDocker, getenv)

	t.Run("image ID", func(t *testing.T) {
		src := newSource(t)
		root := src.image(t, src.hello(t, "by ID"))
		p.load(t, src, root, "app:id")
		s, err := OpenDocker(t.Context(), src.configOf(t, root).String(), Options{Getenv: getenv})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		if _, err := s.Resolve(t.Context(), ""); err != nil {
			t.Error(err)
		}
	})
	t.Run("full disk", func(t *testing.T) {
		tmp := tempDir(t)
		full := filepath.Join(tmp, "full")
		if err := os.Mkdir(full, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := syscall.Mount("tmpfs", full, "tmpfs", 0, "size=512k"); err != nil {
			t.Fatal(err)
		}
		t.Setenv("TMPDIR", full)
		_, err := OpenDocker(t.Context(), "docker.io/library/app:back", Options{Getenv: getenv})
		if !errors.Is(err, syscall.ENOSPC) || !strings.Contains(hint(err), "TMPDIR") || strings.Contains(err.Error(), "\n") {
			t.Errorf("%v, hint %q", err, hint(err))
		}
		if left := files(t, full); len(left) > 0 {
			t.Errorf("left behind: %q", left)
		}
	})
	t.Run("Ctrl-C", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := OpenDocker(ctx, "app:back", Options{Getenv: getenv}); !errors.Is(err, context.Canceled) {
			t.Errorf("%v", err)
		}
	})
}

func TestOpenPodmanAsDocker(t *testing.T) {
	p := podmanAPIPeer(t, "DOCKER_HOST", "docker")
	conformOpen(t, p, OpenDocker, only("DOCKER_HOST", "unix://"+p.dir+"/p.sock.front"))
}

func TestOpenContainerd(t *testing.T) {
	p := containerdPeer(t)
	getenv := only("CONTAINERD_ADDRESS", p.dir+"/c.sock.front")
	conformOpen(t, p, OpenContainerd, getenv)

	// containerd has what was pulled, which is one platform of an index.
	t.Run("partial", func(t *testing.T) {
		src := newSource(t)
		only := src.hello(t, "arm")
		index := src.index(t, archs{"amd64": src.image(t, src.hello(t, "amd")), "arm64": src.imageFor(t, "arm64", only)})
		p.load(t, src, index, "app:partial")
		output(t, []string{"CONTAINERD_ADDRESS=" + p.dir + "/c.sock"}, "ctr", "content", "rm", only.desc.Digest.String())
		s, err := OpenContainerd(t.Context(), "docker.io/library/app:partial", Options{Getenv: getenv})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		present, left, err := image.Present(t.Context(), s, s.Ref)
		if err != nil || !slices.Equal(left, []string{"linux/arm64"}) {
			t.Fatalf("%v, left %q", err, left)
		}
		img, err := image.Read(t.Context(), present, s.Ref, image.ReadOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if len(img.Manifests) != 2 || img.Manifests[0].Platform != "linux/amd64" || !img.Manifests[1].Attestation {
			t.Errorf("%s", imagetest.Describe(img))
		}
	})
}

func TestContainerdIsASource(t *testing.T) {
	imagetest.TestSource(t, func(t *testing.T, f *imagetest.Fixture) imagetest.Opened {
		p, dir := containerdPeer(t), t.TempDir()
		f.WriteLayout(t, dir)
		layout, err := image.OpenLayout(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer layout.Close()
		const name = "docker.io/library/sample:latest"
		if _, err := p.target.Load(t.Context(), Provider(layout), f.Root, []string{name}, nil); err != nil {
			t.Fatal(err)
		}
		s, err := OpenContainerd(t.Context(), name, Options{Getenv: only("CONTAINERD_ADDRESS", p.dir+"/c.sock")})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
		return imagetest.Opened{Source: s, Ref: s.Ref, Damage: func(t testing.TB, d digest.Digest) {
			file := filepath.Join(p.dir, "root/io.containerd.content.v1.content/blobs/sha256", d.Encoded())
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			b[len(b)/2] ^= 1
			if err := errors.Join(os.Chmod(file, 0o600), os.WriteFile(file, b, 0o600)); err != nil {
				t.Fatal(err)
			}
		}}
	})
}
