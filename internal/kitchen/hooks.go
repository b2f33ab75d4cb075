package kitchen

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"

	"github.com/lighter-oci/lighter/internal/history"
)

const (
	hookTries   = 4
	hookTimeout = 10 * time.Second
	maxHooks    = 100 // that wait for one webhook; what comes then is dropped, and said
)

// hooks tells others of builds that ended, each in a queue of its own: one that is
// dead keeps no other waiting. What is sent is signed: the header
// Lighter-Signature is "t=SECONDS,v1=HEX", the HMAC-SHA256 of "SECONDS.BODY" with
// what the webhook's secret-file holds.
type hooks struct {
	list   []hookQueue
	warn   func(string)
	client http.Client
	first  time.Duration // before the second try; each later one waits four times as long

	mu     sync.Mutex
	closed bool
	all    sync.WaitGroup
	ctx    context.Context
	cancel context.CancelFunc
}

type hookQueue struct {
	Webhook
	bodies chan []byte
}

// Hooked is what a webhook gets.
type Hooked struct {
	Event string        `json:"event"` // "build"
	Build history.Build `json:"build"`
	URL   string        `json:"url"` // of its page
}

func newHooks(list []Webhook, warn func(string)) *hooks {
	h := &hooks{warn: warn, first: time.Second}
	h.ctx, h.cancel = context.WithCancel(context.Background())
	// Where it leads is the configuration's to say, and nobody else's.
	h.client = http.Client{Timeout: hookTimeout, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	for _, hook := range list {
		q := hookQueue{hook, make(chan []byte, maxHooks)}
		h.list = append(h.list, q)
		h.all.Go(func() { h.work(q) })
	}
	return h
}

func (h *hooks) send(b history.Build, page string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return
	}
	body, err := json.Marshal(Hooked{"build", b, page})
	if err != nil {
		h.warn(err.Error())
		return
	}
	for _, q := range h.list {
		if len(q.States) > 0 && !slices.Contains(q.States, string(b.State)) {
			continue
		}
		select {
		case q.bodies <- body:
		default:
			h.warn("webhook " + host(q.URL) + ": too many are waiting, and this one was dropped")
		}
	}
}

// host is what is shown of a webhook: the rest of its address may be a secret.
func host(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return "?"
	}
	return u.Host
}

// work sends what comes. What waits when the server has no time left is not sent.
func (h *hooks) work(q hookQueue) {
	left := 0
	for body := range q.bodies {
		if h.ctx.Err() != nil {
			left++
			continue
		}
		h.deliver(q.Webhook, body)
	}
	if left > 0 {
		h.warn(fmt.Sprintf("webhook %s: the server ended before %d more were sent", host(q.URL), left))
	}
}

// deliver tries until it is told, or often enough.
func (h *hooks) deliver(hook Webhook, body []byte) {
	wait := h.first
	for try := 1; ; try++ {
		err := h.call(hook, body)
		if err == nil {
			return
		}
		if try == hookTries || h.ctx.Err() != nil {
			h.warn(fmt.Sprintf("webhook %s: %v, try %d", host(hook.URL), err, try))
			return
		}
		select {
		case <-time.After(wait):
		case <-h.ctx.Done():
		}
		wait *= 4
	}
}

func (h *hooks) call(hook Webhook, body []byte) error {
	req, err := http.NewRequestWithContext(h.ctx, http.MethodPost, hook.URL, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "lighter-kitchen")
	req.Header.Set("Lighter-Signature", Sign(hook.secret, time.Now(), body))
	resp, err := h.client.Do(req)
	if err != nil {
		return fmt.Errorf("%w", unURL(err))
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10))
	if resp.StatusCode >= 300 {
		return fmt.Errorf("it answers %s", resp.Status)
	}
	return nil
}

// unURL takes the address out of an error.
func unURL(err error) error {
	if e, ok := err.(*url.Error); ok { //nolint:errorlint // as http.Client makes it
		return e.Err
	}
	return err
}

// Sign is the value of Lighter-Signature.
func Sign(secret []byte, at time.Time, body []byte) string {
	mac := hmac.New(sha256.New, secret)
	fmt.Fprintf(mac, "%d.", at.Unix())
	mac.Write(body)
	return fmt.Sprintf("t=%d,v1=%x", at.Unix(), mac.Sum(nil))
}

// close gives what waits until ctx ends.
func (h *hooks) close(ctx context.Context) {
	h.mu.Lock()
	if h.closed {
		h.mu.Unlock()
		return
	}
	h.closed = true
	for _, q := range h.list {
		close(q.bodies)
	}
	h.mu.Unlock()
	done := make(chan struct{})
	go func() { h.all.Wait(); close(done) }()
	select {
	case <-done:
	case <-ctx.Done():
		h.cancel()
		<-done
	}
	h.cancel()
}
