package history

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"io"
	"io/fs"
	"iter"
	"os"
	"time"

	"github.com/lighter-oci/lighter/internal/event"
)

const (
	// poll is how often a journal that grows is looked at: 20 readers of one cost
	// 1 % of a core.
	poll = 25 * time.Millisecond
	// lookup is how often it is asked whether its writer lives.
	lookup = time.Second
)

// Follow is the events of a build after a Seq (0 is all), those to come included
// while it runs or waits: each once, in order, with the same Seq whenever it is
// asked. It ends with the build or with ctx.
func (s *Store) Follow(ctx context.Context, id string, after uint64) iter.Seq2[event.Event, error] {
	return func(yield func(event.Event, error) bool) {
		give := func(e event.Event) bool {
			if ctx.Err() != nil {
				return false
			}
			if e.Seq <= after {
				return true
			}
			after, e.Build = e.Seq, id
			return yield(e, nil)
		}
		for ctx.Err() == nil {
			b, n, err := s.row(ctx, id)
			var more bool
			switch {
			case err != nil:
			case n > 0:
				_, err = s.stored(ctx, n, after, "", give)
			case b.State == Queued:
				more = wait(ctx, 4*poll)
			default:
				more, err = s.tail(ctx, id, give)
				more = more && !b.State.Over() // or the database cannot take it in now
			}
			if err != nil && ctx.Err() == nil {
				yield(event.Event{}, s.failed("follow build "+Short(id), err))
			}
			if err != nil || !more {
				return
			}
		}
	}
}

func wait(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// tail gives out a journal while it grows. It asks for more where the journal was
// taken in before its end was seen here.
func (s *Store) tail(ctx context.Context, id string, give func(event.Event) bool) (more bool, err error) {
	path := s.running(id + journalExt)
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	defer f.Close()
	lines := tail{r: f}
	for looked := time.Now(); ; {
		data, err := lines.next()
		if err == nil {
			l, ok := readable(data)
			if ok && l.Ended != nil { // who hears that it is over finds it taken in
				for held(path) && wait(ctx, poll) {
				}
				return false, nil
			}
			if ok && l.isEvent() && !give(l.Event) {
				return false, nil
			}
			continue
		}
		if !errors.Is(err, io.EOF) {
			return false, err
		}
		if !wait(ctx, poll) {
			return false, nil
		}
		if time.Since(looked) > lookup {
			looked = time.Now()
			if !held(path) {
				return true, nil
			}
		}
	}
}

// sofar is the events of a journal that are there.
func (s *Store) sofar(id string) iter.Seq2[event.Event, error] {
	return func(yield func(event.Event, error) bool) {
		f, err := os.Open(s.running(id + journalExt))
		if errors.Is(err, fs.ErrNotExist) {
			return // it waits
		}
		if err != nil {
			yield(event.Event{}, err)
			return
		}
		defer f.Close()
		lines := tail{r: f}
		for {
			data, err := lines.next()
			if err != nil {
				if !errors.Is(err, io.EOF) {
					yield(event.Event{}, err)
				}
				return
			}
			if l, ok := readable(data); ok && l.isEvent() && !yield(l.Event, nil) {
				return
			}
		}
	}
}

// errEnough ends chunks.
var errEnough = errors.New("enough")

// stored gives out the events of row n after a Seq, those of chunks that have output
// of a step where one is named.
func (s *Store) stored(ctx context.Context, n int64, after uint64, step string, give func(event.Event) bool) (bool, error) {
	err := s.chunks(ctx, n, after, step, func(_ int64, data []byte) error {
		for raw := range bytes.Lines(data) {
			l, err := decode(bytes.TrimSuffix(raw, []byte("\n")))
			if err != nil {
				return err
			}
			if l.Seq > after && !give(l.Event) {
				return errEnough
			}
		}
		return nil
	})
	if errors.Is(err, errEnough) {
		return false, nil
	}
	return err == nil, err
}

// chunks gives out the lines of the journal of row n that have what is after a Seq,
// those with output of a step where one is named. One chunk at a time is in memory,
// and no statement is open while somebody reads.
func (s *Store) chunks(ctx context.Context, n int64, after uint64, step string, give func(first int64, data []byte) error) error {
	q, args := "SELECT first, last, data FROM chunks WHERE build = ? AND last > ? ORDER BY first LIMIT 1", []any{n}
	if step != "" {
		q = "SELECT first, last, data FROM chunks WHERE build = ? AND first IN (SELECT first FROM logs WHERE build = ? AND step = ?) AND last > ? ORDER BY first LIMIT 1"
		args = []any{n, n, step}
	}
	for {
		var first int64
		var data []byte
		err := s.sound(ctx, func(db *sql.DB) error {
			return db.QueryRowContext(ctx, q, append(args[:len(args):len(args)], after)...).Scan(&first, &after, &data)
		})
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		}
		if err == nil {
			data, err = s.unpack(data)
		}
		if err == nil {
			err = give(first, data)
		}
		if err != nil {
			return err
		}
	}
}

// Events is everything that is recorded of a build so far.
func (s *Store) Events(ctx context.Context, id string) iter.Seq2[event.Event, error] {
	return s.read(ctx, id, "", func(event.Event) bool { return true })
}

// Log is the output of a step (of all where it is ""), as it came, with the Seq of
// each piece, as far as it is there. Of a log of 100 MB it holds one piece at a time.
func (s *Store) Log(ctx context.Context, id, step string) iter.Seq2[event.Event, error] {
	return s.read(ctx, id, step, func(e event.Event) bool { return e.Log != nil && (step == "" || e.Log.Step == step) })
}

// read gives out what is wanted of what is there; step is as in stored.
func (s *Store) read(ctx context.Context, id, step string, wanted func(event.Event) bool) iter.Seq2[event.Event, error] {
	return func(yield func(event.Event, error) bool) {
		give := func(e event.Event) bool {
			e.Build = id
			return !wanted(e) || ctx.Err() == nil && yield(e, nil)
		}
		_, n, err := s.row(ctx, id)
		switch {
		case err != nil:
		case n > 0:
			_, err = s.stored(ctx, n, 0, step, give)
		default:
			for e, failed := range s.sofar(id) {
				if err = failed; err != nil || ctx.Err() != nil || !give(e) {
					break
				}
			}
		}
		if err != nil {
			yield(event.Event{}, s.failed("read build "+Short(id), err))
		}
	}
}
