package history

import (
	"errors"
	"io"
	"io/fs"
	"math"
	"os"
	"slices"
	"sync"

	"github.com/lighter-oci/lighter/internal/report"
)

// growing is what has been read of a journal that is being written: it is gone
// through once, however often somebody asks.
type growing struct {
	path string

	mu    sync.Mutex
	size  int64 // of the lines that were read
	begin int64 // of the present stretch
	fold  report.Build
	steps counters
	marks map[string][]stretch // those that have ended
}

// grown is the journal of a build, read up to its end. The error is fs.ErrNotExist
// where it has none.
func (s *Store) grown(id string) (*growing, *os.File, error) {
	path := s.running(id + journalExt)
	f, err := os.Open(path)
	s.mu.Lock()
	g := s.growing[id]
	switch {
	case err != nil:
		delete(s.growing, id)
	case g == nil:
		for other, o := range s.growing { // which nobody may have asked for since they ended
			if _, err := os.Stat(o.path); err != nil {
				delete(s.growing, other)
			}
		}
		g = &growing{path: path, steps: counters{}, marks: map[string][]stretch{}}
		s.growing[id] = g
	}
	s.mu.Unlock()
	if err != nil {
		return nil, nil, err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if err := g.read(f); err != nil {
		return nil, nil, errors.Join(err, f.Close())
	}
	return g, f, nil
}

// read goes on to the last whole line. The caller holds mu.
func (g *growing) read(f *os.File) error {
	lines := tail{r: io.NewSectionReader(f, g.size, math.MaxInt64-g.size)}
	for {
		data, err := lines.next()
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = nil
			}
			return err
		}
		g.size += int64(len(data)) + 1
		if l, ok := readable(data); ok && l.isEvent() {
			g.fold.Add(l.Event)
			if o := l.Event.Log; o != nil {
				g.steps.of(o.Step).add(Output(*o))
			}
		}
		if g.size-g.begin >= chunkSize {
			for step, m := range g.steps.ended() {
				g.marks[step] = append(g.marks[step], stretch{g.begin, g.size - g.begin, m})
			}
			g.begin = g.size
		}
	}
}

// soFar is the report of a build that has not ended.
func (s *Store) soFar(id string) (report.Report, error) {
	g, f, err := s.grown(id)
	if errors.Is(err, fs.ErrNotExist) {
		return new(report.Build).Report(), nil // it waits
	}
	if err != nil {
		return report.Report{}, err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.fold.Report(), f.Close()
}

// stretches are those of a step so far.
func (g *growing) stretches(step string, f *os.File) stretches {
	g.mu.Lock()
	defer g.mu.Unlock()
	all := stretches{list: slices.Clone(g.marks[step]), done: func() { _ = f.Close() }}
	if c := g.steps[step]; c != nil && c.spoken {
		all.list = append(all.list, stretch{g.begin, g.size - g.begin, c.mark})
	}
	all.read = func(at stretch) ([]byte, error) {
		data := make([]byte, at.size)
		_, err := f.ReadAt(data, at.at) // also when it has been taken in since
		return data, err
	}
	return all
}
