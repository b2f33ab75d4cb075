package buildkit

import (
	"strings"
	"testing"
)

func TestCheckOutputKeys(t *testing.T) {
	for _, tt := range []struct{ kind, key, value, want string }{
		{"image", "push", "true", ""},
		{"image", "push", "", ""},
		{"image", "push", "maybe", "true or false"},
		{"image", "annotation.org.example", "x", ""},
		{"image", "annotation-index[linux/amd64].a", "x", ""},
		{"image", "force-compress", "true", "no key"},
		{"image", "tar", "false", "no key"},
		{"oci", "tar", "false", ""},
		{"oci", "push", "true", "no key"},
		{"local", "platform-split", "false", ""},
		{"local", "compression", "zstd", "no key"},
		{"tar", "name", "x", "no key"},
	} {
		err := checkOutputKeys(tt.kind, map[string]string{tt.key: tt.value})
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s %s=%s: %v, want %q", tt.kind, tt.key, tt.value, err, tt.want)
		}
	}
}
