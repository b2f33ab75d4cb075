package buildkit

import (
	"strings"
	"testing"

	"github.com/moby/buildkit/client"
	"pgregory.net/rapid"

	"github.com/lighter-oci/lighter/internal/engine"
)

// TestRedactor: however a log is cut into pieces, no secret comes through and
// nothing else is lost.
func TestRedactor(t *testing.T) {
	t.Setenv("TOKEN", "swordfish\nsecond line")
	secrets, err := readSecrets(t.Context(), []engine.Secret{{ID: "t", Env: "TOKEN"}})
	if err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(t *rapid.T) {
		r := newRedactor(secrets)
		parts := rapid.SliceOf(rapid.SampledFrom([]string{"sword", "swordfish", "fish", "second line", "second", " line", "x", "\n"})).Draw(t, "parts")
		text := strings.Join(parts, "")
		var got strings.Builder
		show := func(s *client.SolveStatus) {
			for _, l := range s.Logs {
				got.Write(l.Data)
			}
		}
		for rest := text; rest != ""; {
			n := rapid.IntRange(1, len(rest)).Draw(t, "n")
			s := &client.SolveStatus{Logs: []*client.VertexLog{{Stream: 1, Data: []byte(rest[:n])}}}
			r.status(s)
			show(s)
			rest = rest[n:]
		}
		show(r.rest())
		if strings.Contains(got.String(), "swordfish") || strings.Contains(got.String(), "second line") {
			t.Fatalf("%q shows a secret: %q", text, got.String())
		}
		want := strings.NewReplacer("swordfish", "[secret]", "second line", "[secret]").Replace(text)
		if got.String() != want {
			t.Fatalf("%q became %q, want %q", text, got.String(), want)
		}
	})
}
