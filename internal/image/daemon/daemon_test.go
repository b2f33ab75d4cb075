package daemon

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/lighter-oci/lighter/internal/event"
)

func TestContainerd(t *testing.T) {
	p := containerdPeer(t)
	conform(t, p)
	t.Run("namespace", func(t *testing.T) { conformNamespace(t, p) })
}

func TestPodman(t *testing.T) { conform(t, podmanPeer(t)) }

func TestPodmanAsDocker(t *testing.T) { conform(t, podmanAPIPeer(t, "DOCKER_HOST", "docker")) }

// TestPodmanSocket: the same API as above, found by another name.
func TestPodmanSocket(t *testing.T) {
	p, src := podmanAPIPeer(t, "CONTAINER_HOST", "podman"), newSource(t)
	p.load(t, src, src.image(t, src.base(t, "zstd:3"), src.hello(t, "hello")), "app")
	if got := p.run(t, "app"); got != "hello" {
		t.Errorf("prints %q", got)
	}
}

func TestPodmanRemote(t *testing.T) { conform(t, podmanRemotePeer(t)) }

func TestDocker(t *testing.T) {
	_, modern := dockerd(t)
	t.Run("classic", func(t *testing.T) { conform(t, dockerPeer(t, false)) })
	if modern {
		t.Run("containerd", func(t *testing.T) { conform(t, dockerPeer(t, true)) })
	}
}

// loading is one load and what it reported.
type loading struct {
	*Loaded
	pushed, exists []string // digests, in the order of the reports
	events         []event.Layer
	through        int64 // bytes through the socket, or what Sent says
}

func (p *peer) load(t *testing.T, src *source, root ocispec.Descriptor, names ...string) loading {
	t.Helper()
	l, err := p.tryLoad(context.Background(), src, root, names...)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func (p *peer) tryLoad(ctx context.Context, src *source, root ocispec.Descriptor, names ...string) (loading, error) {
	var l loading
	src.forget()
	var before int64
	if p.sent != nil {
		before = p.sent()
	}
	loaded, err := p.target.Load(ctx, src, root, names, func(e event.Layer) {
		l.events = append(l.events, e)
		switch e.Action {
		case event.LayerLoaded:
			l.pushed = append(l.pushed, e.Digest)
		case event.LayerExists:
			l.exists = append(l.exists, e.Digest)
		}
	})
	if err != nil {
		return l, err
	}
	l.Loaded, l.through = loaded, loaded.Sent
	if p.sent != nil {
		l.through = p.sent() - before
	}
	return l, nil
}

func digests(layers ...testLayer) []string {
	var s []string
	for _, l := range layers {
		s = append(s, l.desc.Digest.String())
	}
	return s
}

// same compares digests as sets: daemons differ in the order they take them.
func same(a, b []string) bool {
	return slices.Equal(slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b)))
}

// conform is what every Target does, whichever daemon it is.
func conform(t *testing.T, p *peer) {
	src := newSource(t)
	base := src.base(t, "zstd:3")
	one, two := src.hello(t, "one"), src.hello(t, "two")
	const name = "docker.io/library/app:"

	t.Run("first load", func(t *testing.T) {
		l := p.load(t, src, src.image(t, base, one), "app:one", "app", "app:one")
		if want := digests(base, one); !same(l.pushed, want) || len(l.exists) > 0 {
			t.Errorf("pushed %v, exist %v; want %v pushed", l.pushed, l.exists, want)
		}
		if want := []string{name + "one", name + "latest"}; !slices.Equal(l.Names, want) {
			t.Errorf("names %v, want %v", l.Names, want)
		}
		if l.Sent < base.desc.Size || l.through < l.Sent {
			t.Errorf("says %d bytes were sent of at least %d; %d went through", l.Sent, base.desc.Size, l.through)
		}
		for _, n := range l.Names {
			if got := p.run(t, n); got != "one" {
				t.Errorf("%s prints %q", n, got)
			}
		}
		for _, e := range l.events {
			if e.Codec != "zstd:3" || e.Where != p.target.Name() || e.Out == 0 || e.DiffID == "" || e.Took == 0 {
				t.Errorf("event %+v", e)
			}
		}
	})

	t.Run("only what is lacking travels", func(t *testing.T) {
		l := p.load(t, src, src.image(t, base, two), "app:two")
		if !same(l.pushed, digests(two)) || !same(l.exists, digests(base)) {
			t.Errorf("pushed %v, exist %v", l.pushed, l.exists)
		}
		if n := src.bytesRead(base.desc.Digest); n > 0 {
			t.Errorf("%d bytes of the shared layer were read", n)
		}
		if limit := int64(64 << 10); l.through > limit || l.Sent > l.through {
			t.Errorf("%d bytes went through, %d sent; the shared layer has %d", l.through, l.Sent, base.desc.Size)
		}
		t.Logf("%d bytes went through; the shared layer has %d", l.through, base.desc.Size)
		if got := p.run(t, name+"two"); got != "two" {
			t.Errorf("prints %q", got)
		}
	})

	t.Run("nothing is lacking", func(t *testing.T) {
		l := p.load(t, src, src.image(t, base, two), "app:two", "other/app:1")
		if len(l.pushed) > 0 || !same(l.exists, digests(base, two)) {
			t.Errorf("pushed %v, exist %v", l.pushed, l.exists)
		}
		if got := p.run(t, "docker.io/other/app:1"); got != "two" {
			t.Errorf("prints %q", got)
		}
	})

	t.Run("a name moves", func(t *testing.T) {
		p.load(t, src, src.image(t, base, one), "app:two")
		if got := p.run(t, name+"two"); got != "one" {
			t.Errorf("prints %q", got)
		}
	})

	t.Run("same layers in another place", func(t *testing.T) {
		p.load(t, src, src.image(t, two, base, one, two), "app:place")
		if got := p.run(t, name+"place"); got != "two" {
			t.Errorf("prints %q", got)
		}
	})

	t.Run("gzip and tar", func(t *testing.T) {
		three := src.layer(t, "uncompressed", map[string][]byte{"hello": []byte("three")})
		l := p.load(t, src, src.image(t, src.base(t, "gzip:1"), three), "app:gzip")
		if got := p.run(t, name+"gzip"); got != "three" {
			t.Errorf("prints %q", got)
		}
		// The same tar in another compression: who goes by its content needs nothing.
		t.Logf("pushed %v, exist %v, %d bytes", l.pushed, l.exists, l.through)
	})

	t.Run("a layer that is gone", func(t *testing.T) { conformGone(t, p, src, base) })
	t.Run("platforms", func(t *testing.T) { conformPlatforms(t, p, src, base) })
	t.Run("no name", func(t *testing.T) { conformNameless(t, p, src, base) })
	t.Run("failures", func(t *testing.T) { conformFailures(t, p, src, base) })
}

func conformPlatforms(t *testing.T, p *peer, src *source, base testLayer) {
	other := map[string]string{"amd64": "arm64", "arm64": "amd64"}[runtime.GOARCH]
	mine := src.image(t, base, src.hello(t, "mine"))
	foreign := src.imageFor(t, other, src.hello(t, "foreign"))
	root := src.index(t, map[string]ocispec.Descriptor{runtime.GOARCH: mine, other: foreign})

	l := p.load(t, src, root, "app:index")
	want := Loaded{Digest: mine.Digest, Platform: "linux/" + runtime.GOARCH, Left: []string{"linux/" + other}}
	if p.whole {
		want = Loaded{Digest: root.Digest}
	}
	if l.Digest != want.Digest || l.Platform != want.Platform || !slices.Equal(l.Left, want.Left) {
		t.Errorf("loaded %+v, want %+v", *l.Loaded, want)
	}
	// What an image shares with others is its own, too.
	p.remove(t, "docker.io/library/app:one", "docker.io/library/app:two", "docker.io/other/app:1", "docker.io/library/app:place")
	if got := p.run(t, "docker.io/library/app:index"); got != "mine" {
		t.Errorf("prints %q", got)
	}

	// One foreign image is what was asked for, with provenance beside it or not.
	p.load(t, src, foreign, "app:foreign")
	p.load(t, src, src.index(t, map[string]ocispec.Descriptor{other: foreign}), "app:foreign2")
	for _, n := range []string{"app:foreign", "app:foreign2"} {
		if !p.has(t, "docker.io/library/"+n) {
			t.Errorf("%s is not there", n)
		}
	}
	if p.whole {
		return
	}
	_, err := p.tryLoad(context.Background(), src, src.index(t, map[string]ocispec.Descriptor{other: foreign, "riscv64": foreign}), "app:none")
	if err == nil || !strings.Contains(err.Error(), "linux/"+other+", linux/riscv64") || hint(err) != "build with --platform linux/"+runtime.GOARCH {
		t.Errorf("error %v, hint %q", err, hint(err))
	}
}

// conformNamespace: what one namespace of a containerd has need not travel
// into another.
func conformNamespace(t *testing.T, p *peer) {
	src := newSource(t)
	big := src.noise(t, 1<<20)
	img := src.image(t, src.base(t, "zstd:3"), big, src.hello(t, "shared"))
	p.load(t, src, img, "shared")
	env := only("CONTAINERD_ADDRESS", p.dir+"/c.sock.front", "CONTAINERD_NAMESPACE", "not this one")
	p.target = detect(t, "containerd", Options{Getenv: env, Namespace: "k8s.io"})
	l := p.load(t, src, img, "shared")
	if n := src.bytesRead(big.desc.Digest); n > 0 || len(l.pushed) > 0 || len(l.exists) != 3 {
		t.Errorf("%d bytes read, pushed %v, exist %v", n, l.pushed, l.exists)
	}
	t.Setenv("CONTAINERD_NAMESPACE", "k8s.io")
	if got := p.run(t, "docker.io/library/shared:latest"); got != "shared" {
		t.Errorf("prints %q", got)
	}
}

func hint(err error) string {
	var h interface{ Hint() string }
	if errors.As(err, &h) {
		return h.Hint()
	}
	return ""
}

func conformNameless(t *testing.T, p *peer, src *source, base testLayer) {
	img := src.image(t, base, src.hello(t, "nameless"))
	_, err := p.tryLoad(context.Background(), src, img)
	if _, ok := p.target.(*containerd); ok {
		if err == nil || hint(err) == "" {
			t.Errorf("error %v without a hint", err)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	id := src.configOf(t, img)
	if p.whole {
		id = img.Digest
	}
	if !p.has(t, id.Encoded()) {
		t.Errorf("%s is not there", id)
	}
}

// conformGone: a layer that was there when we asked, and is not when the
// daemon looks for it, is sent after all. Blobs that are kept cannot go, they
// are leased.
func conformGone(t *testing.T, p *peer, src *source, base testLayer) {
	gone := src.noise(t, 1<<20)
	img := src.image(t, base, gone, src.hello(t, "came back"))
	blobs, err := graph(context.Background(), src, img)
	if err != nil {
		t.Fatal(err)
	}
	name := []string{"docker.io/library/app:gone"}
	a := &archive{src: src, pool: src.pool, report: func(event.Layer) {}}
	var send sender
	switch d := p.target.(type) {
	case *podman:
		send = d.send
		a.files, err = ociArchive(blobs, img, name)
	case *docker:
		send, a.plain = d.send, !d.zstd
		switch d.kind {
		case storeContainerd:
			return
		case storePodman:
			a.files, err = ociArchive(blobs, img, name)
		default:
			var classic *loadable
			if classic, err = readImage(context.Background(), src, img); err == nil {
				a.files, err = dockerArchive(classic, name)
			}
		}
	default:
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	src.forget()
	sent, err := a.load(context.Background(), map[digest.Digest]bool{base.desc.Digest: true, gone.desc.Digest: true}, send)
	if err != nil {
		t.Fatal(err)
	}
	if n := src.bytesRead(gone.desc.Digest); n == 0 || sent < base.desc.Size+gone.desc.Size {
		t.Errorf("%d bytes of the layer were read, %d sent", n, sent)
	}
	if got := p.run(t, name[0]); got != "came back" {
		t.Errorf("prints %q", got)
	}
}

// conformFailures: whatever goes wrong, no name is set, nothing is left, and
// the next load works.
func conformFailures(t *testing.T, p *peer, src *source, base testLayer) {
	const name = "docker.io/library/app:fails"
	big := src.noise(t, 24<<20)
	img := src.image(t, base, big, src.hello(t, "survived"))
	clean := func(t *testing.T) {
		t.Helper()
		if p.has(t, name) {
			t.Errorf("%s is there", name)
		}
		left := p.left(t)
		for range 100 { // a daemon clears away after it has answered, or has nobody to answer
			if len(left) == 0 {
				break
			}
			time.Sleep(100 * time.Millisecond)
			left = p.left(t)
		}
		if len(left) > 0 {
			t.Errorf("left behind: %q", left)
		}
	}
	t.Run("a blob that we lack", func(t *testing.T) {
		blob := src.blobs[big.desc.Digest]
		delete(src.blobs, big.desc.Digest)
		defer func() { src.blobs[big.desc.Digest] = blob }()
		_, err := p.tryLoad(context.Background(), src, img, name)
		if err == nil || !strings.Contains(err.Error(), big.desc.Digest.String()) || strings.Contains(err.Error(), "\n") {
			t.Errorf("error %v", err)
		}
		clean(t)
	})
	t.Run("a blob with other bytes", func(t *testing.T) {
		blob := src.blobs[big.desc.Digest]
		broken := slices.Clone(blob)
		broken[len(broken)/2] ^= 1
		src.blobs[big.desc.Digest] = broken
		defer func() { src.blobs[big.desc.Digest] = blob }()
		_, err := p.tryLoad(context.Background(), src, img, name)
		if err == nil || strings.Contains(err.Error(), "\n") {
			t.Errorf("error %v", err)
		}
		t.Log(err)
		clean(t)
	})
	t.Run("Ctrl-C", func(t *testing.T) {
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		src.before = func(d digest.Digest, off int64) {
			if d == big.desc.Digest && off >= 8<<20 && off < 23<<20 { // not the record at the end
				cancel()
			}
		}
		defer func() { src.before = nil }()
		_, err := p.tryLoad(ctx, src, img, name)
		if !errors.Is(err, context.Canceled) || strings.Contains(fmt.Sprint(err), "\n") {
			t.Errorf("error %v, want %v", err, context.Canceled)
		}
		clean(t)
	})
	t.Run("next", func(t *testing.T) {
		p.load(t, src, img, name)
		if got := p.run(t, name); got != "survived" {
			t.Errorf("prints %q", got)
		}
	})
}
