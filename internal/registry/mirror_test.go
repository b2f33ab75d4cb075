package registry_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/lighter-oci/lighter/internal/image"
	"github.com/lighter-oci/lighter/internal/image/imagetest"
	"github.com/lighter-oci/lighter/internal/registry"
	"github.com/lighter-oci/lighter/internal/registry/registrytest"
)

// mirrors is a registry with the sample and a mirror of it, both watched: the
// mirror keeps everything below hub/.
type mirrors struct {
	*bench
	store  *registrytest.Server // of the mirror
	mirror *registrytest.Faulty
	home   *home
	file   string
}

func newMirrors(t *testing.T) *mirrors {
	m := &mirrors{bench: newBench(t), store: registrytest.Start(t, registrytest.Options{}), home: newHome(t)}
	m.store.Push(t, "hub/app", m.fixture)
	m.mirror = registrytest.NewFaulty(t, m.store)
	m.file = m.home.write(t, hostsFile, fmt.Sprintf("[registry.%q]\nmirrors = [%q]\n", m.proxy.Addr, m.mirror.Ref("hub")))
	return m
}

func (m *mirrors) open(t *testing.T, opts registry.Options) *registry.Mirrored {
	t.Helper()
	opts.Hosts = m.home.hosts()
	r, err := client(t, opts).Mirrored(reference(t, m.ref))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// read reads the whole image, by its tag.
func (m *mirrors) read(t *testing.T, r *registry.Mirrored) error {
	t.Helper()
	got, err := r.Resolve(t.Context(), "sample")
	if err != nil {
		return err
	}
	if want := m.fixture.Root.Digest; got.Digest != want {
		t.Errorf("resolved to %s, want %s", got.Digest, want)
	}
	for _, desc := range m.fixture.Descriptors {
		b, err := fetch(t.Context(), r, desc)
		if err != nil {
			return err
		}
		if err := image.CheckContent(desc, b); err != nil {
			t.Error(err)
		}
	}
	return nil
}

func TestMirroredIsASource(t *testing.T) {
	imagetest.TestSource(t, func(t *testing.T, f *imagetest.Fixture) imagetest.Opened {
		s, empty, h := registrytest.Start(t, registrytest.Options{}), registrytest.Start(t, registrytest.Options{}), newHome(t)
		s.Push(t, "app", f)
		h.write(t, hostsFile, fmt.Sprintf("[registry.%q]\nmirrors = [%q]\n", s.Addr, empty.Addr))
		r, err := client(t, registry.Options{Hosts: h.hosts()}).Mirrored(reference(t, s.Ref("app:sample")))
		if err != nil {
			t.Fatal(err)
		}
		return imagetest.Opened{Source: r, Ref: "sample", Damage: func(t testing.TB, d digest.Digest) { damage(t, s, f, d) }}
	})
}

// What a mirror has comes from there, and the registry hears nothing of it.
func TestMirror(t *testing.T) {
	m := newMirrors(t)
	var asked []string
	m.mirror.Set(func(_ http.ResponseWriter, r *http.Request) bool {
		if strings.Contains(r.URL.Path, "/app/") {
			asked = append(asked, r.URL.Query().Get("ns"))
		}
		return false
	})
	r := m.open(t, registry.Options{})
	if err := m.read(t, r); err != nil {
		t.Fatal(err)
	}
	if got := m.proxy.Requests(); len(got) > 0 {
		t.Errorf("the registry was asked: %q", got)
	}
	for _, ns := range asked {
		if ns != m.proxy.Addr {
			t.Errorf("asked for an image of %q, want %q", ns, m.proxy.Addr)
		}
	}
	if len(asked) < len(m.fixture.Descriptors) {
		t.Errorf("asked %d times", len(asked))
	}

	// Writing, and reading back what was written, goes to the registry itself.
	m.mirror.Set(nil)
	desc, content := blob(1, 100_000)
	if err := imagetest.Upload(t.Context(), r, desc, content); err != nil {
		t.Fatal(err)
	}
	if has, err := r.Has(t.Context(), desc); err != nil || !has {
		t.Errorf("%t, %v", has, err)
	}
	itself, _ := repository(t, client(t, registry.Options{Hosts: m.home.hosts()}), m.ref)
	if _, err := itself.Resolve(t.Context(), "sample"); err != nil {
		t.Error(err)
	}
	if got := m.mirror.Requests(); len(got) > 0 {
		t.Errorf("the mirror was asked: %q", got)
	}
}

// What a mirror lacks comes from the registry, and the mirror is asked for the
// rest all the same.
func TestMirrorLacks(t *testing.T) {
	m := newMirrors(t)
	lacks := func(part string) registrytest.Fault { return registrytest.Times(-1, part, status(http.StatusNotFound)) }
	for label, part := range map[string]string{"the tag": "/manifests/sample", "a blob": "/blobs/" + m.big.Digest.String(), "everything": "/app/"} {
		m.mirror.Set(lacks(part))
		m.proxy.Set(nil)
		if err := m.read(t, m.open(t, registry.Options{})); err != nil {
			t.Errorf("%s: %v", label, err)
		}
		if m.proxy.Count("GET", "/app/") == 0 {
			t.Errorf("%s: the registry was not asked", label)
		}
		if n := m.mirror.Count("GET", "/app/"); n < len(m.fixture.Descriptors) {
			t.Errorf("%s: the mirror was asked %d times", label, n)
		}
	}
	// Where neither has it, both are named.
	m.mirror.Set(lacks("/app/"))
	m.proxy.Set(lacks("/app/"))
	expect(t, m.read(t, m.open(t, registry.Options{})), m.ref+": not found (mirror "+m.mirror.Ref("hub/app:sample")+": not found)", "check the name")
}

// A mirror that is dead, broken or locked is left for good after two attempts,
// the second mirror is asked, and then the registry.
func TestMirrorFails(t *testing.T) {
	m := newMirrors(t)
	for label, fault := range map[string]registrytest.Fault{
		"503":      registrytest.Times(-1, "/", status(http.StatusServiceUnavailable)),
		"locked":   registrytest.Times(-1, "/app/", status(http.StatusForbidden)),
		"resets":   registrytest.Times(-1, "/", func(w http.ResponseWriter, _ *http.Request) { registrytest.Reset(w) }),
		"nonsense": registrytest.Times(-1, "/app/", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>") }),
	} {
		m.mirror.Set(fault)
		if err := m.read(t, m.open(t, registry.Options{})); err != nil {
			t.Errorf("%s: %v", label, err)
		}
		// Attempts of the handshake, in TLS and without, or of the request after it.
		if n := len(m.mirror.Requests()); n > 4 {
			t.Errorf("%s: it was asked %d times", label, n)
		}
	}
	m.mirror.Set(nil)
	m.proxy.Set(nil)
	m.home.write(t, hostsFile, fmt.Sprintf("[registry.%q]\nmirrors = [\"127.0.0.1:1\", %q]\n", m.proxy.Addr, m.mirror.Ref("hub")))
	if err := m.read(t, m.open(t, registry.Options{})); err != nil {
		t.Error(err)
	}
	if got := m.proxy.Requests(); len(got) > 0 {
		t.Errorf("the registry was asked: %q", got)
	}
}

// A download that breaks at the mirror goes on at the registry, from there.
func TestMirrorBreaks(t *testing.T) {
	m := newMirrors(t)
	m.mirror.Rewrite(func(resp *http.Response) error {
		if strings.Contains(resp.Request.URL.Path, m.big.Digest.String()) {
			return cutAt(200_000)(resp)
		}
		return nil
	})
	var ranges []string
	m.proxy.Set(func(_ http.ResponseWriter, r *http.Request) bool {
		ranges = append(ranges, r.Header.Get("Range"))
		return false
	})
	b, err := fetch(t.Context(), m.open(t, registry.Options{}), m.big)
	if err != nil {
		t.Fatal(err)
	}
	if err := image.CheckContent(m.big, b); err != nil {
		t.Error(err)
	}
	if got := strings.Join(ranges, ""); got != fmt.Sprintf("bytes=200000-%d", m.big.Size-1) {
		t.Errorf("asked the registry for %q", got)
	}
}

// What a mirror makes up is found out: by digest, it is not taken; in the middle
// of a blob, the mirror is named.
func TestMirrorLies(t *testing.T) {
	m := newMirrors(t)
	m.mirror.Rewrite(func(resp *http.Response) error {
		if !strings.Contains(resp.Request.URL.Path, "/app/") {
			return nil
		}
		b, err := io.ReadAll(resp.Body)
		if len(b) > 0 {
			b[len(b)-1] ^= 1
		}
		resp.Body = io.NopCloser(bytes.NewReader(b))
		return err
	})
	r := m.open(t, registry.Options{})
	for _, ref := range []string{m.fixture.Root.Digest.String(), "sample"} { // the header of which is right
		got, err := m.open(t, registry.Options{}).Resolve(t.Context(), ref)
		if err != nil || got.Digest != m.fixture.Root.Digest {
			t.Errorf("%s: %s, %v", ref, got.Digest, err)
		}
	}
	_, err := fetch(t.Context(), r, m.big)
	if !errors.Is(err, image.ErrCorrupt) {
		t.Errorf("%v, want it corrupt", err)
	}
	expect(t, err, m.mirror.Ref("hub/app@")+m.big.Digest.String()+": the mirror of "+m.proxy.Addr+" gives something else",
		fmt.Sprintf("take it out of the mirrors below [registry.%q] in %s", m.proxy.Addr, m.file))
	// It is not asked again.
	if err := m.read(t, r); err != nil {
		t.Error(err)
	}
	// One of another size is not even begun.
	longer := ocispec.Descriptor{Digest: m.small.Digest, Size: m.small.Size}
	m.mirror.Rewrite(func(resp *http.Response) error {
		if strings.Contains(resp.Request.URL.Path, "/app/") {
			resp.Body, resp.ContentLength = io.NopCloser(strings.NewReader("x")), 1
			resp.Header.Set("Content-Length", "1")
		}
		return nil
	})
	if _, err := fetch(t.Context(), m.open(t, registry.Options{}), longer); err != nil {
		t.Error(err)
	}
}

// Each host gets its own credential and no other, and its own authority is
// trusted and no other.
func TestMirrorCredentials(t *testing.T) {
	fixture := imagetest.Sample(t)
	open := registrytest.Start(t, registrytest.Options{})
	open.Push(t, "app", fixture)
	origin := registrytest.Start(t, registrytest.Options{TLS: true, Dir: open.Dir, Users: map[string]string{"ann": "origins"}})
	store := registrytest.Start(t, registrytest.Options{TLS: true, Dir: open.Dir, Users: map[string]string{"bob": "mirrors"}})
	mirror := registrytest.NewFaulty(t, registrytest.Start(t, registrytest.Options{Dir: open.Dir, Users: map[string]string{"bob": "mirrors"}}))
	var seen []string
	mirror.Set(func(_ http.ResponseWriter, r *http.Request) bool {
		if user, _, ok := r.BasicAuth(); ok || r.Header.Get("Authorization") != "" {
			seen = append(seen, user)
		}
		return false
	})
	h := newHome(t)
	configure := func(mirror, ca string) { // ca is the store's
		h.write(t, hostsFile, fmt.Sprintf("[registry.%q]\nmirrors = [%q]\nca = [%q]\n[registry.%q]\nca = [%q]\n", origin.Addr, mirror, origin.CAFile, store.Addr, ca))
	}
	ann, bob := auth("ann", "origins"), auth("bob", "mirrors")

	configure(mirror.Addr, store.CAFile)
	h.write(t, ".docker/config.json", auths(origin.Addr, ann))
	if err := resolveAt(t, h, origin.Ref("app:sample")); err != nil || len(seen) > 0 {
		t.Errorf("%v, the mirror saw %q", err, seen)
	}
	h.write(t, ".docker/config.json", auths(mirror.Addr, bob))
	if err := resolveAt(t, h, origin.Ref("app:sample")); err != nil || len(seen) == 0 || seen[0] != "bob" {
		t.Errorf("%v, the mirror saw %q", err, seen)
	}

	configure(store.Addr, store.CAFile)
	h.write(t, ".docker/config.json", auths(store.Addr, bob))
	if err := resolveAt(t, h, origin.Ref("app:sample")); err != nil {
		t.Error(err)
	}
	configure(store.Addr, origin.CAFile)
	err := resolveAt(t, h, origin.Ref("app:sample"))
	expect(t, err, "access denied; no credential for "+origin.Addr, "docker login")
	if !strings.Contains(fmt.Sprint(err), "mirror "+store.Ref("app:sample")+": its certificate is not trusted") {
		t.Errorf("%v, want the mirror named", err)
	}
}

// A directory of certificates as Docker keeps them.
func TestCertificateDirectory(t *testing.T) {
	s := registrytest.Start(t, registrytest.Options{TLS: true})
	h := newHome(t)
	pem, err := os.ReadFile(s.CAFile)
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Dir(h.write(t, ".config/buildkit/certs/ca.crt", string(pem)))
	h.write(t, hostsFile, fmt.Sprintf("[registry.%q]\ntlsconfigdir = [\"certs\", \"gone\"]\n", s.Addr))
	if err := resolve(t, registry.Options{Hosts: h.hosts()}, s.Ref("app:1")); !errors.Is(err, image.ErrNotFound) {
		t.Errorf("%v, want the image not found", err)
	}
	h.write(t, ".config/buildkit/certs/client.cert", "nothing")
	err = resolveAt(t, h, s.Ref("app:1"))
	expect(t, err, dir, "PEM")
}
