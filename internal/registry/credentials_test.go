package registry_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/lighter-oci/lighter/internal/registry"
)

// home is a place with configuration files; the keys of env override.
type home struct {
	dir string
	env map[string]string
}

func newHome(t testing.TB) *home {
	return &home{t.TempDir(), map[string]string{}}
}

func (h *home) getenv(name string) string {
	if name == "HOME" {
		return h.dir
	}
	return h.env[name]
}

func (h *home) credentials() registry.Credentials { return registry.Credentials{Getenv: h.getenv} }

func (h *home) hosts() registry.Hosts { return registry.Hosts{Getenv: h.getenv} }

func (h *home) write(t testing.TB, name, content string) string {
	t.Helper()
	file := filepath.Join(h.dir, name)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func auth(account, password string) string {
	return fmt.Sprintf(`{"auth":%q}`, base64.StdEncoding.EncodeToString([]byte(account+":"+password)))
}

func auths(entries ...string) string { // key, value, key, value …
	var parts []string
	for i := 0; i < len(entries); i += 2 {
		parts = append(parts, fmt.Sprintf("%q:%s", entries[i], entries[i+1]))
	}
	return `{"auths":{` + strings.Join(parts, ",") + `}}`
}

// helper installs a credential helper that answers from its script.
func helper(t testing.TB, name, script string) {
	t.Helper()
	if runtime.GOOS == "windows" {
		t.Skip("the helper is a shell script")
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "docker-credential-"+name), []byte("#!/bin/sh\n"+script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+string(os.PathListSeparator)+os.Getenv("PATH"))
}

func TestLookup(t *testing.T) {
	helper(t, "test", `read key
case "$1 $key" in
"get https://index.docker.io/v1/") echo '{"Username":"hub","Secret":"p"}' ;;
"get helped.example") echo '{"Username":"help","Secret":"p"}' ;;
"get token.example") echo '{"Username":"<token>","Secret":"t"}' ;;
*) echo "credentials not found in native keychain"; exit 1 ;;
esac`)
	const docker, podman, xdg = ".docker/config.json", "run/containers/auth.json", ".config/containers/auth.json"
	for label, tt := range map[string]struct {
		files map[string]string
		env   map[string]string
		name  string
		want  string // account password token from file; H is the home
	}{
		"nothing":               {nil, nil, "a.example", "none"},
		"docker":                {map[string]string{docker: auths("a.example", auth("ann", "p:w"))}, nil, "a.example/x", "ann p:w  H/" + docker},
		"other host":            {map[string]string{docker: auths("a.example", auth("ann", "p"))}, nil, "b.example", "none"},
		"other port":            {map[string]string{docker: auths("a.example", auth("ann", "p"))}, nil, "a.example:5000", "none"},
		"port":                  {map[string]string{docker: auths("localhost:5000", auth("ann", "p"))}, nil, "localhost:5000/x", "ann p  H/" + docker},
		"as a URL":              {map[string]string{docker: auths("https://a.example/v2/", auth("ann", "p"))}, nil, "a.example", "ann p  H/" + docker},
		"apart":                 {map[string]string{docker: auths("a.example", `{"username":"ann","password":"p"}`)}, nil, "a.example", "ann p  H/" + docker},
		"identity token":        {map[string]string{docker: auths("a.example", `{"identitytoken":"t"}`)}, nil, "a.example", "  t H/" + docker},
		"hub":                   {map[string]string{docker: auths("https://index.docker.io/v1/", auth("ann", "p"))}, nil, "docker.io/library/x", "ann p  H/" + docker},
		"hub by podman":         {map[string]string{xdg: auths("docker.io", auth("ann", "p"))}, nil, "docker.io/library/x", "ann p  H/" + xdg},
		"hub by its other name": {map[string]string{docker: auths("https://index.docker.io/v1/", auth("ann", "p"))}, nil, "index.docker.io", "ann p  H/" + docker},
		"DOCKER_CONFIG":         {map[string]string{"d/config.json": auths("a.example", auth("ann", "p"))}, map[string]string{"DOCKER_CONFIG": "H/d"}, "a.example", "ann p  H/d/config.json"},
		"DOCKER_AUTH_CONFIG":    {nil, map[string]string{"DOCKER_AUTH_CONFIG": auths("a.example", auth("ann", "p"))}, "a.example", "ann p  $DOCKER_AUTH_CONFIG"},
		"podman":                {map[string]string{docker: "{}", podman: auths("a.example", auth("pod", "p"))}, map[string]string{"XDG_RUNTIME_DIR": "H/run"}, "a.example", "pod p  H/" + podman},
		"docker before podman":  {map[string]string{docker: auths("a.example", auth("ann", "p")), podman: auths("a.example", auth("pod", "p"))}, map[string]string{"XDG_RUNTIME_DIR": "H/run"}, "a.example", "ann p  H/" + docker},
		"empty docker entry":    {map[string]string{docker: auths("a.example", `{}`), podman: auths("a.example", auth("pod", "p"))}, map[string]string{"XDG_RUNTIME_DIR": "H/run"}, "a.example", "pod p  H/" + podman},
		"REGISTRY_AUTH_FILE":    {map[string]string{"r.json": auths("a.example", auth("reg", "p")), xdg: auths("a.example", auth("xdg", "p"))}, map[string]string{"REGISTRY_AUTH_FILE": "H/r.json"}, "a.example", "reg p  H/r.json"},
		"longest path":          {map[string]string{xdg: auths("a.example", auth("all", "p"), "a.example/team", auth("team", "p"), "a.example/team/app", auth("app", "p"))}, nil, "a.example/team/app/x", "app p  H/" + xdg},
		"path of others":        {map[string]string{xdg: auths("a.example/team", auth("team", "p"))}, nil, "a.example/teams", "none"},
		"helper":                {map[string]string{docker: `{"credHelpers":{"helped.example":"test"}}`}, nil, "helped.example", "help p  docker-credential-test (H/" + docker + ")"},
		"store":                 {map[string]string{docker: `{"credsStore":"test"}`}, nil, "docker.io/x/y", "hub p  docker-credential-test (H/" + docker + ")"},
		"helper's token":        {map[string]string{docker: `{"credsStore":"test"}`}, nil, "token.example", "  t docker-credential-test (H/" + docker + ")"},
		"store without":         {map[string]string{docker: `{"credsStore":"test","auths":{"a.example":` + auth("ann", "p") + `}}`}, nil, "a.example", "ann p  H/" + docker},
		"helper of others":      {map[string]string{docker: `{"credHelpers":{"helped.example":"absent"}}`}, nil, "a.example", "none"},
	} {
		t.Run(label, func(t *testing.T) {
			h := newHome(t)
			for name, content := range tt.files {
				h.write(t, name, content)
			}
			for key, value := range tt.env {
				h.env[key] = strings.ReplaceAll(value, "H/", h.dir+"/")
			}
			c, err := h.credentials().Lookup(t.Context(), tt.name)
			if err != nil {
				t.Fatal(err)
			}
			account, password, token := c.Reveal()
			got := strings.ReplaceAll(strings.Join([]string{account, password, token, c.Source}, " "), h.dir+"/", "H/")
			if !c.Found() {
				got = "none"
			}
			if got != tt.want {
				t.Errorf("got  %q\nwant %q", got, tt.want)
			}
		})
	}
}

func TestLookupErrors(t *testing.T) {
	helper(t, "broken", "echo 'the keychain is locked'; exit 1")
	helper(t, "leaking", `echo '{"Username":"ann","Secret":"pa55word"}'; exit 1`)
	helper(t, "babbling", "echo hello")
	for label, tt := range map[string]struct{ content, want string }{
		"broken":         {"{\n\n \"auths\": {,}}", "config.json:3: invalid character"},
		"half":           {`{"auths":`, "config.json: unexpected EOF"},
		"wrong type":     {"{\n\"auths\": [\"pa55word\"]}", `config.json:2: field "auths" is of the wrong type`},
		"no base64":      {auths("a.example", `{"auth":"pa55word!"}`), "config.json: illegal base64"},
		"missing helper": {`{"credsStore":"missing"}`, "docker-credential-missing is not installed"},
		"broken helper":  {`{"credsStore":"broken"}`, `docker-credential-broken failed for a.example: "the keychain is locked" (exit status 1)`},
		"leaking helper": {`{"credsStore":"leaking"}`, "failed for a.example: exit status 1"},
		"babbler":        {`{"credsStore":"babbling"}`, "its answer is no JSON"},
	} {
		t.Run(label, func(t *testing.T) {
			h := newHome(t)
			file := h.write(t, ".docker/config.json", tt.content)
			_, err := h.credentials().Lookup(t.Context(), "a.example")
			if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), file) ||
				strings.Contains(err.Error(), "\n") || strings.Contains(err.Error(), "pa55word") {
				t.Errorf("%v, want one line with %q", err, tt.want)
			}
		})
	}
}

// A helper that hangs is left when the context ends.
func TestLookupIsCancelled(t *testing.T) {
	helper(t, "hanging", "exec sleep 600")
	h := newHome(t)
	h.write(t, ".docker/config.json", `{"credsStore":"hanging"}`)
	ctx, cancel := contextWithTimeout(t, 50*time.Millisecond)
	defer cancel()
	start := time.Now()
	if _, err := h.credentials().Lookup(ctx, "a.example"); err == nil {
		t.Error("a hanging helper has an answer")
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("it took %v", took)
	}
}

// No way of printing shows a value, inside of nothing, of a struct, behind a
// pointer, in a log or in JSON.
func TestCredentialIsNeverShown(t *testing.T) {
	h := newHome(t)
	file := h.write(t, ".docker/config.json", auths("a.example", auth("ann", "pa55word"), "b.example", `{"identitytoken":"pa55word"}`))
	for _, host := range []string{"a.example", "b.example"} {
		c, err := h.credentials().Lookup(t.Context(), host)
		if err != nil {
			t.Fatal(err)
		}
		type outer struct {
			Public  registry.Credential
			private registry.Credential
			pointer *registry.Credential
			list    []registry.Credential
		}
		var shown strings.Builder
		for _, v := range []any{c, &c, outer{c, c, &c, []registry.Credential{c}}, &outer{c, c, &c, []registry.Credential{c}}, []any{c}, map[string]any{"c": c}} {
			for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%t", "%p", "%o"} {
				fmt.Fprintf(&shown, verb+"\n", v)
			}
			if b, err := json.Marshal(v); err == nil {
				shown.Write(b)
			}
			for _, handler := range []slog.Handler{slog.NewJSONHandler(&shown, nil), slog.NewTextHandler(&shown, nil)} {
				slog.New(handler).Info("x", "v", v)
			}
		}
		for _, form := range []string{"pa55word", fmt.Sprintf("%x", "pa55word"), fmt.Sprintf("%X", "pa55word"), base64.StdEncoding.EncodeToString([]byte("ann:pa55word"))} {
			if strings.Contains(shown.String(), form) {
				i := strings.Index(shown.String(), form)
				t.Errorf("%s is shown: …%s", host, shown.String()[max(0, i-200):i+len(form)])
			}
		}
		if !strings.Contains(shown.String(), file) {
			t.Error("the source is not shown")
		}
	}
	c, err := h.credentials().Lookup(t.Context(), "a.example")
	if err != nil {
		t.Fatal(err)
	}
	if b, err := json.Marshal(c); err != nil || !bytes.Contains(b, []byte(`"account":"ann"`)) {
		t.Errorf("%s, %v", b, err)
	}
	if s := c.String(); s != "account ann from "+file {
		t.Error(s)
	}
}

func FuzzCredentialFile(f *testing.F) {
	f.Add(auths("a.example", auth("ann", "p")))
	f.Add(`{"auths":{"a.example":{"identitytoken":"x"}}}`)
	f.Fuzz(func(t *testing.T, content string) {
		if strings.Contains(content, "cred") || strings.Contains(content, `\u`) || strings.Contains(strings.ToLower(content), "creds") {
			return // it would run programs
		}
		c := registry.Credentials{Getenv: func(name string) string {
			return map[string]string{"DOCKER_AUTH_CONFIG": content, "HOME": "/nonexistent"}[name]
		}}
		if _, err := c.Lookup(t.Context(), "a.example/x"); err != nil && strings.Contains(err.Error(), "\n") {
			t.Errorf("more than one line: %q", err)
		}
	})
}
