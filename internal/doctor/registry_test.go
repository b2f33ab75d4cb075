package doctor_test

import (
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/lighter-oci/lighter/internal/doctor"
	"github.com/lighter-oci/lighter/internal/registry"
	"github.com/lighter-oci/lighter/internal/registry/registrytest"
	"github.com/lighter-oci/lighter/internal/report"
)

// login answers what a user with this login has, or with none.
func login(t *testing.T, host, user, password string) registry.Credentials {
	dir := t.TempDir()
	config := "{}"
	if user != "" {
		config = fmt.Sprintf(`{"auths":{%q:{"auth":%q}}}`, host, base64.StdEncoding.EncodeToString([]byte(user+":"+password)))
	}
	if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	return registry.Credentials{Getenv: func(key string) string {
		return map[string]string{"DOCKER_CONFIG": dir, "HOME": dir}[key]
	}}
}

func probe(t *testing.T, ctx context.Context, named string, credentials registry.Credentials) report.RegistryCheck {
	t.Helper()
	ref, err := doctor.ParseRegistry(named)
	if err != nil {
		t.Fatal(err)
	}
	return doctor.Registry(ctx, named, ref, registry.Options{Credentials: credentials, UserAgent: "lighter-test"})
}

// said is a check as one line.
func said(r report.RegistryCheck, name string) string {
	i := slices.IndexFunc(r.Checks, func(c report.Check) bool { return c.Name == name })
	if i < 0 {
		return "not there"
	}
	c := r.Checks[i]
	return strings.TrimSuffix(fmt.Sprintf("%s: %s → %s", c.State, c.Found, c.Fix), " → ")
}

func expect(t *testing.T, r report.RegistryCheck, want map[string]string) {
	t.Helper()
	for name, part := range want {
		if got := said(r, name); !strings.Contains(got, part) {
			t.Errorf("%s: %q, want %q", name, got, part)
		}
	}
}

// kept lists what a registry still has, by name below its repositories.
func kept(t *testing.T, s *registrytest.Server, kind string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(s.Dir, "docker/registry/v2/repositories/*/"+kind+"/*/link"))
	if err != nil {
		t.Fatal(err)
	}
	more, err := filepath.Glob(filepath.Join(s.Dir, "docker/registry/v2/repositories/*/"+kind+"/*/*/link"))
	if err != nil {
		t.Fatal(err)
	}
	return append(files, more...)
}

func TestOpenRegistry(t *testing.T) {
	s := registrytest.Start(t, registrytest.Options{})
	r := probe(t, t.Context(), s.Addr, login(t, "", "", ""))
	if !r.OK() || r.Repository != s.Ref("lighter-doctor") || len(r.Left) > 0 {
		t.Errorf("%+v", r)
	}
	expect(t, r, map[string]string{
		"answers": "ok: registry/2.0, plain HTTP", "login": "ok: none needed", "push zstd": "ok", "OCI index": "ok", "mixed index": "ok",
		"mount": "ok", "streamed upload": "ok: a body of unknown length arrives: lighter sends layers in one request, while", "resumed upload": "ok", "range reads": "ok", "referrers": "no: not there", "delete": "ok: all that was pushed is gone",
	})
	for _, kind := range []string{"_manifests/revisions", "_manifests/tags", "_layers"} {
		if left := kept(t, s, kind); len(left) > 0 {
			t.Errorf("left behind: %q", left)
		}
	}
	uploads, err := filepath.Glob(filepath.Join(s.Dir, "docker/registry/v2/repositories/*/_uploads/*"))
	if err != nil || len(uploads) > 0 {
		t.Errorf("uploads left behind: %q, %v", uploads, err)
	}
}

// A registry that deletes nothing keeps what it was given, and that is said.
func TestNoDelete(t *testing.T) {
	s := registrytest.Start(t, registrytest.Options{NoDelete: true})
	r := probe(t, t.Context(), s.Ref("team/app"), login(t, "", "", ""))
	if !r.OK() || r.Repository != s.Ref("team/app") {
		t.Errorf("%+v", r)
	}
	expect(t, r, map[string]string{"push zstd": "ok", "delete": "no: images cannot be deleted: status 405 (UNSUPPORTED"})
	left := strings.Join(r.Left, "\n")
	for _, want := range []string{s.Ref("team/app:lighter-doctor@sha256:"), s.Ref("team/app: 6 blobs"), s.Ref("team/app-lighter-doctor: 1 blob")} {
		if !strings.Contains(left, want) {
			t.Errorf("left: %s\nwant %s", left, want)
		}
	}
}

func TestReadOnly(t *testing.T) {
	s := registrytest.Start(t, registrytest.Options{ReadOnly: true})
	r := probe(t, t.Context(), s.Addr, login(t, "", "", ""))
	if r.OK() || len(r.Left) > 0 {
		t.Errorf("%+v", r)
	}
	expect(t, r, map[string]string{
		"answers": "ok", "login": "ok", "push zstd": "no: an upload is refused: status 405 → is it read-only", "OCI index": "unknown: not asked", "delete": "not there",
	})
}

// The account that a push would use is named, and what to do where it is
// refused; never a password.
func TestLogin(t *testing.T) {
	for label, token := range map[string]bool{"basic": false, "token": true} {
		t.Run(label, func(t *testing.T) {
			s := registrytest.Start(t, registrytest.Options{Users: map[string]string{"ann": "right"}, Token: token})
			r := probe(t, t.Context(), s.Addr, login(t, s.Addr, "ann", "right"))
			if !r.OK() || len(r.Left) > 0 {
				t.Errorf("%+v", r)
			}
			expect(t, r, map[string]string{"login": "ok: account ann from ", "push zstd": "ok", "mount": "ok", "delete": "ok: all"})

			r = probe(t, t.Context(), s.Addr, login(t, s.Addr, "ann", "pa55word"))
			expect(t, r, map[string]string{"answers": "ok", "login": "no: account ann from ", "push zstd": "unknown"})
			if got := said(r, "login"); r.OK() || !strings.Contains(got, "is refused: status 401") || !strings.Contains(got, "docker login "+s.Addr) {
				t.Error(got)
			}
			if strings.Contains(fmt.Sprintf("%+v", r), "pa55word") {
				t.Errorf("a password is shown: %+v", r)
			}
			if r = probe(t, t.Context(), s.Addr, login(t, "", "", "")); r.OK() {
				t.Errorf("%+v", r)
			}
			denied := "login"
			if token { // everybody gets a token, for reading
				denied = "push zstd"
			}
			expect(t, r, map[string]string{denied: "no: there is no credential for " + s.Addr})
		})
	}
}

// What does not answer, and what is no registry, is said with the next step.
func TestNoRegistry(t *testing.T) {
	r := probe(t, t.Context(), "127.0.0.1:1", login(t, "", "", ""))
	expect(t, r, map[string]string{"answers": "no: connection refused → is a registry running at 127.0.0.1:1?", "login": "unknown"})
	if r.OK() {
		t.Error("it is in order")
	}
	s := registrytest.Start(t, registrytest.Options{TLS: true})
	r = probe(t, t.Context(), s.Addr, login(t, "", "", ""))
	expect(t, r, map[string]string{"answers": "no: its certificate is not trusted"})

	web := registrytest.NewFaulty(t, s)
	web.Set(func(w http.ResponseWriter, _ *http.Request) bool { http.NotFound(w, nil); return true })
	r = probe(t, t.Context(), web.Addr, login(t, "", "", ""))
	expect(t, r, map[string]string{"answers": "no: it is no registry: /v2/ answers with status 404 → check the address"})
}

// A registry that sends an upload on to plain HTTP on another machine is not
// followed, and what it says of this machine neither. It is called by a name, and
// what leaves this process goes to a proxy, which stands for the network.
func TestUploadsElsewhere(t *testing.T) {
	s := registrytest.Start(t, registrytest.Options{})
	target, err := url.Parse(s.URL())
	if err != nil {
		t.Fatal(err)
	}
	var to atomic.Value
	front := httptest.NewTLSServer(&httputil.ReverseProxy{
		Rewrite:        func(r *httputil.ProxyRequest) { r.SetURL(target) },
		ModifyResponse: func(resp *http.Response) error { resp.Header.Set("Location", to.Load().(string)); return nil },
	})
	t.Cleanup(front.Close)
	t.Setenv("HTTPS_PROXY", tunnel(t, front.Listener.Addr().String()))
	t.Setenv("HTTP_PROXY", tunnel(t, ""))
	ref, err := doctor.ParseRegistry("registry.example")
	if err != nil {
		t.Fatal(err)
	}
	for label, want := range map[string]string{
		"http://blobs.example/upload": "no: .*plain HTTP", "https://localhost:1/upload": "no: it wants the upload to go to where none can go", "": "no: it does not say where to upload to",
	} {
		to.Store(label)
		r := doctor.Registry(t.Context(), "registry.example", ref, registry.Options{
			Credentials: login(t, "registry.example", "ann", "right"), Hosts: hosts(t, "[registry.\"registry.example\"]\ninsecure = true"),
		})
		if got := said(r, "push zstd"); !regexp.MustCompile(want).MatchString(got) {
			t.Errorf("%s: %q, want %q", label, got, want)
		}
	}
}

// hosts is a configuration of registries.
func hosts(t *testing.T, content string) registry.Hosts {
	t.Helper()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "buildkit"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "buildkit", "buildkitd.toml"), []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return registry.Hosts{Getenv: func(key string) string { return map[string]string{"XDG_CONFIG_HOME": dir}[key] }}
}

// tunnel is a proxy whose connections all end at addr. Plain HTTP has no business
// there.
func tunnel(t *testing.T, addr string) string {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodConnect {
			t.Errorf("plain HTTP was sent: %s %s", r.Method, r.URL)
			return
		}
		out, err := net.Dial("tcp", addr)
		if err != nil {
			t.Error(err)
			return
		}
		in, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		_, _ = in.Write([]byte("HTTP/1.1 200 OK\r\n\r\n"))
		go func() { _, _ = io.Copy(out, in); _ = out.Close() }()
		_, _ = io.Copy(in, out)
		_ = in.Close()
	}))
	t.Cleanup(srv.Close)
	return srv.URL
}

// What is configured of a registry is told, and holds for the probe.
func TestConfigured(t *testing.T) {
	s := registrytest.Start(t, registrytest.Options{TLS: true})
	ref, err := doctor.ParseRegistry(s.Addr)
	if err != nil {
		t.Fatal(err)
	}
	ask := func(hosts registry.Hosts) report.RegistryCheck {
		return doctor.Registry(t.Context(), s.Addr, ref, registry.Options{Credentials: login(t, "", "", ""), Hosts: hosts})
	}
	r := ask(hosts(t, fmt.Sprintf("[registry.%q]\nca = [%q]\nmirrors = [\"mirror.example\"]", s.Addr, s.CAFile)))
	expect(t, r, map[string]string{"configuration": "ok: mirrors mirror.example; http = false; ca " + s.CAFile + " (", "answers": "ok", "push zstd": "ok", "delete": "ok"})
	if !r.OK() {
		t.Errorf("%+v", r)
	}
	expect(t, ask(hosts(t, "")), map[string]string{"configuration": "ok: nothing of it in ", "answers": "no: its certificate is not trusted"})
	expect(t, ask(hosts(t, "x")), map[string]string{"configuration": "no: ", "answers": "unknown: not asked"})
	expect(t, ask(hosts(t, fmt.Sprintf("[registry.%q]\nca = [\"/gone\"]", s.Addr))), map[string]string{"configuration": "ok", "answers": "no: registry configuration: "})
	expect(t, ask(registry.Hosts{Getenv: func(string) string { return "/nowhere" }}), map[string]string{"configuration": "ok: n"})
}

// Features that are missing one by one are told one by one, and what was pushed
// is taken away all the same.
func TestMissingFeatures(t *testing.T) {
	s := registrytest.Start(t, registrytest.Options{})
	f := registrytest.NewFaulty(t, s)
	deny := func(w http.ResponseWriter) bool {
		w.WriteHeader(http.StatusBadRequest)
		_, _ = w.Write([]byte(`{"errors":[{"code":"NOPE","message":"not\u001b[31m here"}]}`))
		return true
	}
	f.Set(func(w http.ResponseWriter, r *http.Request) bool {
		switch {
		case r.URL.Query().Get("mount") != "":
			r.URL.RawQuery = "" // an ordinary upload, as registries answer that do not mount
		case r.Method == http.MethodPatch:
			return deny(w)
		case strings.Contains(r.URL.Path, "/manifests/") && r.Method == http.MethodPut && r.Header.Get("Content-Type") == "application/vnd.oci.image.index.v1+json":
			return deny(w)
		}
		r.Header.Del("Range")
		return false
	})
	r := probe(t, t.Context(), f.Addr, login(t, "", "", ""))
	if r.OK() || len(r.Left) > 0 { // an image of some size cannot be pushed there
		t.Errorf("%+v", r)
	}
	expect(t, r, map[string]string{
		"streamed upload": "no: a body of unknown length is refused: status 400 (NOPE not\x1b[31m here), and lighter cannot push layers: ",
		"push zstd":       "ok", "OCI index": "no: it is refused: status 400 (NOPE not", "mixed index": "no: it is refused", "mount": "no: layers of other",
		"resumed upload": "no: a piece of a blob is refused: status 400", "range reads": "no: it sends whole layers only", "delete": "ok: all",
	})
}

// Whoever stops a probe leaves nothing behind either.
func TestInterrupted(t *testing.T) {
	s := registrytest.Start(t, registrytest.Options{})
	f := registrytest.NewFaulty(t, s)
	ctx, cancel := context.WithCancel(t.Context())
	f.Set(func(_ http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodPatch {
			cancel()
		}
		return false
	})
	r := probe(t, ctx, f.Addr, login(t, "", "", ""))
	expect(t, r, map[string]string{"range reads": "unknown: interrupted", "delete": "ok: all"})
	for _, kind := range []string{"_manifests/revisions", "_manifests/tags", "_layers"} {
		if left := kept(t, s, kind); len(left) > 0 {
			t.Errorf("left behind: %q", left)
		}
	}
}

func TestParseRegistry(t *testing.T) {
	for in, want := range map[string]string{
		"localhost":               "localhost/lighter-doctor",
		"localhost:5000":          "localhost:5000/lighter-doctor",
		"ghcr.io/ann/app":         "ghcr.io/ann/app",
		"docker.io/ann/app":       "docker.io/ann/app",
		"registry.example:5/a/b/": "",
		"ann/app":                 "",
		"app":                     "",
		"docker.io":               "",
		"docker.io/app":           "",
		"ghcr.io/app:1":           "",
		"ghcr.io/App":             "",
		"ghcr.io/app@sha256:x":    "",
		"":                        "",
		"https://ghcr.io":         "",
	} {
		ref, err := doctor.ParseRegistry(in)
		if got := ref.Name(); (err == nil) != (want != "") || err == nil && got != want {
			t.Errorf("%q: %s, %v, want %q", in, got, err, want)
		}
		if err != nil && strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: %q", in, err)
		}
	}
}
