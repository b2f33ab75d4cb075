package kitchen

import (
	"time"

	"github.com/lighter-oci/lighter/internal/history"
	"github.com/lighter-oci/lighter/internal/project"
)

// pruneEvery is how often a server looks for builds that have become too old.
const pruneEvery = time.Hour

// HistoryConfig says how much of the history is kept, by whoever builds: also where no
// server runs, until one says otherwise.
type HistoryConfig struct {
	MaxAge  age  `toml:"max-age"`  // 720h
	MaxSize size `toml:"max-size"` // 500MB, 5GiB
}

// age is a struct because a number without a unit would be nanoseconds else.
type age struct{ time.Duration }

// UnmarshalText implements encoding.TextUnmarshaler.
func (a *age) UnmarshalText(text []byte) (err error) {
	a.Duration, err = project.ParseAge(string(text))
	return err
}

type size struct{ bytes int64 }

// UnmarshalText implements encoding.TextUnmarshaler.
func (s *size) UnmarshalText(text []byte) (err error) {
	s.bytes, err = project.ParseSize(string(text))
	return err
}

// limit tells the history what its configuration says, where it says anything.
func (s *Server) limit() error {
	c := s.opt.Config.History
	if c == nil {
		return nil
	}
	return s.store.SetLimits(s.ctx, history.Limits{Age: c.MaxAge.Duration, Bytes: c.MaxSize.bytes})
}

// prune removes what is not kept, as the end of each build does: time goes on where
// nobody builds.
func (s *Server) prune() {
	for {
		if err := s.store.Trim(s.ctx); err != nil && s.ctx.Err() == nil {
			s.opt.Warn(err.Error())
		}
		select {
		case <-time.After(pruneEvery):
		case <-s.ctx.Done():
			return
		}
	}
}
