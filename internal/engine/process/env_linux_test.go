package process

import (
	"slices"
	"testing"
)

// TestEngineEnv: an engine outlives the command that starts it, and must not
// keep that one's secrets.
func TestEngineEnv(t *testing.T) {
	in := []string{"PATH=/bin", "XDG_RUNTIME_DIR=/run/1", "TOKEN=secret", "AWS_SECRET_ACCESS_KEY=secret", "https_proxy=p", "PATHOLOGICAL=x", "LIGHTER_LOG_LEVEL=debug"}
	want := []string{"PATH=/bin", "XDG_RUNTIME_DIR=/run/1", "https_proxy=p", "LIGHTER_LOG_LEVEL=debug"}
	if got := engineEnv(in); !slices.Equal(got, want) {
		t.Errorf("kept %q, want %q", got, want)
	}
}
