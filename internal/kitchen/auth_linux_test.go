package kitchen

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"
)

const (
	aToken    = "a token of some length"
	aPassword = "correct horse"
)

// locked is a kitchen that asks who one is. Its password's hash is a cheap one: the
// usual one takes a second and more under the race detector.
func locked(t *testing.T, change func(*Options)) *Server {
	hash, err := bcrypt.GenerateFromPassword([]byte(aPassword), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	config := configOf(t, fmt.Sprintf("user = \"ann\"\npassword-hash = %q\ntoken-hash = \"sha256:%x\"\n", hash, sha256.Sum256([]byte(aToken))))
	return kitchenFor(t, map[string]string{"web": "log x"}, func(o *Options) {
		o.Config = config
		if change != nil {
			change(o)
		}
	})
}

func configOf(t *testing.T, text string) Config {
	t.Helper()
	path := filepath.Join(t.TempDir(), "kitchen.toml")
	write(t, path, text)
	config, err := LoadConfig(path)
	if err != nil {
		t.Fatal(err)
	}
	return config
}

// What Hashes writes is what a configuration wants, and takes the secret alone.
func TestHashes(t *testing.T) {
	lines, err := Hashes(aPassword)
	if err != nil {
		t.Fatal(err)
	}
	config := configOf(t, lines+"user = \"ann\"\n")
	d := &door{config: &config}
	if cost, err := bcrypt.Cost([]byte(d.config.PasswordHash)); err != nil || cost < bcrypt.DefaultCost {
		t.Errorf("cost %d, %v", cost, err)
	}
	if d.login("ann", aPassword) != "ann" || d.login("", aPassword) != "token" || d.login("ann", aToken) != "" || d.login("", aToken) != "" {
		t.Error("another secret, or not this one")
	}
}

func TestLogin(t *testing.T) {
	s := locked(t, nil)
	form := func(user, secret string) (int, *http.Cookie, string) {
		resp := answer(t, s, "POST", "/login", url.Values{"user": {user}, "secret": {secret}}.Encode(), "Content-Type", "application/x-www-form-urlencoded")
		resp.Body.Close()
		for _, c := range resp.Cookies() {
			return resp.StatusCode, c, resp.Header.Get("Location")
		}
		return resp.StatusCode, nil, ""
	}
	for _, path := range []string{"/", "/p/web", "/queue", "/b/x/log.txt"} {
		resp := answer(t, s, "GET", path, "")
		resp.Body.Close()
		if resp.StatusCode != http.StatusSeeOther || resp.Header.Get("Location") != "/login" {
			t.Errorf("%s: %d", path, resp.StatusCode)
		}
	}
	for _, path := range []string{"/api/v1/projects", "/metrics", "/events", "/events?of=lists"} {
		if code, text := request(t, s, "GET", path, ""); code != 401 || strings.Contains(text, "web") {
			t.Errorf("%s: %d %s", path, code, text)
		}
	}
	for _, wrong := range [][2]string{{"ann", "wrong"}, {"bob", aPassword}, {"", aPassword}, {"ann", aToken}, {"", ""}, {"ann", ""}} {
		if code, c, _ := form(wrong[0], wrong[1]); code != 401 || c != nil {
			t.Errorf("%v: %d, %v", wrong, code, c)
		}
	}
	code, cookie, _ := form("ann", aPassword)
	if code != http.StatusSeeOther || cookie == nil || !cookie.HttpOnly || cookie.SameSite != http.SameSiteStrictMode {
		t.Fatalf("%d %v", code, cookie)
	}
	as := []string{"Cookie", cookie.Name + "=" + cookie.Value}
	if code, text := request(t, s, "GET", "/", "", as...); code != 200 || !strings.Contains(text, "ann") {
		t.Errorf("logged in: %d", code)
	}
	if code, _ := request(t, s, "GET", "/", "", "Cookie", cookie.Name+"=x"+cookie.Value[1:]); code != http.StatusSeeOther {
		t.Errorf("another cookie: %d", code)
	}
	if code, _ := request(t, s, "GET", "/api/v1/projects", "", "Authorization", "Bearer "+aToken); code != 200 {
		t.Errorf("token: %d", code)
	}
	if code, _ := request(t, s, "GET", "/api/v1/projects", "", "Authorization", "Bearer "+aToken+"x"); code != 401 {
		t.Errorf("another token: %d", code)
	}
	if code, _ := request(t, s, "POST", "/logout", "", as...); code != http.StatusSeeOther {
		t.Errorf("log out: %d", code)
	}
	if code, _ := request(t, s, "GET", "/", "", as...); code != http.StatusSeeOther {
		t.Errorf("after logging out: %d", code)
	}
}

// Guessing ends after a few tries, also with what would be right.
func TestGuessing(t *testing.T) {
	s := locked(t, nil)
	for range attemptsEach {
		request(t, s, "POST", "/login", "secret=wrong", "Content-Type", "application/x-www-form-urlencoded")
	}
	if code, _ := request(t, s, "POST", "/login", "secret="+url.QueryEscape(aToken), "Content-Type", "application/x-www-form-urlencoded"); code != 429 {
		t.Errorf("%d", code)
	}
}

// A hundred guesses at the same time are no more than one after the other, and tokens
// of programs are no way around.
func TestGuessingAtOnce(t *testing.T) {
	for most, guess := range map[int32]func(*Server) int{
		attemptsEach: func(s *Server) int {
			code, _ := request(t, s, "POST", "/login", "secret=wrong", "Content-Type", "application/x-www-form-urlencoded")
			return code
		},
		attemptsToken: func(s *Server) int {
			code, _ := request(t, s, "GET", "/api/v1/queue", "", "Authorization", "Bearer wrong")
			return code
		},
	} {
		t.Run(fmt.Sprint(most), func(t *testing.T) {
			s := locked(t, nil)
			for range 2 * attemptsToken { // what is right counts for nothing
				if code, _ := request(t, s, "GET", "/api/v1/queue", "", "Authorization", "Bearer "+aToken); code != 200 {
					t.Fatalf("the token itself: %d", code)
				}
			}
			var tried atomic.Int32
			var all sync.WaitGroup
			for range 2 * most {
				all.Go(func() {
					if guess(s) == 401 {
						tried.Add(1)
					}
				})
			}
			all.Wait()
			if n := tried.Load(); n != most {
				t.Errorf("%d guesses were tried", n)
			}
		})
	}
}

// Nobody serves others by accident.
func TestExposed(t *testing.T) {
	dir := t.TempDir()
	for name, o := range map[string]Options{
		"everywhere":        {Listen: "0.0.0.0:0"},
		"a port alone":      {Listen: ":0"},
		"IPv6":              {Listen: "[::]:0"},
		"without TLS":       {Listen: "0.0.0.0:0", Config: Config{TokenHash: "sha256:00"}},
		"proxy, no login":   {Listen: "127.0.0.1:0", Proxy: "https://builds.example.com"},
		"a name":            {Listen: "localhost.evil.example:0"},
		"half an address":   {Listen: "127.0.0.1"},
		"proxy, no address": {Listen: "127.0.0.1:0", Proxy: "builds"},
	} {
		o.State = dir
		s, err := New(o)
		if err == nil {
			_ = s.listener.Close()
			t.Errorf("%s: it serves", name)
			continue
		}
		var exposed *ExposedError
		var refused fault
		if !errors.As(err, &exposed) && !errors.As(err, &refused) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Behind a proxy its name is the host, cookies are for TLS, and limits count
// whom the proxy names.
func TestBehindProxy(t *testing.T) {
	s := locked(t, func(o *Options) { o.Proxy = "https://builds.example.com" })
	direct := "http://" + s.listener.Addr().String()
	ask := func(method, path, body string, header ...string) *http.Response {
		req, _ := http.NewRequest(method, direct+path, strings.NewReader(body))
		req.Host = "builds.example.com"
		for i := 0; i < len(header); i += 2 {
			req.Header.Set(header[i], header[i+1])
		}
		resp, err := plain.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp
	}
	resp := ask("POST", "/login", "secret="+url.QueryEscape(aToken), "Content-Type", "application/x-www-form-urlencoded", "Origin", "https://builds.example.com")
	if resp.StatusCode != http.StatusSeeOther || !resp.Cookies()[0].Secure || resp.Header.Get("Strict-Transport-Security") == "" {
		t.Errorf("%d %v", resp.StatusCode, resp.Header)
	}
	if resp := ask("POST", "/login", "", "Origin", "http://builds.example.com"); resp.StatusCode != 403 {
		t.Errorf("without TLS: %d", resp.StatusCode)
	}
	r, _ := http.NewRequest("GET", "/", nil)
	r.RemoteAddr = "127.0.0.1:5"
	r.Header.Set("X-Forwarded-For", "1.1.1.1, 203.0.113.9")
	if got := s.client(r); got != "203.0.113.9" {
		t.Errorf("client %s", got)
	}
}

// Every error of a configuration has its place and the next step.
func TestConfigErrors(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "short"), "abc")
	hook := "user = \"a\"\npassword-hash = '$2a$10$7EqJtq98hPqEX7fNZaFWoOhi5Q9y3cGk5Q6vR1QmRkqvX1FQm0uOe'\n[[webhooks]]\nurl=\"https://x\"\n"
	for text, want := range map[string]string{
		"token = 1\n":                         ":1:1: token: it is no key",
		"user = 3\n":                          ":1:8: user: ",
		"\nuser = \"a\n":                      ":2:",
		"user = \"ann\"\n":                    ":1:1: user: it goes together with password-hash",
		"\ncert = \"a\"\n":                    ":2:1: cert: it goes together with key",
		"\n key = \"a\"\n":                    ":2:2: key: it goes together with cert",
		"cert = \"none\"\nkey = \"short\"\n":  ":1:1: cert: open ",
		"cert = \"short\"\nkey = \"none\"\n":  ":2:1: key: open ",
		"cert = \"short\"\nkey = \"short\"\n": ":1:1: cert: tls: failed to find any PEM data",
		"token-hash = \"abc\"\n":              ":1:1: token-hash: it is no sha256:HEX",
		"user=\"a\"\npassword-hash=\"b\"\n":   ":2:1: password-hash: it is none of bcrypt",
		"[[webhooks]]\nurl=\"ftp://x\"\n":     ":2:1: webhooks[0].url: ",
		"[[webhooks]]\nstates=[]\n":           ":1:3: webhooks[0].url: ",
		"webhooks = [{ url = \"ftp://x\" }]":  ":1:15: webhooks[0].url: ",
		hook:                                  ":3:3: webhooks[0].secret-file: it is missing",
		hook + "secret-file=\"short\"\n":      ":5:1: webhooks[0].secret-file: short holds fewer than 16",
		hook + "secret-file=\"short\"\nstates=[\n\"broken\"]\n":     ":7:1: webhooks[0].states[0]: \"broken\" is no state",
		hook + "secret-file=\"nowhere\"\n":                          ":5:1: webhooks[0].secret-file: open ",
		hook + "secret-file=\"short\"\n[[webhooks]]\nurl=\"x\"\n":   ":5:1: webhooks[0].secret-file: short holds",
		"[[webhooks]]\nurl=\"https://x\"\n[projects.x]\nport = 1\n": ":4:1: projects.x.port: it is no key",
	} {
		path := filepath.Join(dir, "kitchen.toml")
		write(t, path, text)
		_, err := LoadConfig(path)
		var hinted interface{ Hint() string }
		if err == nil || !strings.HasPrefix(err.Error(), path+want) || !errors.As(err, &hinted) || hinted.Hint() == "" {
			t.Errorf("%q: %v, want %q and a hint", text, err, want)
		}
	}
	if _, err := LoadConfig(filepath.Join(dir, "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v", err)
	}
	path := filepath.Join(dir, "kitchen.toml")
	write(t, path, "\n[projects.shop]\n")
	config, err := LoadConfig(path)
	if err != nil {
		t.Fatal(err)
	}
	var hinted interface{ Hint() string }
	if _, err := places([]string{dir}, &config); !errors.As(err, &hinted) || hinted.Hint() == "" || !strings.HasPrefix(err.Error(), path+":2:11: projects.shop: ") {
		t.Errorf("%v", err)
	}
}

// loggedIn is the header of somebody who is.
func loggedIn(t *testing.T, s *Server) []string {
	t.Helper()
	resp := answer(t, s, "POST", "/login", "secret="+url.QueryEscape(aToken), "Content-Type", "application/x-www-form-urlencoded")
	resp.Body.Close()
	if len(resp.Cookies()) == 0 {
		t.Fatalf("%d", resp.StatusCode)
	}
	return []string{"Cookie", sessionName + "=" + resp.Cookies()[0].Value}
}

// What goes on as long as it is listened to ends with the login that it began with,
// and with no other.
func TestStreamsEndWithLogin(t *testing.T) {
	gate := filepath.Join(t.TempDir(), "gate")
	for _, end := range []string{"log out", "expire"} {
		t.Run(end, func(t *testing.T) {
			s := locked(t, nil)
			write(t, filepath.Join(s.places[0].real(), "do"), "log one\nuntil "+gate)
			others := [][]string{loggedIn(t, s), {"Authorization", "Bearer " + aToken}}
			code, text := request(t, s, "POST", "/api/v1/builds", `{"project":"web","verb":"build"}`, append(others[1], "Content-Type", "application/json")...)
			if code != http.StatusAccepted {
				t.Fatalf("%d %s", code, text)
			}
			id := strings.Split(text, `"`)[3]
			await(t, s, id, "running")
			if end == "expire" {
				s.door.mu.Lock()
				s.door.life = time.Second
				s.door.mu.Unlock()
			}
			mine := loggedIn(t, s)
			open := func(as []string) (ended chan struct{}) {
				ended = make(chan struct{})
				var all sync.WaitGroup
				for _, path := range []string{"/events?of=lists", "/events?of=lists&of=" + id + ".running.0.0", "/api/v1/builds/" + id + "/events"} {
					resp := answer(t, s, "GET", path, "", as...)
					if resp.StatusCode != http.StatusOK {
						t.Errorf("%s: %d", path, resp.StatusCode)
					}
					t.Cleanup(func() { resp.Body.Close() })
					all.Go(func() { _, _ = io.Copy(io.Discard, resp.Body) })
				}
				go func() { all.Wait(); close(ended) }()
				return ended
			}
			ended := open(mine)
			stay := []chan struct{}{open(others[0]), open(others[1])}
			if end == "log out" {
				request(t, s, "POST", "/logout", "", mine...)
			}
			select {
			case <-ended:
			case <-time.After(20 * time.Second):
				t.Fatal("they go on")
			}
			for i, other := range stay {
				select {
				case <-other:
					t.Errorf("%v has lost its streams, too", others[i])
				case <-time.After(200 * time.Millisecond):
				}
			}
			if code, _ := request(t, s, "GET", "/events?of=lists", "", mine...); code != http.StatusUnauthorized {
				t.Errorf("again: %d", code)
			}
			write(t, gate, "")
			await(t, s, id, "done")
		})
	}
}
