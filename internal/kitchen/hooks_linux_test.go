package kitchen

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/lighter-oci/lighter/internal/history"
)

// A webhook that never answers keeps the others waiting for nothing, nor the server's
// end, and what waits for it is bounded.
func TestDeadWebhook(t *testing.T) {
	asked := make(chan struct{}, 1)
	dead := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case asked <- struct{}{}:
		default:
		}
		_, _ = io.Copy(io.Discard, r.Body) // or nobody sees that the client goes
		<-r.Context().Done()
	}))
	defer dead.Close()
	told := make(chan string, 1)
	alive := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		var said Hooked
		_ = json.NewDecoder(r.Body).Decode(&said)
		told <- said.Build.ID
	}))
	defer alive.Close()
	warned := make(chan string, 9)
	h := newHooks([]Webhook{{URL: dead.URL}, {URL: alive.URL}}, func(what string) {
		if strings.Contains(what, host(dead.URL)) { // the end may cut an answer of the other off
			warned <- what
		}
	})
	for n := range maxHooks + 2 { // one is being sent
		id := strings.Repeat("x", n+1)
		h.send(history.Build{Begun: history.Begun{ID: id}}, "")
		if got := <-told; got != id {
			t.Fatalf("told of %q, want %q", got, id)
		}
		if n == 0 {
			<-asked
		}
	}
	if what := <-warned; !strings.Contains(what, "dropped") || len(warned) > 0 {
		t.Errorf("warned %q, and %d more", what, len(warned))
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	h.close(ended)
	if what := <-warned + "; " + <-warned; !strings.Contains(what, "try 1; ") || !strings.Contains(what, ": the server ended before 100 more") {
		t.Errorf("warned %q", what)
	}
	h.send(history.Build{}, "") // nobody is there
}
