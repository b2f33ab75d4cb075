package main

import (
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/lighter-oci/lighter/internal/image/imagetest"
	"github.com/lighter-oci/lighter/internal/registry/registrytest"
)

// TestConfiguredRegistries has a registry and its mirror, each with an authority
// of its own, and one configuration that all verbs, the engine and the proof go by.
func TestConfiguredRegistries(t *testing.T) {
	origin := registrytest.Start(t, registrytest.Options{TLS: true, Token: true, Users: map[string]string{"ann": "secret"}})
	store := registrytest.Start(t, registrytest.Options{})
	store.Push(t, "hub/sample", imagetest.Sample(t))
	mirror := registrytest.Start(t, registrytest.Options{TLS: true, Dir: store.Dir})
	s := newSite(t)
	s.write("docker/config.json", fmt.Sprintf(`{"auths":{%q:{"auth":%q}}}`, origin.Addr, base64.StdEncoding.EncodeToString([]byte("ann:secret"))))
	configure := func(mirrors string) {
		s.write(".config/buildkit/buildkitd.toml", fmt.Sprintf("[registry.%q]\nmirrors = [%s]\nca = [%q]\n[registry.%q]\nca = [%q]\n",
			origin.Addr, mirrors, origin.CAFile, mirror.Addr, mirror.CAFile))
	}
	s.write("made/hello", "hello")
	s.write("made/Dockerfile", "FROM scratch\nCOPY hello /\n")
	push := func(from, to string) []string {
		return []string{"build", "--build-arg", "FROM=" + from, "--push", "-t", to, s.dir + "/app"}
	}
	s.write("app/Dockerfile", "ARG FROM\nFROM $FROM\nCOPY Dockerfile /\n")

	// Nothing is configured, and then no authority: nobody is trusted.
	if said := s.fails("inspect", origin.Ref("sample:sample")); !strings.Contains(said, "x509") || !strings.Contains(said, `put ca = ["FILE"] below [registry."`+origin.Addr) {
		t.Error(said)
	}
	s.write(".config/buildkit/buildkitd.toml", fmt.Sprintf("[registry.%q]\nhttp = false\n", origin.Addr))
	for _, args := range [][]string{push(origin.Ref("base:1"), origin.Ref("app:1")), {"inspect", origin.Ref("sample:sample")}} {
		if said := s.fails(args...); !strings.Contains(said, "x509") || !strings.Contains(said, `ca = ["FILE"]`) {
			t.Errorf("%v: %s", args, said)
		}
	}

	// The same engine goes by what is written now. Its token comes over TLS, too.
	configure("")
	s.ok("build", "--push", "-t", origin.Ref("base:1"), s.dir+"/made")
	configure(fmt.Sprintf("%q", mirror.Ref("hub")))
	s.ok("convert", origin.Ref("base:1"), "oci:"+s.dir+"/base")
	s.ok(push(origin.Ref("base:1"), origin.Ref("app:1"))...) // which the mirror has not
	s.ok("inspect", "--require", "zstd", origin.Ref("app:1"))

	// What the mirror has and the registry has not.
	s.ok("inspect", origin.Ref("sample:sample"))
	s.ok("convert", "--compression", "zstd:1", origin.Ref("sample:sample"), origin.Ref("copy:1"))
	s.ok("tune", "--levels", "zstd:1", "--rounds", "1", origin.Ref("sample:sample"))
	if said := s.fails("inspect", "--require", "zstd", origin.Ref("sample:sample")); !strings.Contains(said, origin.Ref("sample:sample")+": not found") {
		t.Errorf("proven by a mirror: %s", said)
	}
	s.ok("build", "--build-arg", "FROM="+origin.Ref("sample:sample"), "--platform", "linux/amd64", s.dir+"/app")

	s.write(".config/buildkit/buildkitd.toml", fmt.Sprintf("[registry.%q]\nca = [\"gone.pem\"]", origin.Addr))
	if said := s.fails(push(origin.Ref("base:1"), origin.Ref("app:1"))...); !strings.Contains(said, s.dir+"/.config/buildkit/gone.pem: no such file") {
		t.Error(said)
	}
	s.write(".config/buildkit/buildkitd.toml", "[registry.\"a\"]\nmirrors = 1")
	for _, args := range [][]string{push(origin.Ref("base:1"), origin.Ref("app:1")), {"inspect", origin.Ref("app:1")}, {"convert", origin.Ref("app:1"), "oci:x"}, {"tune", origin.Ref("app:1")}} {
		if said := s.fails(args...); !strings.Contains(said, s.dir+"/.config/buildkit/buildkitd.toml:2: ") {
			t.Errorf("%v: %s", args, said)
		}
	}
}

// A mirror that gives out something else is caught by the engine, too, and one
// that is dead is passed over.
func TestMirrorsOfTheEngine(t *testing.T) {
	origin := registrytest.Start(t, registrytest.Options{})
	lying := registrytest.NewFaulty(t, origin)
	s := newSite(t)
	s.write("made/hello", "hello")
	s.write("made/Dockerfile", "FROM scratch\nCOPY hello /\n")
	s.ok("build", "--push", "-t", origin.Ref("base:1"), s.dir+"/made")
	s.write("app/Dockerfile", "FROM "+origin.Ref("base:1")+"\nCOPY Dockerfile /\n")
	fresh := func() { s.ok("cache", "prune", "--all") }

	fresh()
	s.write(".config/buildkit/buildkitd.toml", fmt.Sprintf("[registry.%q]\nmirrors = [\"127.0.0.1:1\"]\nhttp = true\n", origin.Addr))
	s.ok("build", "--push", "-t", origin.Ref("app:1"), s.dir+"/app")

	fresh()
	s.write(".config/buildkit/buildkitd.toml", fmt.Sprintf("[registry.%q]\nmirrors = [%q]\nhttp = true\n", origin.Addr, lying.Addr))
	lying.Rewrite(func(resp *http.Response) error {
		if strings.Contains(resp.Request.URL.Path, "/blobs/") {
			resp.Body = &flippedBody{resp.Body}
		}
		return nil
	})
	if said := s.fails("build", "--push", "-t", origin.Ref("app:2"), s.dir+"/app"); !strings.Contains(said, "or a mirror of it, gives as sha256:") {
		t.Error(said)
	}
}

// flippedBody is a body whose bytes are all others.
type flippedBody struct{ io.ReadCloser }

func (f *flippedBody) Read(p []byte) (int, error) {
	n, err := f.ReadCloser.Read(p)
	for i := range p[:n] {
		p[i] ^= 1
	}
	return n, err
}
