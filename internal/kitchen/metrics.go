package kitchen

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"

	"github.com/lighter-oci/lighter/internal/history"
)

// durations are the bounds of the histogram of builds, seconds.
var durations = []float64{1, 5, 15, 60, 300, 900, 3600}

// counts are what /metrics says of the builds of this server.
type counts struct {
	mu     sync.Mutex
	builds map[countKey]int
	times  map[string]*histogram // by project
	pushed map[string]int64
	steps  map[string][2]int // all and cached
}

type countKey struct{ project, verb, state string }

type histogram struct {
	buckets []int
	sum     float64
	n       int
}

func (c *counts) add(b history.Build) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.builds == nil {
		c.builds, c.times, c.pushed, c.steps = map[countKey]int{}, map[string]*histogram{}, map[string]int64{}, map[string][2]int{}
	}
	c.builds[countKey{b.Project, b.Verb, string(b.State)}]++
	h := c.times[b.Project]
	if h == nil {
		h = &histogram{buckets: make([]int, len(durations))}
		c.times[b.Project] = h
	}
	took := b.Took.Duration().Seconds()
	for i, bound := range durations {
		if took <= bound {
			h.buckets[i]++
		}
	}
	h.sum += took
	h.n++
	c.pushed[b.Project] += b.Pushed
	n := c.steps[b.Project]
	c.steps[b.Project] = [2]int{n[0] + b.Steps.Total, n[1] + b.Steps.Cached}
}

// escape makes a label's value (Prometheus' text format 0.0.4).
var escape = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`)

// metrics answers in Prometheus' text format.
func (s *Server) metrics(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	running, waiting := s.queue.order()
	gauge := func(name, help string, v any) {
		fmt.Fprintf(w, "# HELP %s %s\n# TYPE %[1]s gauge\n%[1]s %[3]v\n", name, help, v)
	}
	gauge("lighter_kitchen_builds_running", "Builds of this server that run.", len(running))
	gauge("lighter_kitchen_builds_waiting", "Builds in the queue.", len(waiting))
	gauge("lighter_kitchen_streams_open", "Event streams that pages have open.", s.streams.count())
	gauge("lighter_kitchen_start_time_seconds", "When the server began, since 1970.", s.began.Unix())
	s.counts.write(w)
}

func (c *counts) write(w http.ResponseWriter) {
	c.mu.Lock()
	defer c.mu.Unlock()
	fmt.Fprint(w, "# HELP lighter_builds_total Builds of this server that ended.\n# TYPE lighter_builds_total counter\n")
	for _, k := range slices.SortedFunc(maps.Keys(c.builds), func(a, b countKey) int {
		return strings.Compare(a.project+"\x00"+a.verb+"\x00"+a.state, b.project+"\x00"+b.verb+"\x00"+b.state)
	}) {
		fmt.Fprintf(w, "lighter_builds_total{project=\"%s\",verb=\"%s\",state=\"%s\"} %d\n", escape.Replace(k.project), escape.Replace(k.verb), k.state, c.builds[k])
	}
	projects := slices.Sorted(maps.Keys(c.times))
	fmt.Fprint(w, "# HELP lighter_build_seconds How long they took.\n# TYPE lighter_build_seconds histogram\n")
	for _, p := range projects {
		h, name := c.times[p], escape.Replace(p)
		for i, bound := range durations {
			fmt.Fprintf(w, "lighter_build_seconds_bucket{project=\"%s\",le=\"%g\"} %d\n", name, bound, h.buckets[i])
		}
		fmt.Fprintf(w, "lighter_build_seconds_bucket{project=\"%s\",le=\"+Inf\"} %d\n", name, h.n)
		fmt.Fprintf(w, "lighter_build_seconds_sum{project=\"%s\"} %g\nlighter_build_seconds_count{project=\"%[1]s\"} %[3]d\n", name, h.sum, h.n)
	}
	each := func(name, help string, v func(string) int64) {
		fmt.Fprintf(w, "# HELP %s %s\n# TYPE %[1]s counter\n", name, help)
		for _, p := range projects {
			fmt.Fprintf(w, "%s{project=\"%s\"} %d\n", name, escape.Replace(p), v(p))
		}
	}
	each("lighter_pushed_bytes_total", "Bytes that went to registries.", func(p string) int64 { return c.pushed[p] })
	each("lighter_steps_total", "Steps of builds.", func(p string) int64 { return int64(c.steps[p][0]) })
	each("lighter_steps_cached_total", "Steps that the cache answered.", func(p string) int64 { return int64(c.steps[p][1]) })
}
