package registry_test

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/lighter-oci/lighter/internal/registry/registrytest"
)

// mishaps are the faults that one copy meets, on its way to both registries.
type mishaps struct {
	mu     sync.Mutex
	random *rand.Rand
	share  float64 // of requests that meet one
	left   int
	stall  time.Duration // longer than the copy waits
	kill   func()        // ends the copy's process; nil where it has none of its own
	met    []string      // for whoever has to understand a failure
}

// newMishaps draws up to 15 faults, for a few requests or for many.
func newMishaps(random *rand.Rand, stall time.Duration) *mishaps {
	return &mishaps{random: random, share: 0.03 + 0.4*random.Float64()*random.Float64(), left: random.IntN(16), stall: stall}
}

// none lets all through from now on.
func (m *mishaps) none() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.left = 0
}

// killing makes some of the faults kill the copy.
func (m *mishaps) killing(kill func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.kill = kill
}

func (m *mishaps) String() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return strings.Join(m.met, ", ")
}

// next draws a kind of fault, one of n, and where in a body it strikes; false is
// none.
func (m *mishaps) next(r *http.Request, n int) (kind int, where float64, kill func(), ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.left == 0 || m.random.Float64() >= m.share {
		return 0, 0, nil, false
	}
	m.left--
	kind, where = m.random.IntN(n), m.random.Float64()
	if m.kill != nil && m.random.IntN(4) == 0 {
		kill = m.kill
	}
	m.met = append(m.met, fmt.Sprintf("%s %s: %d at %.2f, kill %t", r.Method, r.URL.Path, kind, where, kill != nil))
	return kind, where, kill, true
}

// strike is a registrytest.Fault.
func (m *mishaps) strike(w http.ResponseWriter, r *http.Request) bool {
	kind, where, kill, ok := m.next(r, 18)
	if !ok {
		return false
	}
	reset := func() { registrytest.Reset(w) }
	if kill != nil {
		reset = func() { kill(); registrytest.Reset(w) }
		kind %= 4 // those that reset
	}
	size := int64(300_000 * where) // of a body whose length nobody knows
	if r.ContentLength > 0 {
		size = int64(float64(r.ContentLength) * where)
	}
	within := func(resp *http.Response) int64 { return int64(float64(max(0, resp.ContentLength)) * where) }
	stall := func() { time.Sleep(m.stall) }
	switch kind {
	case 0:
		reset()
	case 1: // in the middle of the request
		registrytest.After(r, size, reset)
		return false
	case 2: // in the middle of the response
		registrytest.Answer(r, func(resp *http.Response) error {
			registrytest.AnswerAfter(resp, within(resp), reset)
			return nil
		})
		return false
	case 3: // it takes effect and nobody hears
		registrytest.Answer(r, func(*http.Response) error { reset(); return errors.New("lost") })
		return false
	case 4:
		w.WriteHeader(http.StatusServiceUnavailable)
	case 5:
		w.WriteHeader(http.StatusTooManyRequests)
	case 6:
		w.Header().Set("Retry-After", "0")
		w.WriteHeader(http.StatusTooManyRequests)
	case 7: // nobody waits for that
		if where > 0.2 {
			return false
		}
		w.Header().Set("Retry-After", "3600")
		w.WriteHeader(http.StatusTooManyRequests)
	case 8: // a gateway that answers after some of the body
		_, _ = io.CopyN(io.Discard, r.Body, size)
		w.WriteHeader(http.StatusBadGateway)
	case 9:
		registrytest.After(r, size, stall)
		return false
	case 10, 11:
		registrytest.Answer(r, func(resp *http.Response) error {
			registrytest.AnswerAfter(resp, within(resp), stall)
			return nil
		})
		return false
	case 12: // the session is gone
		if r.Method == http.MethodPost || !strings.Contains(r.URL.Path, "/uploads/") {
			return false
		}
		w.WriteHeader(http.StatusNotFound)
	case 13: // Content-Length promises more than comes
		registrytest.Answer(r, func(resp *http.Response) error { return promise(resp, resp.ContentLength+1+size) })
		return false
	case 14: // or less, and no more than that comes
		registrytest.Answer(r, func(resp *http.Response) error {
			n := within(resp)
			resp.Body = struct {
				io.Reader
				io.Closer
			}{io.LimitReader(resp.Body, n), resp.Body}
			return promise(resp, n)
		})
		return false
	case 15: // or less, and what is over comes all the same
		registrytest.Answer(r, func(resp *http.Response) error { return overrun(w, resp, within(resp)) })
		return false
	case 16: // no length, and an end that comes too soon
		registrytest.Answer(r, func(resp *http.Response) error {
			resp.Body = struct {
				io.Reader
				io.Closer
			}{io.LimitReader(resp.Body, within(resp)), resp.Body}
			resp.ContentLength = -1
			resp.Header.Del("Content-Length")
			return nil
		})
		return false
	case 17: // it wants to know how much comes
		if r.Method != http.MethodPatch || r.ContentLength >= 0 {
			return false
		}
		w.WriteHeader(http.StatusLengthRequired)
	}
	return true
}

// promise gives a response another Content-Length.
func promise(resp *http.Response, n int64) error {
	resp.ContentLength = n
	resp.Header.Set("Content-Length", strconv.FormatInt(n, 10))
	return nil
}

// overrun sends a response with a body longer than it says.
func overrun(w http.ResponseWriter, resp *http.Response, n int64) error {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return err
	}
	defer conn.Close()
	_ = promise(resp, n)
	_, _ = fmt.Fprintf(conn, "HTTP/1.1 %s\r\n", resp.Status)
	_ = resp.Header.Write(conn)
	_, _ = io.WriteString(conn, "\r\n")
	_, _ = io.Copy(conn, resp.Body)
	return errors.New("sent already")
}
