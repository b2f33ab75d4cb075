package image_test

import (
	"strings"
	"testing"

	"github.com/lighter-oci/lighter/internal/image"
)

func TestParseReference(t *testing.T) {
	const d = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	for in, want := range map[string]image.Reference{
		"busybox":                        {Host: "docker.io", Repository: "library/busybox", Tag: "latest"},
		"index.docker.io/team/app:1":     {Host: "docker.io", Repository: "team/app", Tag: "1"},
		"team/app@" + d:                  {Host: "docker.io", Repository: "team/app", Digest: d},
		"team/app:1@" + d:                {Host: "docker.io", Repository: "team/app", Tag: "1", Digest: d},
		"localhost/app":                  {Host: "localhost", Repository: "app", Tag: "latest"},
		"127.0.0.1:5000/a/b/c:V-1.0_x":   {Host: "127.0.0.1:5000", Repository: "a/b/c", Tag: "V-1.0_x"},
		"[::1]:5000/app":                 {Host: "[::1]:5000", Repository: "app", Tag: "latest"},
		"ghcr.io/team/app__x-y.z:1@" + d: {Host: "ghcr.io", Repository: "team/app__x-y.z", Tag: "1", Digest: d},
	} {
		got, err := image.ParseReference(in)
		if err != nil || got != want {
			t.Errorf("%s: %+v, %v, want %+v", in, got, err, want)
		}
		id := want.Tag
		if want.Digest != "" {
			id = d
		}
		if got.Identifier() != id {
			t.Errorf("%s resolves %q, want %q", in, got.Identifier(), id)
		}
	}
	for _, in := range []string{
		"", " ", "App", "team/App", "a//b", "app:", "app:ta/g", "app@sha256:abc", "app@md5:d41d8cd98f00b204e9800998ecf8427e",
		"-x", "http://host/app", "app:1:2", strings.Repeat("a", 300), "app:" + strings.Repeat("a", 129), "ä", "a b",
		"host:99999999999/app@", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", "app\n", "$(id)/x",
	} {
		_, err := image.ParseReference(in)
		if err == nil || strings.Contains(err.Error(), "\n") || !strings.HasPrefix(err.Error(), "image reference ") {
			t.Errorf("%q: %v, want one line that quotes it", in, err)
		}
	}
}

func TestLoopback(t *testing.T) {
	for host, want := range map[string]bool{
		"localhost": true, "localhost:5000": true, "registry.localhost": true, "a.localhost:1": true, "LOCALHOST:5000": true,
		"127.0.0.1": true, "127.0.0.1:5000": true, "127.8.9.1:80": true, "[::1]:5000": true, "[::1]": true, "[::ffff:127.0.0.1]:1": true,
		"docker.io": false, "10.0.0.1:5000": false, "192.168.1.1": false, "localhost.example.com": false, "notlocalhost": false,
		"127.0.0.1.example.com": false, "[::2]:1": false, "": false, "0.0.0.0:5000": false,
	} {
		if got := image.LoopbackHost(host); got != want {
			t.Errorf("%s: %v, want %v", host, got, want)
		}
	}
}

// What parses is written so that it parses to the same again, and has no part
// that could leave a URL's path.
func FuzzParseReference(f *testing.F) {
	for _, s := range []string{"busybox", "localhost:5000/a/b:c", "[::1]:5000/a@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", "a/../b", "A.B/c"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := image.ParseReference(s)
		if err != nil {
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("%q: more than one line: %q", s, err)
			}
			return
		}
		again, err := image.ParseReference(r.String())
		if err != nil || again != r {
			t.Errorf("%q is %+v, then %+v, %v", s, r, again, err)
		}
		if r.Host == "" || r.Repository == "" || r.Identifier() == "" || strings.ContainsAny(r.String(), " \n\r\t?#%\\\"'<>") ||
			strings.Contains(r.Repository, "..") || strings.HasPrefix(r.Repository, "/") {
			t.Errorf("%q is %+v", s, r)
		}
	})
}
