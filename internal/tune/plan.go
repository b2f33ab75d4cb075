package tune

import (
	"context"
	"runtime"
	"slices"
	"time"
)

// estimate says about how long each level takes for the whole sample, from one
// piece of it. That also makes every encoder's tables and warms the memory up,
// so that the first level to be measured is not the one that pays.
func (m *measuring) estimate(ctx context.Context) ([]time.Duration, error) {
	var first Part
	for _, p := range m.sample.Parts {
		if len(p.Pieces) > 0 && (first.Pieces == nil || len(p.Pieces[0]) > len(first.Pieces[0])) {
			first.Pieces = p.Pieces[:1]
		}
	}
	scale := float64(m.sample.Bytes) / float64(first.Sampled())
	cores := max(1, min(float64(runtime.GOMAXPROCS(0)), scale))
	costs := make([]time.Duration, len(m.o.Levels))
	blobs := [][]byte{m.blobs[0]}
	for i, c := range m.o.Levels {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		r, err := m.once(ctx, c, []Part{first}, blobs)
		if err != nil {
			return nil, err
		}
		costs[i] = time.Duration(scale * (float64(r.Compress)/cores + float64(r.Decode+r.Parallel)))
	}
	m.blobs[0] = blobs[0][:0]
	return costs, nil
}

// plan says how many rounds each level gets, so that all of them together stay
// within limit; 0 is no limit. Dear levels lose rounds before cheap ones do,
// and only where one round of each is too much does the dearest get none: then
// what it would have taken is the others'.
func plan(costs []time.Duration, rounds int, limit time.Duration) []int {
	byCost := make([]int, len(costs)) // dearest first
	for i := range byCost {
		byCost[i] = i
	}
	slices.SortStableFunc(byCost, func(a, b int) int { return int(costs[b] - costs[a]) })
	for dropped := range byCost {
		out := make([]int, len(costs))
		var sum time.Duration
		for _, i := range byCost[dropped:] {
			out[i] = rounds
			sum += time.Duration(rounds) * costs[i]
		}
		for _, i := range byCost[dropped:] {
			for out[i] > 1 && limit > 0 && sum > limit {
				out[i]--
				sum -= costs[i]
			}
		}
		// The cheapest one is tried whatever it takes: the limit itself ends it.
		if limit <= 0 || sum <= limit || dropped == len(byCost)-1 {
			return out
		}
	}
	return nil
}
