package image_test

import (
	"strings"
	"testing"

	"github.com/lighter-oci/lighter/internal/image"
)

func TestParseLocation(t *testing.T) {
	const id = "sha256:0123456789012345678901234567890123456789012345678901234567890123"
	for in, want := range map[string]string{
		"busybox":                            "docker://docker.io/library/busybox:latest",
		"docker://busybox:1":                 "docker://docker.io/library/busybox:1",
		"localhost:5000/a/b:1":               "docker://localhost:5000/a/b:1",
		"oci:dir":                            "oci:dir",
		"oci:/a/b:tag":                       "oci:/a/b:tag",
		"oci:dir:localhost:5000/app:1":       "oci:dir:localhost:5000/app:1",
		"oci-archive:image.tar":              "oci-archive:image.tar",
		"docker-archive:image.tar:app:1":     "docker-archive:image.tar:app:1",
		"docker-daemon:app":                  "docker-daemon:docker.io/library/app:latest",
		"containerd:app:2":                   "containerd:docker.io/library/app:2",
		"oci:5000/app":                       "oci:5000/app", // a transport wins over a host of its name
		"docker://127.0.0.1:5000/a@sha256:x": "!",
		"":                                   "!",
		"oci:":                               "!",
		"oci::tag":                           "!",
		"docker:app":                         "!",
		"https://example.com/app":            "!",
		"ftp://x":                            "!",
		"docker-daemon:" + id:                "docker-daemon:" + id, // an image's
		"containerd:" + id:                   "containerd:docker.io/library/" + id,
		"docker-daemon:":                     "!",
		"docker-daemon:UPPER":                "!",
		"a b":                                "!",
		"./dir":                              "!",
		"docker://a\nb":                      "!",
	} {
		got, err := image.ParseLocation(in)
		switch {
		case want == "!" && err == nil:
			t.Errorf("%q is %+v", in, got)
		case want == "!" && !strings.Contains(in, ":") && !strings.Contains(err.Error(), "oci-archive:"):
			t.Errorf("%q: %v; want what names a transport", in, err)
		case want == "!" && strings.Contains(err.Error(), "\n"):
			t.Errorf("%q: more than a line: %v", in, err)
		case want != "!" && (err != nil || got.String() != want):
			t.Errorf("%q is %s, %v; want %s", in, got, err, want)
		}
		if err == nil {
			for _, written := range []string{got.String(), got.Short()} {
				if again, err := image.ParseLocation(written); err != nil || again != got {
					t.Errorf("%s read back is %+v, %v", written, again, err)
				}
			}
		}
	}
}
