package registry_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/lighter-oci/lighter/internal/image"
	"github.com/lighter-oci/lighter/internal/image/imagetest"
	"github.com/lighter-oci/lighter/internal/registry"
	"github.com/lighter-oci/lighter/internal/registry/registrytest"
)

func contextWithTimeout(t testing.TB, d time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(t.Context(), d)
}

// resolve answers the error of resolving ref, after checking its form.
func resolve(t *testing.T, opts registry.Options, ref string) error {
	t.Helper()
	r, id := repository(t, client(t, opts), ref)
	_, err := r.Resolve(t.Context(), id)
	if err == nil {
		return nil
	}
	if s := err.Error(); strings.Contains(s, "\n") || !strings.Contains(s, ref) || strings.Contains(s, "pa55word") || strings.Contains(s, "/v2/") {
		t.Errorf("not one line with the reference, or too much of it: %q", s)
	}
	return err
}

// expect holds an error's line and hint against what they have to contain.
func expect(t *testing.T, err error, line, hint string) {
	t.Helper()
	var hinted interface{ Hint() string }
	switch {
	case err == nil || !strings.Contains(err.Error(), line):
		t.Errorf("%v, want %q", err, line)
	case !errors.As(err, &hinted) || !strings.Contains(hinted.Hint(), hint):
		t.Errorf("%v: no hint with %q", err, hint)
	default:
		t.Logf("%v\n  → %s", err, hinted.Hint())
	}
}

func TestUnreachable(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	expect(t, resolve(t, registry.Options{Backoff: time.Minute}, addr+"/app:1"), "connection refused", "is a registry running at "+addr)
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("it took %v to say so", took)
	}
	expect(t, resolve(t, registry.Options{}, "registry.invalid/app:1"), "registry.invalid cannot be looked up", "check the registry's name")
}

func TestNotFound(t *testing.T) {
	s := registrytest.Start(t, registrytest.Options{})
	ref := s.Push(t, "app", imagetest.Sample(t))
	for _, absent := range []string{s.Ref("app:absent"), s.Ref("absent:1")} {
		err := resolve(t, registry.Options{}, absent)
		expect(t, err, "not found (it says: ", "check the name and the tag")
		if !errors.Is(err, image.ErrNotFound) {
			t.Error("it is no ErrNotFound")
		}
	}
	r, _ := repository(t, client(t, registry.Options{}), ref)
	for _, bad := range []string{"", "../../x", "a/b", "a b", "sha256:abc", "x@y", "x\n"} {
		if _, err := r.Resolve(t.Context(), bad); err == nil || !strings.Contains(err.Error(), "neither a tag nor a digest") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// The account that is refused is named, and where it came from; never the rest.
func TestAccess(t *testing.T) {
	for label, token := range map[string]bool{"basic": false, "token": true} {
		t.Run(label, func(t *testing.T) {
			s := registrytest.Start(t, registrytest.Options{Users: map[string]string{"ann": "right"}, Token: token})
			h := newHome(t)
			opts := registry.Options{Credentials: h.credentials()}
			expect(t, resolve(t, opts, s.Ref("app:1")), "no credential for "+s.Addr+" was found", "docker login "+s.Addr)

			file := h.write(t, ".docker/config.json", auths(s.Addr, auth("ann", "pa55word")))
			expect(t, resolve(t, opts, s.Ref("app:1")), "access denied to the account ann from "+file, "docker login "+s.Addr)

			h.write(t, ".docker/config.json", auths(s.Addr, auth("ann", "right")))
			if err := resolve(t, opts, s.Ref("app:1")); !errors.Is(err, image.ErrNotFound) {
				t.Errorf("the right account: %v, want the image not found", err)
			}
			h.write(t, ".docker/config.json", `{`)
			r, id := repository(t, client(t, opts), s.Ref("app:1"))
			if _, err := r.Resolve(t.Context(), id); err == nil || !strings.Contains(err.Error(), file) {
				t.Errorf("a broken file: %v", err)
			}
		})
	}
}

// An identity token is traded at the token server, and a token that the
// registry takes no longer is replaced.
func TestTokens(t *testing.T) {
	s := registrytest.Start(t, registrytest.Options{Users: map[string]string{"ann": "right"}, Token: true})
	h := newHome(t)
	h.write(t, ".docker/config.json", auths(s.Addr, `{"identitytoken":"ann:right"}`))
	r, _ := repository(t, client(t, registry.Options{Credentials: h.credentials()}), s.Ref("app:1"))
	if _, err := r.Resolve(t.Context(), "1"); !errors.Is(err, image.ErrNotFound) {
		t.Fatalf("%v, want the image not found", err)
	}

	proxy := registrytest.NewFaulty(t, s)
	h.write(t, ".docker/config.json", auths(proxy.Addr, auth("ann", "right")))
	r, _ = repository(t, client(t, registry.Options{Credentials: h.credentials()}), proxy.Ref("app:1"))
	if _, err := r.Resolve(t.Context(), "1"); !errors.Is(err, image.ErrNotFound) {
		t.Fatalf("%v, want the image not found", err)
	}
	before := s.Tokens.Issued.Load()
	proxy.Set(registrytest.Times(1, "/manifests/", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("WWW-Authenticate", `Bearer realm="`+s.Tokens.URL+`",service="lighter-test-registry",scope="repository:app:pull",error="invalid_token"`)
		w.WriteHeader(http.StatusUnauthorized)
	}))
	if _, err := r.Resolve(t.Context(), "1"); !errors.Is(err, image.ErrNotFound) {
		t.Errorf("%v, want the image not found", err)
	}
	if s.Tokens.Issued.Load() == before {
		t.Error("no new token was asked for")
	}
}

func TestTLS(t *testing.T) {
	s := registrytest.Start(t, registrytest.Options{TLS: true})
	ref := s.Ref("app:1")
	h := newHome(t)
	section := fmt.Sprintf("[registry.%q]\n", s.Addr)
	config := h.write(t, ".config/buildkit/buildkitd.toml", section)
	expect(t, resolve(t, registry.Options{Hosts: h.hosts()}, ref), "certificate is not trusted", `put ca = ["FILE"] below [registry."`+s.Addr+`"] into `+config)
	expect(t, resolve(t, registry.Options{}, ref), "certificate is not trusted", "buildkitd.toml")
	for _, line := range []string{fmt.Sprintf("ca = [%q]", s.CAFile), "insecure = true", "insecure = true\nhttp = true"} {
		h.write(t, ".config/buildkit/buildkitd.toml", section+line)
		if err := resolve(t, registry.Options{Hosts: h.hosts()}, ref); !errors.Is(err, image.ErrNotFound) {
			t.Errorf("%s: %v, want the image not found", line, err)
		}
	}
	if err := resolve(t, registry.Options{Insecure: []string{s.Addr}}, ref); !errors.Is(err, image.ErrNotFound) {
		t.Errorf("insecure: %v, want the image not found", err)
	}
	// TLS is not given up for plain HTTP, and where it is, it is not tried.
	h.write(t, ".config/buildkit/buildkitd.toml", section+"http = true")
	expect(t, resolve(t, registry.Options{Hosts: h.hosts()}, ref), "status 400", "")
}

// forward is a forward proxy whose every connection ends at one address,
// wherever it is meant to go.
func forward(t *testing.T, to string) (url string) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodConnect {
			r.URL.Host, r.RequestURI = to, ""
			resp, err := http.DefaultTransport.RoundTrip(r)
			if err != nil {
				w.WriteHeader(http.StatusBadGateway)
				return
			}
			defer resp.Body.Close()
			for key, values := range resp.Header {
				w.Header()[key] = values
			}
			w.WriteHeader(resp.StatusCode)
			_, _ = io.Copy(w, resp.Body)
			return
		}
		out, err := net.Dial("tcp", to)
		if err != nil {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		in, buffered, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		_, _ = in.Write([]byte("HTTP/1.1 200 OK\r\n\r\n"))
		go func() { _, _ = io.Copy(out, buffered); _ = out.Close() }()
		_, _ = io.Copy(in, out)
		_ = in.Close()
	}))
	t.Cleanup(srv.Close)
	return srv.URL
}

// A registry in plain HTTP on another machine is refused, private addresses
// included, unless it is listed. The proxy of the environment stands for the
// network.
func TestPlainHTTP(t *testing.T) {
	s := registrytest.Start(t, registrytest.Options{})
	s.Push(t, "app", imagetest.Sample(t))
	proxy := forward(t, s.Addr)
	t.Setenv("HTTPS_PROXY", proxy)
	t.Setenv("HTTP_PROXY", proxy)
	for _, host := range []string{"registry.example:5000", "10.1.2.3:5000", "192.168.1.1"} {
		ref := host + "/app:sample"
		expect(t, resolve(t, registry.Options{}, ref), "plain HTTP", fmt.Sprintf("put http = true below [registry.%q] into ", host))
		h := newHome(t)
		h.write(t, ".config/buildkit/buildkitd.toml", fmt.Sprintf("[registry.%q]\nhttp = true", host))
		for label, opts := range map[string]registry.Options{"option": {Insecure: []string{host}}, "file": {Hosts: h.hosts()}} {
			if err := resolve(t, opts, ref); err != nil {
				t.Errorf("%s: %v", label, err)
			}
		}
	}
	t.Setenv("HTTPS_PROXY", "http://127.0.0.1:1")
	expect(t, resolve(t, registry.Options{}, "registry.example:5000/app:1"), "the proxy cannot be reached", "HTTPS_PROXY")
}

// A registry that redirects to plain HTTP elsewhere is not followed.
func TestRedirectToPlainHTTP(t *testing.T) {
	b := newBench(t)
	b.proxy.Set(registrytest.Times(-1, "/blobs/", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "http://blobs.example/secret?signature=pa55word", http.StatusTemporaryRedirect)
	}))
	r, _ := repository(t, client(t, registry.Options{}), b.ref)
	_, err := fetch(t.Context(), r, b.big)
	expect(t, err, "it leads to blobs.example, which would be spoken to in plain HTTP", `put http = true below [registry."blobs.example"]`)
	if strings.Contains(err.Error(), "pa55word") {
		t.Errorf("the signature of a URL is shown: %v", err)
	}
}

// What a registry says is quoted in one bounded line.
func TestForeignText(t *testing.T) {
	b := newBench(t)
	b.proxy.Set(registrytest.Times(-1, "/manifests/", func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusForbidden)
		_, _ = io.WriteString(w, `{"errors":[{"code":"DENIED","message":"no\n\u001b[31mway`+strings.Repeat("x", 5000)+`"}]}`)
	}))
	err := resolve(t, registry.Options{}, b.ref)
	expect(t, err, "DENIED no [31mwayxxx", "docker login")
	if len(err.Error()) > 600 {
		t.Errorf("%d bytes of it", len(err.Error()))
	}
}
