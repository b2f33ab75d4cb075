package kitchen

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lighter-oci/lighter/internal/history"
)

func TestHostileRequests(t *testing.T) {
	s := kitchenFor(t, map[string]string{"web": ""}, nil)
	at, _ := url.Parse(s.URL())
	ours := "http://" + at.Host
	form := []string{"Content-Type", "application/x-www-form-urlencoded"}
	for _, tt := range []struct {
		name, method, path string
		header             []string
		code               int
	}{
		{"itself", "GET", "/", nil, 200},
		{"localhost", "GET", "/", []string{"Host", "localhost:" + at.Port()}, 200},
		{"a rebound name", "GET", "/", []string{"Host", "evil.example:" + at.Port()}, 421},
		{"a rebound name that ends right", "GET", "/", []string{"Host", "localhost.evil.example:" + at.Port()}, 421},
		{"another port", "GET", "/", []string{"Host", "localhost:1"}, 421},
		{"a name without port", "GET", "/", []string{"Host", "localhost"}, 421},
		{"rebound for the API", "GET", "/api/v1/projects", []string{"Host", "evil.example"}, 421},

		{"its own form", "POST", "/b/x/stop", append(form, "Origin", ours, "Sec-Fetch-Site", "same-origin"), 404},
		{"a foreign form", "POST", "/b/x/stop", append(form, "Origin", "https://evil.example"), 403},
		{"a form of nowhere", "POST", "/b/x/stop", append(form, "Origin", "null"), 403},
		{"the same host over TLS", "POST", "/b/x/stop", append(form, "Origin", "https://"+at.Host), 403},
		{"another port of this machine", "POST", "/b/x/stop", append(form, "Origin", "http://localhost:1", "Sec-Fetch-Site", "same-site"), 403},
		{"a foreign form that has no Origin", "POST", "/b/x/stop", append(form, "Sec-Fetch-Site", "cross-site"), 403},
		{"a foreign page that reads", "GET", "/api/v1/projects", []string{"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "cors"}, 403},
		{"a foreign page with an image", "GET", "/events?of=lists", []string{"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "no-cors"}, 403},
		{"a foreign frame", "GET", "/", []string{"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "iframe"}, 403},
		{"a link from elsewhere", "GET", "/", []string{"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "document"}, 200},

		{"up and away", "GET", "/assets/..%2f..%2fkitchen.go", nil, 400},
		{"up and away, encoded twice", "GET", "/assets/%252e%252e%252fkitchen.go", nil, 404},
		{"up by backslash", "GET", `/b/..%5c..%5cetc`, nil, 400},
		{"two slashes", "GET", "//evil.example/", nil, 400},
		{"a nul", "GET", "/p/web%00", nil, 400},
		{"a build that is a path", "GET", "/b/..%2fhistory.db", nil, 400},
		{"a build that is none", "GET", "/b/01jdxxxxxxxxxxxxxxxxxxxxxx/log.txt", nil, 404},
		{"a step that is none", "GET", "/b/nobuild/log/..", nil, 400},
		{"a project that is none", "GET", "/p/nope", nil, 404},
		{"a method", "DELETE", "/b/x", nil, 404},
		{"an address without end", "GET", "/?" + strings.Repeat("a", 5000), nil, 414},
		{"a body without end", "POST", "/api/v1/builds", []string{"Content-Type", "application/json"}, 413},
		{"a form where JSON belongs", "POST", "/api/v1/builds", form, 415},
	} {
		body := ""
		if tt.code == 413 {
			body = `{"project":"` + strings.Repeat("a", 100<<10) + `"}`
		}
		if code, text := request(t, s, tt.method, tt.path, body, tt.header...); code != tt.code {
			t.Errorf("%s: %d, want %d: %.200s", tt.name, code, tt.code, text)
		}
	}
}

func TestEveryAnswerForbidsWhatPagesDoNotNeed(t *testing.T) {
	s := kitchenFor(t, map[string]string{"web": ""}, nil)
	for _, path := range []string{"/", "/nowhere", "/metrics", "/api/v1/projects", s.assets.url("kitchen.css")} {
		resp := answer(t, s, "GET", path, "")
		resp.Body.Close()
		policy := resp.Header.Get("Content-Security-Policy")
		if !strings.Contains(policy, "default-src 'none'") || strings.Contains(policy, "unsafe") {
			t.Errorf("%s: policy %q", path, policy)
		}
		for name, want := range map[string]string{"X-Content-Type-Options": "nosniff", "Referrer-Policy": "same-origin", "Cross-Origin-Opener-Policy": "same-origin"} {
			if got := resp.Header.Get(name); got != want {
				t.Errorf("%s: %s is %q, want %q", path, name, got, want)
			}
		}
	}
}

// No page has scripts or styles in it, which its policy would forbid.
func TestNamesTurnNothing(t *testing.T) {
	const name = "we\u202ebe\u2066\x1b[31m"
	s := kitchenFor(t, map[string]string{name: "log x"}, nil)
	id := begin(t, s, `{"project":"`+s.places[0].slug+`","verb":"build"}`)[0]
	await(t, s, id, history.Done)
	for _, path := range []string{"/", "/history", "/b/" + id, "/compare?a=" + id + "&b=" + id, "/p/" + s.places[0].slug, "/history?q=%E2%80%AE", "/%E2%80%AE"} {
		if code, text := request(t, s, "GET", path, ""); code >= 500 || strings.ContainsAny(text, "\u202e\u2066\x1b") {
			t.Errorf("%s: %d", path, code)
		}
	}
	for _, q := range []string{"%00", "a%00b", "%22", "-", "*", "NEAR(", "%FF", "%E2%80"} {
		if code, text := request(t, s, "GET", "/history?q="+q, ""); code != 200 {
			t.Errorf("looked for %s: %d %s", q, code, text)
		}
	}
}

func TestAddressBehindProxy(t *testing.T) {
	for _, raw := range []string{"https://builds.example.com", "https://builds.example.com/"} {
		u, _ := url.Parse(raw)
		if got := (&Server{opt: Options{proxy: u}}).URL(); got != "https://builds.example.com/" {
			t.Errorf("%s: %s", raw, got)
		}
	}
}

func TestPagesHaveNothingInline(t *testing.T) {
	s := kitchenFor(t, map[string]string{"web": "log hello"}, nil)
	id := begin(t, s, `{"project":"web","verb":"build"}`)[0]
	await(t, s, id, "done")
	for _, path := range []string{"/", "/p/web", "/b/" + id, "/b/" + id + "/log/" + stepKey("sha256:1"), "/queue", "/history", "/compare?a=" + id + "&b=" + id, "/nowhere"} {
		_, text := request(t, s, "GET", path, "")
		for _, bad := range []string{"style=", "<style", "onclick", "<script>", "javascript:", "ZgotmplZ"} {
			if strings.Contains(text, bad) {
				t.Errorf("%s has %q in it", path, bad)
			}
		}
		if !strings.Contains(text, "</html>") {
			t.Errorf("%s ends early: %.200s", path, text)
		}
	}
}

// Ten thousand streams are refused but for a few, and the server answers
// everybody else meanwhile.
func TestManyStreams(t *testing.T) {
	s := kitchenFor(t, map[string]string{"web": ""}, nil)
	at, _ := url.Parse(s.URL())
	var opened, refused, failed atomic.Int64
	var held sync.Map
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var all sync.WaitGroup
	work := make(chan int)
	for range 50 {
		all.Go(func() {
			for i := range work {
				c, err := (&net.Dialer{Timeout: time.Minute}).DialContext(ctx, "tcp", at.Host)
				if err != nil {
					failed.Add(1)
					continue
				}
				fmt.Fprintf(c, "GET /events?of=lists HTTP/1.1\r\nHost: %s\r\n\r\n", at.Host)
				_ = c.SetReadDeadline(time.Now().Add(2 * time.Minute))
				resp, err := http.ReadResponse(bufio.NewReader(c), nil)
				switch {
				case err != nil:
					failed.Add(1)
					c.Close()
				case resp.StatusCode == http.StatusOK:
					opened.Add(1)
					held.Store(i, c)
				default:
					if resp.StatusCode == http.StatusTooManyRequests {
						refused.Add(1)
					}
					c.Close()
				}
			}
		})
	}
	for i := range 10_000 {
		work <- i
	}
	close(work)
	all.Wait()
	if opened.Load() != maxStreamsClient || refused.Load() != 10_000-maxStreamsClient {
		t.Errorf("%d opened, %d refused, %d failed; want %d and the rest", opened.Load(), refused.Load(), failed.Load(), maxStreamsClient)
	}
	if code, _ := request(t, s, "GET", "/", ""); code != 200 {
		t.Errorf("the overview: %d", code)
	}
	held.Range(func(_, c any) bool { c.(net.Conn).Close(); return true })
	for deadline := time.Now().Add(time.Minute); s.streams.count() > 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d streams are still counted", s.streams.count())
		}
	}
}

// A client that sends its header for ever is let go.
func TestSlowHeader(t *testing.T) {
	s := kitchenFor(t, map[string]string{"web": ""}, nil)
	at, _ := url.Parse(s.URL())
	c, err := net.Dial("tcp", at.Host)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: %s\r\n", at.Host)
	_ = c.SetReadDeadline(time.Now().Add(2 * time.Minute))
	if n, err := c.Read(make([]byte, 1)); err == nil || n > 0 || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("%d bytes, %v", n, err)
	}
}
