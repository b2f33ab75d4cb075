package registrytest_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"os"
	"os/exec"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/lighter-oci/lighter/internal/registry/registrytest"
)

// Every kind of server takes a push with the right account, refuses a wrong
// one where it has users, and gives back what was pushed.
func TestKinds(t *testing.T) {
	users := map[string]string{"ann": "s3cret"}
	for label, opts := range map[string]registrytest.Options{
		"open":  {},
		"basic": {Users: users},
		"token": {Users: users, Token: true},
		"tls":   {Users: users, TLS: true},
	} {
		t.Run(label, func(t *testing.T) {
			s := registrytest.Start(t, opts)
			ref, err := name.ParseReference(s.Ref("team/app:1"))
			if err != nil {
				t.Fatal(err)
			}
			img, err := random.Image(1000, 2)
			if err != nil {
				t.Fatal(err)
			}
			transport := http.DefaultTransport.(*http.Transport).Clone()
			if opts.TLS {
				pool := x509.NewCertPool()
				pem, err := os.ReadFile(s.CAFile)
				if err != nil || !pool.AppendCertsFromPEM(pem) {
					t.Fatalf("authority in %s: %v", s.CAFile, err)
				}
				transport.TLSClientConfig = &tls.Config{RootCAs: pool}
			}
			as := func(password string) []remote.Option {
				if opts.Users == nil {
					return []remote.Option{remote.WithTransport(transport)}
				}
				return []remote.Option{remote.WithTransport(transport),
					remote.WithAuth(&authn.Basic{Username: "ann", Password: password})}
			}
			if opts.Users != nil {
				if err := remote.Write(ref, img, as("wrong")...); err == nil {
					t.Fatal("a wrong password could push")
				}
			}
			if err := remote.Write(ref, img, as("s3cret")...); err != nil {
				t.Fatal(err)
			}
			desc, err := remote.Head(ref, as("s3cret")...)
			if err != nil {
				t.Fatal(err)
			}
			if want, _ := img.Digest(); desc.Digest != want {
				t.Fatalf("got %s, want %s", desc.Digest, want)
			}
			if opts.Token && (s.Tokens.Issued.Load() == 0 || s.Tokens.Denied.Load() == 0) {
				t.Fatalf("the token server gave %d and denied %d", s.Tokens.Issued.Load(), s.Tokens.Denied.Load())
			}
		})
	}
}

// An image outlives its server in the directory, and skopeo reads it through
// the proxy.
func TestRestartAndProxy(t *testing.T) {
	first := registrytest.Start(t, registrytest.Options{})
	img, err := random.Image(1000, 1)
	if err != nil {
		t.Fatal(err)
	}
	ref, err := name.ParseReference(first.Ref("app:1"))
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(ref, img); err != nil {
		t.Fatal(err)
	}
	first.Stop()
	if _, err := remote.Head(ref); err == nil {
		t.Fatal("a stopped registry answers")
	}
	proxy := registrytest.NewFaulty(t, registrytest.Start(t, registrytest.Options{Dir: first.Dir}))
	proxy.Set(registrytest.Times(1, "/manifests/", func(w http.ResponseWriter, _ *http.Request) { registrytest.Reset(w) }))
	inspect := func() ([]byte, error) {
		return exec.CommandContext(context.Background(), "skopeo", "inspect", "--raw", "--tls-verify=false", "docker://"+proxy.Ref("app:1")).CombinedOutput()
	}
	_, firstErr := inspect()
	out, err := inspect()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	want, _ := img.RawManifest()
	if string(out) != string(want) {
		t.Fatalf("got %s, want %s", out, want)
	}
	if n := proxy.Count("GET", "/manifests/1"); n < 2 {
		t.Fatalf("%d requests for the manifest (first error: %v), want the reset one and another: %v", n, firstErr, proxy.Requests())
	}
}
