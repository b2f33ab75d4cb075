// Package tune owns measurements of codecs and levels: which part of an
// image's layers stands for all of it, what compressing and decoding that part
// costs on this machine, and what hashing and writing files costs beside it.
//
// It never judges what it measures: what a pull takes and which level pays is
// worked out in package report. It opens no registry, prints nothing, and the
// only files it writes are those whose writing it measures, in a directory of
// their own that is gone when it returns.
package tune

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"time"

	"github.com/lighter-oci/lighter/internal/codec"
	"github.com/lighter-oci/lighter/internal/event"
)

// Options say what is measured, and for how long.
type Options struct {
	Pool   *codec.Pool
	Levels []codec.Compression
	// Rounds is how often each level is measured, all levels in turn, so that a
	// busy minute of the machine meets all of them; 0 is 3.
	Rounds int
	// TimeLimit bounds the measuring. Dear levels then get fewer rounds than
	// cheap ones, or none. 0 is no limit.
	TimeLimit time.Duration
	// TempDir is where files are written to see what that costs; "" is the
	// system's.
	TempDir string
	// Report, which may be nil, is told of every measurement: Progress before
	// it, with the level as its ID and the rounds as its numbers, Layer behind it.
	Report func(event.Event)
}

// Result is what was measured. Every list has an element a round.
type Result struct {
	Trials  []Trial             // in the order asked for, without those left out
	LeftOut []codec.Compression // for want of time
	Hash    []time.Duration     // sha256 of HashBytes on one core
	// HashBytes are the first bytes of the sample, enough to measure.
	HashBytes int64
	Writes    []Write
}

// Trial is one level.
type Trial struct {
	Compression codec.Compression
	Out         int64 // bytes of blobs that the sample became
	Rounds      []Round
}

// Round is one measurement of a level over the whole sample.
type Round struct {
	// Compress is the time until the blobs and both of their digests were
	// there, with all workers of the pool; CPU is what all cores spent on it.
	Compress, CPU time.Duration
	// Decode is what one stream takes, layer after layer, as clients do it.
	Decode time.Duration
	// Parallel is the same with frames decoded on all workers; 0 where the
	// codec has no frames.
	Parallel time.Duration
}

// Measure tries all levels on a sample. An error for which ctx is to blame
// comes at once: frames that are being compressed run out by themselves, and
// the pool cannot be closed before they have.
func Measure(ctx context.Context, s *Sample, o Options) (*Result, error) {
	if s.Bytes == 0 {
		return nil, errors.New("nothing to measure: the sample is empty")
	}
	if o.Rounds <= 0 {
		o.Rounds = 3
	}
	if o.Report == nil {
		o.Report = func(event.Event) {}
	}
	return newMeasuring(s, o).run(ctx)
}

// measuring is the state of one Measure.
type measuring struct {
	sample *Sample
	o      Options
	blobs  [][]byte // memory for what the layers become, used again by each level
	result Result
}

func newMeasuring(s *Sample, o Options) *measuring {
	m := &measuring{sample: s, o: o}
	for _, p := range s.Parts {
		// What deflate and zstd make of noise is less than this.
		m.blobs = append(m.blobs, make([]byte, 0, p.Sampled()+p.Sampled()>>7+64<<10))
	}
	for _, c := range o.Levels {
		m.result.Trials = append(m.result.Trials, Trial{Compression: c})
	}
	return m
}

func (m *measuring) run(ctx context.Context) (*Result, error) {
	costs, err := m.estimate(ctx)
	if err != nil {
		return nil, err
	}
	limited := ctx
	if m.o.TimeLimit > 0 {
		var cancel context.CancelFunc
		limited, cancel = context.WithTimeoutCause(ctx, m.o.TimeLimit, errTime)
		defer cancel()
	}
	rounds := plan(costs, m.o.Rounds, m.o.TimeLimit)
	for round := range m.o.Rounds {
		err := m.round(limited, round, rounds, costs)
		if errors.Is(err, errTime) && ctx.Err() == nil {
			break
		}
		if err != nil {
			return nil, err
		}
	}
	return m.finish()
}

var errTime = errors.New("no time left")

// finish parts the levels that were measured from those that were not.
func (m *measuring) finish() (*Result, error) {
	var tried []Trial
	for _, t := range m.result.Trials {
		if len(t.Rounds) > 0 {
			tried = append(tried, t)
		} else {
			m.result.LeftOut = append(m.result.LeftOut, t.Compression)
		}
	}
	if len(tried) == 0 || len(m.result.Writes) == 0 {
		return nil, fmt.Errorf("no level could be measured within %v: give it more time or a smaller sample", m.o.TimeLimit)
	}
	m.result.Trials = tried
	return &m.result, nil
}

// round measures what all levels share, and then each level that still has
// rounds to go, the cheapest first.
func (m *measuring) round(ctx context.Context, round int, rounds []int, costs []time.Duration) error {
	if err := m.hash(ctx); err != nil {
		return err
	}
	w, err := writeFiles(ctx, m.o.TempDir, m.sample.Parts)
	if err != nil {
		return err
	}
	m.result.Writes = append(m.result.Writes, w)
	order := make([]int, len(costs))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return int(costs[a] - costs[b]) })
	for _, i := range order {
		if round >= rounds[i] {
			continue
		}
		if err := m.try(ctx, &m.result.Trials[i], round, rounds[i]); err != nil {
			return err
		}
	}
	return nil
}

// try measures one level once.
func (m *measuring) try(ctx context.Context, t *Trial, round, rounds int) error {
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	m.o.Report(event.Event{Time: time.Now(), Progress: &event.Progress{Step: StepMeasure, ID: t.Compression.String(),
		Current: int64(round + 1), Total: int64(rounds)}})
	runtime.GC() // or the last level's garbage is this one's cost
	r, err := m.once(ctx, t.Compression, m.sample.Parts, m.blobs)
	if err != nil {
		return err
	}
	t.Out = 0
	for _, b := range m.blobs {
		t.Out += int64(len(b))
	}
	t.Rounds = append(t.Rounds, r)
	m.o.Report(event.Event{Time: time.Now(), Layer: &event.Layer{Action: event.LayerCompressed, Codec: t.Compression.String(),
		In: m.sample.Bytes, Out: t.Out, Took: r.Compress}})
	return nil
}

// The steps that events belong to.
const (
	StepRead    = "read"
	StepMeasure = "measure"
)
