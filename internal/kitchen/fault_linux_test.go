package kitchen

import (
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/lighter-oci/lighter/internal/history"
)

// Whatever is refused, the next step is said, to programs and on pages.
func TestFaultsHaveNextSteps(t *testing.T) {
	s := kitchenFor(t, map[string]string{"web": ""}, nil)
	p, _ := s.project("web")
	asJSON, form := []string{"Content-Type", "application/json"}, []string{"Content-Type", "application/x-www-form-urlencoded"}
	for _, tt := range []struct {
		name, method, path, body string
		header                   []string
		code                     int
	}{
		{"too large", "POST", "/api/v1/builds", `{"project":"` + strings.Repeat("x", maxBody) + `"}`, asJSON, 413},
		{"a form that is too large", "POST", "/p/web/builds", "verb=" + strings.Repeat("x", maxBody), form, 413},
		{"a form that is none", "POST", "/p/web/builds", "verb=%zz", form, 400},
		{"no JSON by its type", "POST", "/api/v1/builds", "{}", nil, 415},
		{"no JSON", "POST", "/api/v1/builds", "{", asJSON, 400},
		{"another key", "POST", "/api/v1/builds", `{"x":1}`, asJSON, 400},
		{"another type", "POST", "/api/v1/builds", `{"project":1}`, asJSON, 400},
		{"empty", "POST", "/api/v1/builds", "", asJSON, 400},
		{"no project", "POST", "/api/v1/builds", `{"project":"x"}`, asJSON, 404},
		{"no such choice", "POST", "/api/v1/builds", `{"project":"web","verb":"x"}`, asJSON, 422},
		{"no build", "GET", "/api/v1/builds/x", "", nil, 404},
		{"no build's page", "GET", "/b/x", "", nil, 404},
		{"no page", "GET", "/x", "", nil, 404},
		{"no address", "GET", "/b/%5c", "", nil, 400},
		{"too long", "GET", "/?" + strings.Repeat("x", maxURL), "", nil, 414},
		{"another host", "GET", "/", "", []string{"Host", "x"}, 421},
		{"another site", "POST", "/b/x/stop", "", []string{"Origin", "http://x"}, 403},
	} {
		code, text := request(t, s, tt.method, tt.path, tt.body, tt.header...)
		var said struct{ Error, Next string }
		if strings.HasPrefix(tt.path, "/api/") {
			if err := json.Unmarshal([]byte(text), &said); err != nil {
				t.Errorf("%s: %v: %s", tt.name, err, text)
			}
		} else if _, rest, ok := strings.Cut(text, `<p class="next">`); ok {
			said.Next, _, _ = strings.Cut(rest, "<")
		}
		if code != tt.code || strings.TrimSpace(said.Next) == "" {
			t.Errorf("%s: %d, next step %q: %.200s", tt.name, code, said.Next, text)
		}
	}
	for _, err := range []error{
		errQueueFull, errClosing, io.ErrUnexpectedEOF, &http.MaxBytesError{Limit: maxBody}, &history.NotFoundError{}, choiceError{"x"}, s.stop("x"),
		(Choice{Verb: "x"}).check(p), s.noProject(&http.Request{URL: &url.URL{}}),
	} {
		if f := asFault(err); f.code < 400 || f.what == "" || f.next == "" {
			t.Errorf("%v is answered with %+v", err, f)
		}
	}
}

// So is what a server does not begin with.
func TestListenHasNextSteps(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	s := kitchenFor(t, map[string]string{"web": ""}, nil)
	for addr, want := range map[string]string{
		taken.Addr().String(): "address already in use",
		"127.0.0.1":           "is no ADDRESS:PORT",
		"127.0.0.1:99999":     "invalid port",
	} {
		o := s.opt
		o.Listen, o.State = addr, t.TempDir()
		_, err := New(o)
		var hinted interface{ Hint() string }
		if err == nil || !strings.HasPrefix(err.Error(), "--listen ") || !strings.Contains(err.Error(), want) || !errors.As(err, &hinted) || hinted.Hint() == "" {
			t.Errorf("%s: %v", addr, err)
		}
	}
}
