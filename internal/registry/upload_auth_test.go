package registry_test

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lighter-oci/lighter/internal/image/imagetest"
	"github.com/lighter-oci/lighter/internal/registry"
	"github.com/lighter-oci/lighter/internal/registry/registrytest"
)

// account answers options with an account at the proxy.
func (y *yard) account(t *testing.T, name, password string) registry.Options {
	h := newHome(t)
	h.write(t, ".docker/config.json", auths(y.proxy.Addr, auth(name, password)))
	return registry.Options{Credentials: h.credentials()}
}

// A repository that is written to asks for more than one that is read, and a
// token that ends in the middle of an upload is replaced.
func TestUploadTokens(t *testing.T) {
	// The registry takes tokens for a minute longer than they say, so that these
	// last a second or two.
	y := newYard(t, registrytest.Options{Users: map[string]string{"ann": "pa55word"}, Token: true, TokenLife: -58 * time.Second})
	y.proxy.KeepSessions()
	r := y.repository(t, y.account(t, "ann", "pa55word"))
	desc, content := blob(1, 3<<20)
	u, err := r.Upload(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := u.Write(content[:1<<20]); err != nil {
		t.Fatal(err)
	}
	before := y.server.Tokens.Issued.Load()
	time.Sleep(3 * time.Second) // until the token has ended
	y.proxy.Set(on("PATCH", 1, "", reset))
	if _, err := u.Write(content[1<<20:]); err != nil {
		t.Fatal(err)
	}
	if err := u.Commit(t.Context(), desc); err != nil {
		t.Fatal(err)
	}
	if y.server.Tokens.Issued.Load() == before {
		t.Error("no new token was asked for")
	}
	arrived(t, r, desc, content)
	time.Sleep(3 * time.Second)
	small, content := blob(2, 1000)
	if err := imagetest.Upload(t.Context(), r, small, content); err != nil {
		t.Errorf("with a token that has ended: %v", err)
	}
	arrived(t, r, small, content)
}

// A challenge in answer to a PATCH or a PUT: what follows has the whole body.
func TestChallengedUpload(t *testing.T) {
	for _, token := range []bool{true, false} {
		y := newYard(t, registrytest.Options{Users: map[string]string{"ann": "pa55word"}, Token: true})
		for method, size := range map[string]int{"PATCH": 3 << 20, "PUT": 1000} {
			r := y.repository(t, y.account(t, "ann", "pa55word"))
			y.proxy.Set(on(method, 1, "/uploads/", func(w http.ResponseWriter, r *http.Request) {
				if token { // after some of the body
					_, _ = io.CopyN(io.Discard, r.Body, 500)
				}
				w.Header().Set("WWW-Authenticate", `Bearer realm="`+y.server.Tokens.URL+`",service="lighter-test-registry",error="invalid_token"`)
				w.WriteHeader(http.StatusUnauthorized)
			}))
			desc, content := blob(1, size)
			if err := imagetest.Upload(t.Context(), r, desc, content); err != nil {
				t.Errorf("%s: %v", method, err)
			}
			if n := y.proxy.Count(method, "/uploads/"); n != 2 {
				t.Errorf("%d times %s, want 2", n, method)
			}
			arrived(t, r, desc, content)
		}
	}
}

// Who may not push hears that, before anything was sent, and no password.
func TestUploadAccess(t *testing.T) {
	for _, token := range []bool{true, false} {
		y := newYard(t, registrytest.Options{Users: map[string]string{"ann": "right"}, Token: token})
		desc, content := blob(1, 1000)
		for label, opts := range map[string]registry.Options{"nobody": {Credentials: newHome(t).credentials()}, "wrong": y.account(t, "ann", "pa55word")} {
			r := y.repository(t, opts)
			err := imagetest.Upload(t.Context(), r, desc, content)
			expect(t, err, "access denied", "docker login "+y.proxy.Addr)
			if err != nil && strings.Contains(err.Error(), "pa55word") {
				t.Errorf("%s: it shows the password: %v", label, err)
			}
			expect(t, r.Tag(t.Context(), desc, content, "one"), "access denied", "docker login")
		}
	}
}

// A mount asks for the other repository, too; only within one host.
func TestMountAccess(t *testing.T) {
	y := newYard(t, registrytest.Options{Users: map[string]string{"ann": "pa55word"}, Token: true})
	opts := y.account(t, "ann", "pa55word")
	c := client(t, opts)
	base, _ := repository(t, c, y.proxy.Ref("base"))
	app, _ := repository(t, c, y.proxy.Ref("app"))
	desc, content := blob(1, 1000)
	if err := imagetest.Upload(t.Context(), base, desc, content); err != nil {
		t.Fatal(err)
	}
	if n := y.server.Tokens.Issued.Load(); n != 1 {
		t.Errorf("%d tokens for an upload: the first was for too little", n)
	}
	from := reference(t, y.proxy.Ref("base"))
	y.proxy.Set(nil)
	if ok, err := app.Mount(t.Context(), desc, from); !ok || err != nil {
		t.Fatalf("mounted: %v, %v", ok, err)
	}
	if n := y.server.Tokens.Issued.Load(); n != 2 {
		t.Errorf("%d tokens for an upload and a mount: the first was for too little", n)
	}
	arrived(t, app, desc, content)
	if n := y.proxy.Received(); n != 0 {
		t.Errorf("%d bytes travelled", n)
	}
	absent, _ := blob(2, 1000)
	y.proxy.Set(nil)
	if ok, err := app.Mount(t.Context(), absent, from); ok || err != nil {
		t.Errorf("mounted: %v, %v", ok, err)
	}
	if n := y.proxy.Count("DELETE", "/uploads/"); n != 1 {
		t.Errorf("%d sessions given up, want the one that came instead of a mount", n)
	}
	from.Host = y.server.Addr
	y.proxy.Set(nil)
	if ok, err := app.Mount(t.Context(), desc, from); ok || err != nil || len(y.proxy.Requests()) != 0 {
		t.Errorf("from another host: %v, %v, %v", ok, err, y.proxy.Requests())
	}
}

// elsewhere is another server, which keeps what headers it was sent.
type elsewhere struct {
	addr string
	mu   sync.Mutex
	seen []*http.Request
}

func newElsewhere(t *testing.T) *elsewhere {
	e := &elsewhere{}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		e.mu.Lock()
		defer e.mu.Unlock()
		e.seen = append(e.seen, r)
		w.WriteHeader(http.StatusTeapot)
	}))
	t.Cleanup(srv.Close)
	e.addr = strings.TrimPrefix(srv.URL, "http://")
	return e
}

// An upload that is sent elsewhere, by a Location or by a redirect, takes no
// credential along.
func TestUploadElsewhere(t *testing.T) {
	for label, token := range map[string]bool{"basic": false, "token": true} {
		y := newYard(t, registrytest.Options{Users: map[string]string{"ann": "pa55word"}, Token: token})
		e := newElsewhere(t)
		opts := y.account(t, "ann", "pa55word")
		opts.Attempts = 2
		for _, size := range []int{1000, 200_000} {
			desc, content := blob(1, size)
			y.proxy.Rewrite(func(resp *http.Response) error {
				if resp.Request.Method == http.MethodPost {
					resp.Header.Set("Location", "http://"+e.addr+"/v2/app/blobs/uploads/1?signature=s1gned")
				}
				return nil
			})
			err := imagetest.Upload(t.Context(), y.repository(t, opts), desc, content)
			if err == nil || strings.Contains(err.Error(), "s1gned") || strings.Contains(err.Error(), "pa55word") {
				t.Errorf("%s: %v", label, err)
			}
			y.proxy.Rewrite(nil)
			for _, method := range []string{"POST", "PATCH", "PUT"} {
				y.proxy.Set(on(method, -1, "/uploads/", func(w http.ResponseWriter, r *http.Request) {
					http.Redirect(w, r, "http://"+e.addr+"/v2/x/blobs/uploads/2", http.StatusTemporaryRedirect)
				}))
				_ = imagetest.Upload(t.Context(), y.repository(t, opts), desc, content)
			}
			y.proxy.Set(nil)
		}
		e.mu.Lock()
		seen := map[string]bool{}
		for _, r := range e.seen {
			seen[r.Method+" "+r.URL.Path[len(r.URL.Path)-1:]] = true
			if r.Header.Get("Authorization") != "" || r.Header.Get("Cookie") != "" {
				t.Errorf("%s: %s %s carries %v", label, r.Method, r.URL, r.Header)
			}
		}
		e.mu.Unlock()
		for _, want := range []string{"PATCH 1", "PUT 1", "DELETE 1", "POST 2", "PATCH 2", "PUT 2"} {
			if !seen[want] {
				t.Errorf("%s: no %s came: %v", label, want, seen)
			}
		}
	}
}

// Locations come absolute and relative, with and without a query, and some go
// nowhere.
func TestLocations(t *testing.T) {
	y := newYard(t, registrytest.Options{})
	for label, tt := range map[string]struct {
		location func(string) string
		want     string
	}{
		"absolute":      {func(s string) string { return s }, ""},
		"relative":      {func(s string) string { return strings.TrimPrefix(s, "http://"+y.proxy.Addr) }, ""},
		"another query": {func(s string) string { return s + "&a=b%2Fc" }, ""},
		"no host":       {func(s string) string { return "http:///v2/" }, "where none can go"},
		"a file":        {func(s string) string { return "file:///etc/passwd" }, "where none can go"},
		"an account":    {func(s string) string { return strings.Replace(s, "://", "://ann:pa55word@", 1) }, "where none can go"},
		"no URL":        {func(s string) string { return "http://[::1/%" }, "where none can go"},
		"none":          {func(s string) string { return "" }, "does not say where"},
		"plain HTTP":    {func(s string) string { return "http://blobs.example/1?sig=pa55word" }, "plain HTTP"},
	} {
		t.Run(label, func(t *testing.T) {
			y.proxy.Rewrite(func(resp *http.Response) error {
				if location := resp.Header.Get("Location"); strings.Contains(location, "/uploads/") {
					resp.Header.Set("Location", tt.location(location))
				}
				return nil
			})
			for _, size := range []int{1000, 200_000} {
				r := y.repository(t, registry.Options{})
				desc, content := blob(uint64(size), size)
				err := imagetest.Upload(t.Context(), r, desc, content)
				if tt.want == "" && err != nil {
					t.Fatal(err)
				}
				if tt.want != "" {
					if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "pa55word") {
						t.Errorf("%v, want %q", err, tt.want)
					}
					continue
				}
				arrived(t, r, desc, content)
			}
		})
	}
	// From a registry on another machine into this one.
	other := newElsewhere(t)
	t.Setenv("HTTP_PROXY", forward(t, y.proxy.Addr))
	y.proxy.Rewrite(func(resp *http.Response) error {
		resp.Header.Set("Location", "http://"+other.addr+"/1")
		return nil
	})
	r, _ := repository(t, client(t, registry.Options{Insecure: []string{"registry.example"}}), "registry.example/app")
	desc, content := blob(1, 1000)
	err := imagetest.Upload(t.Context(), r, desc, content)
	var failed *registry.Error
	if !errors.As(err, &failed) || !strings.Contains(err.Error(), "where none can go") || len(other.seen) > 0 {
		t.Errorf("%v, %d requests", err, len(other.seen))
	}
}
