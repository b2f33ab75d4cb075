package registry_test

import (
	"net/http"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/lighter-oci/lighter/internal/image"
	"github.com/lighter-oci/lighter/internal/registry"
)

func TestMain(m *testing.M) {
	// A developer's own credentials and proxies are no part of any test.
	for _, name := range []string{"DOCKER_AUTH_CONFIG", "REGISTRY_AUTH_FILE", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME",
		"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"} {
		_ = os.Unsetenv(name)
	}
	_ = os.Setenv("DOCKER_CONFIG", "/nonexistent")
	_ = os.Setenv("HOME", "/nonexistent")
	if spec := os.Getenv(copyInChild); spec != "" {
		os.Exit(childCopies(spec))
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		http.DefaultTransport.(*http.Transport).CloseIdleConnections()
		os.Exit(code)
	}))
}

// client is one that does not wait long.
func client(t testing.TB, opts registry.Options) *registry.Client {
	t.Helper()
	if opts.Backoff == 0 {
		opts.Backoff = time.Millisecond
	}
	c := registry.New(opts)
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

func repository(t testing.TB, c *registry.Client, ref string) (*registry.Repository, string) {
	t.Helper()
	parsed, err := image.ParseReference(ref)
	if err != nil {
		t.Fatal(err)
	}
	r, err := c.Repository(parsed)
	if err != nil {
		t.Fatal(err)
	}
	return r, parsed.Identifier()
}
