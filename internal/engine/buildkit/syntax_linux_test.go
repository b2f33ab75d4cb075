package buildkit

import (
	"os"
	"strings"
	"testing"
)

func TestIsBuiltin(t *testing.T) {
	for ref, want := range map[string]bool{
		"docker/dockerfile:1":                 true,
		"docker.io/docker/dockerfile:1.4":     true,
		"docker/dockerfile:1.20.1":            false,
		"docker/dockerfile:1.21":              false,
		"docker/dockerfile:2":                 false,
		"docker/dockerfile:1-labs":            false,
		"docker/dockerfile:1.7-labs":          false,
		"docker/dockerfile":                   false,
		"docker/dockerfile-upstream:1":        false,
		"example.com/docker/dockerfile:1":     false,
		"docker/dockerfile:1@sha256:" + hex64: false,
		"":                                    false,
	} {
		if got := isBuiltin(ref, "1.20.0"); got != want {
			t.Errorf("%q: %v, want %v", ref, got, want)
		}
	}
}

const hex64 = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

func TestVersionIsGoMods(t *testing.T) {
	mod, err := os.ReadFile("../../../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(mod), "github.com/moby/buildkit "+Version+"\n") {
		t.Errorf("Version is %s, go.mod has another", Version)
	}
}
