package registry_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lighter-oci/lighter/internal/registry"
)

const hostsFile = ".config/buildkit/buildkitd.toml"

// A whole buildkitd.toml is read for its registries, and for nothing else.
func TestHosts(t *testing.T) {
	h := newHome(t)
	file := h.write(t, hostsFile, `
debug = true
[worker.oci]
  gc = "whatever"
[registry."docker.io"]
  mirrors = ["mirror.example", "https://cache.example:5000/hub/"]
[registry."mirror.example"]
  ca = ["certs/ca.pem", "/etc/ca.pem"]
  [[registry."mirror.example".keypair]]
    key = "key.pem"
    cert = "cert.pem"
[registry."127.0.0.1:5000"]
  http = true
  insecure = false
`)
	got, err := h.hosts().Read()
	if err != nil || got.File != file {
		t.Fatalf("%v, %s", err, got.File)
	}
	dir := filepath.Dir(file)
	want := map[string]string{
		"docker.io":      "mirrors mirror.example, https://cache.example:5000/hub/",
		"mirror.example": "http = false; ca " + dir + "/certs/ca.pem, /etc/ca.pem; keypair " + dir + "/cert.pem",
		"127.0.0.1:5000": "http = true; insecure = false",
		"quay.io":        "",
	}
	said := map[string]string{}
	for host := range want {
		said[host] = got.Describe(host)
	}
	if diff := cmp.Diff(want, said); diff != "" {
		t.Error(diff)
	}

	h.env["XDG_CONFIG_HOME"] = h.dir + "/elsewhere"
	got, err = h.hosts().Read()
	if _, system := os.Stat("/etc/buildkit/buildkitd.toml"); system != nil && (err != nil || got.Hosts != nil || got.File != h.dir+"/elsewhere/buildkit/buildkitd.toml") {
		t.Errorf("%+v, %v", got, err)
	}
}

// What is wrong is said in one line, with the place and what to do; a client
// says it before it connects.
func TestBadHosts(t *testing.T) {
	for label, tt := range map[string]struct{ content, want string }{
		"syntax":        {"[registry.\"a\"]\nmirrors = [", ":2: "},
		"type":          {"# x\n[registry.\"a\"]\nhttp = \"yes\"", ":3: cannot decode TOML string"},
		"key":           {"[registry.\"a\"]\nhttp = true\nmirror = [\"b\"]", ":3: unknown key mirror"},
		"scheme":        {"\n[registry.\"https://a.example\"]\nhttp = true", `:2: registry "https://a.example": want HOST or HOST:PORT`},
		"path":          {"[registry.\"a.example/b\"]", `:1: registry "a.example/b"`},
		"mirror":        {"[registry.\"a\"]\nmirrors = [\n\"b\",\n\"https:///c\"]", `:4: mirror "https:///c": want HOST[:PORT][/PATH]`},
		"no section":    {"registry = 1", ":1: "},
		"authority":     {"[registry.\"127.0.0.1:1\"]\nca = [\"gone.pem\"]", `registry "127.0.0.1:1": open `},
		"no authority":  {"[registry.\"127.0.0.1:1\"]\nca = [\"buildkitd.toml\"]", "holds no certificate"},
		"key pair":      {"[registry.\"127.0.0.1:1\"]\nkeypair = [{cert = \"c.pem\", key = \"k.pem\"}]", "c.pem"},
		"escapes":       {"[registry.\"a\\u001b[31m\\nb\"]", `want HOST`},
		"not a section": {"[registry]\nhttp = true", ":2: "},
	} {
		t.Run(label, func(t *testing.T) {
			h := newHome(t)
			file := h.write(t, hostsFile, tt.content)
			err := resolveAt(t, h, "127.0.0.1:1/app:1")
			var wrong *registry.HostError
			if !errors.As(err, &wrong) || !strings.HasPrefix(err.Error(), "registry configuration: "+file) || !strings.Contains(err.Error(), tt.want) || wrong.Hint() == "" {
				t.Fatalf("%v, want %s", err, tt.want)
			}
			if strings.ContainsAny(err.Error(), "\n\x1b") {
				t.Errorf("not one line: %q", err)
			}
			t.Logf("%v\n  → %s", err, wrong.Hint())
		})
	}
	h := newHome(t)
	if err := os.MkdirAll(filepath.Join(h.dir, hostsFile), 0o700); err != nil {
		t.Fatal(err)
	}
	expect(t, resolveAt(t, h, "127.0.0.1:1/app:1"), "buildkitd.toml: is a directory", "readable")
}

// resolveAt is a resolve whose client may not come to be.
func resolveAt(t *testing.T, h *home, ref string) error {
	t.Helper()
	c := client(t, registry.Options{Credentials: h.credentials(), Hosts: h.hosts()})
	m, err := c.Mirrored(reference(t, ref))
	if err != nil {
		return err
	}
	_, err = m.Resolve(t.Context(), reference(t, ref).Tag)
	return err
}
