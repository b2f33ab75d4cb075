package registry_test

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/lighter-oci/lighter/internal/image"
	"github.com/lighter-oci/lighter/internal/image/imagetest"
	"github.com/lighter-oci/lighter/internal/registry"
	"github.com/lighter-oci/lighter/internal/registry/registrytest"
)

// schedule is the faults that one repository's requests meet, in order; what
// comes after them passes.
type schedule struct {
	mu     sync.Mutex
	random *rand.Rand
	left   int
}

// next answers one of n faults, or -1, and a number below limit.
func (s *schedule) next(n int, limit int64) (int, int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.left == 0 {
		return -1, 0
	}
	s.left--
	return s.random.IntN(n), s.random.Int64N(limit)
}

// strike lets a request meet the schedule's next fault.
func (s *schedule) strike(w http.ResponseWriter, r *http.Request, size int64) bool {
	fault, at := s.next(12, size)
	switch fault {
	case 0, 1:
		registrytest.Reset(w)
	case 2:
		w.WriteHeader(503)
	case 3:
		w.Header().Set("Retry-After", "0")
		w.WriteHeader(429)
	case 4: // a gateway that answers after some of the body
		_, _ = io.CopyN(io.Discard, r.Body, at)
		w.WriteHeader(502)
	case 5, 6:
		registrytest.After(r, at, func() { registrytest.Reset(w) })
		return false
	case 7:
		registrytest.After(r, at, func() { time.Sleep(250 * time.Millisecond) })
		return false
	case 8, 9: // it takes effect and nobody hears
		r.Header.Set("X-Lose", "1")
		return false
	case 10: // the session is gone
		if r.Method == http.MethodPost || !strings.Contains(r.URL.Path, "/uploads/") {
			return false
		}
		w.WriteHeader(404)
	default:
		return false
	}
	return true
}

// Random schedules of faults: what arrives is right, or else an error says so
// and nothing is visible.
func TestRandomUploadFaults(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	s := registrytest.Start(t, registrytest.Options{})
	var done, failed int
	var mu sync.Mutex
	var g errgroup.Group
	g.SetLimit(24)
	for _, sessions := range []bool{true, false} {
		proxy := registrytest.NewFaulty(t, s)
		if sessions {
			proxy.KeepSessions()
		}
		var schedules sync.Map // by repository
		proxy.Set(func(w http.ResponseWriter, r *http.Request) bool {
			name, _, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/v2/"), "/")
			found, ok := schedules.Load(name)
			return ok && found.(*schedule).strike(w, r, 400_000)
		})
		proxy.Rewrite(func(resp *http.Response) error {
			if resp.Request.Header.Get("X-Lose") != "" {
				return errors.New("lost")
			}
			return nil
		})
		for i := range uint64(100) {
			g.Go(func() error {
				random := rand.New(rand.NewPCG(seed, i))
				name := fmt.Sprintf("run%d%v", i, sessions)
				plan := &schedule{random: random, left: random.IntN(18)}
				desc, content := blob(seed+i, []int{0, 1000, 70_000, 150_000, 400_000}[random.IntN(5)])
				r, _ := repository(t, client(t, registry.Options{Idle: 200 * time.Millisecond, PatchSize: []int64{0, 100_000}[random.IntN(2)]}), proxy.Ref(name))
				schedules.Store(name, plan)
				err := imagetest.Upload(t.Context(), r, desc, content)
				schedules.Delete(name)
				if err != nil && (strings.Contains(err.Error(), "\n") || errors.Is(err, image.ErrCorrupt) || strings.Contains(err.Error(), "_state")) {
					t.Errorf("seed %d, run %d: %v", seed, i, err)
				}
				there, herr := r.Has(t.Context(), desc)
				if herr != nil || there != (err == nil) && !lastWord(err) {
					t.Errorf("seed %d, run %d: %v, and it is there: %v, %v", seed, i, err, there, herr)
				}
				if there {
					arrived(t, r, desc, content)
				}
				mu.Lock()
				defer mu.Unlock()
				if err == nil {
					done++
				} else {
					failed++
					t.Logf("run %d: %v", i, err)
				}
				return nil
			})
		}
		if err := g.Wait(); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d arrived, %d failed", done, failed)
	if done < 100 {
		t.Errorf("seed %d: only %d of 200 arrived", seed, done)
	}
}

// lastWord tells errors of a commit: the PUT may have taken effect, unheard.
func lastWord(err error) bool { return err != nil && strings.Contains(err.Error(), "@sha256:") }
