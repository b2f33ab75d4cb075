package buildkit

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"
	"time"
)

// stallTime is short for a test and long for two cores.
const stallTime = 400 * time.Millisecond

func patientClient(t *testing.T, handler http.HandlerFunc) (*http.Client, string) {
	t.Helper()
	srv := httptest.NewServer(handler)
	tr := &http.Transport{}
	t.Cleanup(func() {
		tr.CloseIdleConnections()
		srv.CloseClientConnections()
		srv.Close()
	})
	return &http.Client{Transport: &patientTransport{next: tr, limits: &rateLimits{}, stall: stallTime}}, srv.URL
}

// wantSilence wants the error that says how long nothing came, and that nobody
// takes for a temporary one.
func wantSilence(t *testing.T, err error) {
	t.Helper()
	var temporary net.Error
	if err == nil || !strings.Contains(err.Error(), "has not answered for 400ms") {
		t.Errorf("a silent registry: %v", err)
	}
	var silent finalError
	if !errors.As(err, &silent) || errors.As(error(silent), &temporary) {
		t.Errorf("%T would be tried again", err)
	}
}

// A server that says nothing is given up, before its answer and inside it.
func TestSilentRegistry(t *testing.T) {
	client, url := patientClient(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/half" {
			w.Header().Set("Content-Length", "10")
			_, _ = w.Write([]byte("half"))
			w.(http.Flusher).Flush()
		}
		<-r.Context().Done()
	})
	_, err := client.Get(url)
	wantSilence(t, err)
	resp, err := client.Get(url + "/half")
	if err != nil {
		t.Fatal(err)
	}
	_, err = io.ReadAll(resp.Body)
	wantSilence(t, err)
	_ = resp.Body.Close()
}

// What is slow but moves is waited for, and so is what waits for us. Small
// socket buffers let the sender see how slowly the other side reads; a pause
// is a tenth of what is taken for silence, so that a busy machine has time.
func TestSlowRegistry(t *testing.T) {
	const (
		stall  = time.Second
		pause  = stall / 10
		pauses = 12
		chunk  = 256 << 10
	)
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for buf := make([]byte, chunk); ; time.Sleep(pause) {
			if _, err := io.ReadFull(r.Body, buf); err != nil {
				break
			}
		}
		for range pauses {
			_, _ = w.Write([]byte("x"))
			w.(http.Flusher).Flush()
			time.Sleep(pause)
		}
	}))
	srv.Config.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
		if err := c.(*net.TCPConn).SetReadBuffer(chunk / 4); err != nil {
			t.Error(err)
		}
		return ctx
	}
	srv.Start()
	t.Cleanup(srv.Close)
	tr := &http.Transport{DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := new(net.Dialer).DialContext(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		return c, c.(*net.TCPConn).SetWriteBuffer(chunk / 4)
	}}
	t.Cleanup(tr.CloseIdleConnections)
	client := &http.Client{Transport: &patientTransport{next: tr, limits: &rateLimits{}, stall: stall}}
	for name, body := range map[string]io.Reader{
		"slow server": bytes.NewReader(make([]byte, pauses*chunk)),
		"slow client": io.MultiReader(strings.NewReader("a"), slowReader{stall + 2*pause}, strings.NewReader("b")),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			resp, err := client.Post(srv.URL, "application/octet-stream", body)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			time.Sleep(stall + 2*pause) // our turn
			if got, err := io.ReadAll(resp.Body); err != nil || len(got) != pauses {
				t.Errorf("%q, %v", got, err)
			}
		})
	}
}

// slowReader is empty, after a while.
type slowReader struct{ d time.Duration }

func (s slowReader) Read([]byte) (int, error) {
	time.Sleep(s.d)
	return 0, io.EOF
}

// After a 429 nothing is sent to that host before it wants it, unless that is
// longer than anybody waits; whoever cancels does not wait.
func TestRateLimits(t *testing.T) {
	var after string
	var last time.Time
	client, url := patientClient(t, func(w http.ResponseWriter, r *http.Request) {
		last = time.Now()
		if after != "" {
			w.Header().Set("Retry-After", after)
			w.WriteHeader(http.StatusTooManyRequests)
		}
	})
	get := func(ctx context.Context) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := client.Do(req)
		if err == nil {
			_ = resp.Body.Close()
		}
		return err
	}
	ctx := context.Background()
	after = "1"
	if err := get(ctx); err != nil {
		t.Fatal(err)
	}
	limited := last
	short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	if err := get(short); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("cancelled while it waited: %v", err)
	}
	if after = ""; get(ctx) != nil || last.Sub(limited) < 900*time.Millisecond {
		t.Errorf("asked again after %v", last.Sub(limited))
	}
	for _, after = range []string{"3600", time.Now().Add(time.Hour).UTC().Format(http.TimeFormat)} {
		start := time.Now()
		if err := errors.Join(get(ctx), get(ctx)); err != nil || time.Since(start) > 700*time.Millisecond {
			t.Errorf("Retry-After: %s held everything up for %v: %v", after, time.Since(start), err)
		}
	}
}

// An address that swallows packets is tried once.
func TestUnreachableRegistry(t *testing.T) {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(fd)
	if err := errors.Join(syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}), syscall.Listen(fd, 0)); err != nil {
		t.Fatal(err)
	}
	sa, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	addr := (&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: sa.(*syscall.SockaddrInet4).Port}).String()
	for range 10 { // until its backlog is full and the kernel drops what comes
		c, err := net.DialTimeout("tcp", addr, 100*time.Millisecond)
		if err != nil {
			break
		}
		defer c.Close()
	}
	tr := &http.Transport{DialContext: (&net.Dialer{Timeout: 100 * time.Millisecond}).DialContext}
	client := &http.Client{Transport: &patientTransport{next: tr, limits: &rateLimits{}, stall: time.Minute}}
	_, err = client.Get("http://" + addr)
	var unreachable finalError
	if !errors.As(err, &unreachable) || !strings.Contains(err.Error(), addr+" cannot be reached") {
		t.Errorf("%T: %v", err, err)
	}
}
