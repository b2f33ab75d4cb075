package kitchen

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
)

// asFrom sends a request from another address of this machine, and answers the
// connection, which the caller closes, and what came.
func asFrom(t *testing.T, s *Server, address, path string) (net.Conn, *http.Response) {
	t.Helper()
	at, _ := url.Parse(s.URL())
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(address)}, Timeout: 5 * time.Second}
	c, err := d.DialContext(t.Context(), "tcp", at.Host)
	if err != nil {
		t.Fatal(err)
	}
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: %s\r\n\r\n", path, at.Host)
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		c.Close()
		return nil, nil
	}
	return c, resp
}

// One address cannot take all streams, is told so, and others have theirs.
func TestStreamsOfOneAddress(t *testing.T) {
	s := kitchenFor(t, map[string]string{"web": ""}, nil)
	for range maxStreamsClient {
		c, resp := asFrom(t, s, "127.0.0.2", "/events?of=lists")
		if c == nil || resp.StatusCode != http.StatusOK {
			t.Fatalf("%+v", resp)
		}
		defer c.Close()
	}
	c, resp := asFrom(t, s, "127.0.0.2", "/events?of=lists")
	defer c.Close()
	text, _ := io.ReadAll(resp.Body)
	if resp.StatusCode != http.StatusTooManyRequests || resp.Header.Get("Retry-After") == "" ||
		!strings.Contains(string(text), "127.0.0.2 has 64") || !strings.Contains(string(text), "close pages") {
		t.Errorf("one more: %d %s", resp.StatusCode, text)
	}
	c, resp = asFrom(t, s, "127.0.0.3", "/events?of=lists")
	defer c.Close()
	if resp.StatusCode != http.StatusOK {
		t.Errorf("another: %d", resp.StatusCode)
	}
}

// One address cannot take all connections: a few more are told so, and further ones
// closed, until some of it end.
func TestConnectionsOfOneAddress(t *testing.T) {
	s := kitchenFor(t, map[string]string{"web": ""}, nil)
	s.connections.served.mu.Lock()
	s.connections.served.each = 8
	s.connections.served.mu.Unlock()
	var held []net.Conn
	for range 8 {
		c, resp := asFrom(t, s, "127.0.0.2", "/metrics")
		if c == nil || resp.StatusCode != http.StatusOK {
			t.Fatalf("%+v", resp)
		}
		held = append(held, c)
	}
	c, resp := asFrom(t, s, "127.0.0.2", "/metrics")
	text, _ := io.ReadAll(resp.Body)
	if resp.StatusCode != http.StatusTooManyRequests || !resp.Close || !strings.Contains(string(text), "127.0.0.2 has 8") {
		t.Errorf("one more: %d %s", resp.StatusCode, text)
	}
	described(t).holds("/metrics", "get", resp.StatusCode, string(text))
	c.Close()
	if c, resp = asFrom(t, s, "127.0.0.3", "/metrics"); resp.StatusCode != http.StatusOK {
		t.Errorf("another: %d", resp.StatusCode)
	}
	c.Close()

	at, _ := url.Parse(s.URL())
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP("127.0.0.2")}}
	for range maxTold { // that ask nothing
		c, err := d.DialContext(t.Context(), "tcp", at.Host)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	if c, resp := asFrom(t, s, "127.0.0.2", "/metrics"); c != nil {
		c.Close()
		t.Errorf("one that is too many for an answer: %d", resp.StatusCode)
	}
	for _, c := range held {
		c.Close()
	}
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		c, resp := asFrom(t, s, "127.0.0.2", "/metrics")
		if c != nil {
			c.Close()
			if resp.StatusCode == http.StatusOK {
				return
			}
		}
		if time.Now().After(deadline) {
			t.Fatal("what has ended is counted on")
		}
	}
}

// A proxy's connections are everybody's; limits count whom it names.
func TestLimitsBehindProxy(t *testing.T) {
	s := locked(t, func(o *Options) { o.Proxy = "https://builds.example.com" })
	open := func(client string) (int, func()) {
		req, _ := http.NewRequestWithContext(t.Context(), "GET", "http://"+s.listener.Addr().String()+"/events?of=lists", nil)
		req.Host = "builds.example.com"
		req.Header.Set("Authorization", "Bearer "+aToken)
		req.Header.Set("X-Forwarded-For", "127.0.0.1, "+client)
		resp, err := plain.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, func() { resp.Body.Close() }
	}
	for i := range maxStreamsClient + 1 {
		code, end := open("203.0.113.9")
		defer end()
		if want := map[bool]int{true: 200, false: 429}[i < maxStreamsClient]; code != want {
			t.Fatalf("stream %d: %d", i+1, code)
		}
	}
	code, end := open("203.0.113.10")
	defer end()
	if code != 200 {
		t.Errorf("another: %d", code)
	}
	if n := s.connections.served.count(); n != 0 {
		t.Errorf("%d connections of the proxy are counted", n)
	}
}
