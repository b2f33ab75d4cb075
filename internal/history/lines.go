package history

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"io/fs"
	"iter"
	"sort"
)

// Line is a line of what a step has printed.
type Line struct {
	N    int    // from 1, in its step
	Text []byte // as it came, without its end; valid until the next
}

// Printed says how much a step has printed.
type Printed struct {
	Lines int // one that has not ended is one, too
	Wrong int // the first that looks like an error; 0 is none
}

// maxOpen is how much of a line without an end is kept, bytes: progress bars.
const maxOpen = 64 << 10

// stretch is a part of a build's journal in which a step has spoken.
type stretch struct {
	at   int64 // the Seq of its first event, or where it is in the journal's file
	size int64 // of a part of the file
	mark
}

// stretches are those of one step, and how to read them.
type stretches struct {
	list []stretch
	read func(stretch) ([]byte, error) // lines of the journal
	done func()
}

func (s stretches) printed() (p Printed) {
	for _, at := range s.list {
		p.Lines = at.line + at.lines
		if at.open > 0 {
			p.Lines++
		}
		if p.Wrong == 0 {
			p.Wrong = at.wrong
		}
	}
	return p
}

// from are the stretches that have the lines from one on, whole: it begins where the
// line before ends.
func (s stretches) from(line int) []stretch {
	i := sort.Search(len(s.list), func(i int) bool { return s.list[i].line >= line-1 })
	return s.list[max(i-1, 0):]
}

// stretches finds where a step has spoken. Who reads has to be done at the end.
func (s *Store) stretches(ctx context.Context, id, step string) (all stretches, err error) {
	for range 3 {
		b, n, err := s.row(ctx, id)
		if err == nil && n > 0 {
			return s.storedStretches(ctx, n, step)
		}
		if err != nil || b.State == Queued {
			return stretches{done: func() {}}, err
		}
		g, f, err := s.grown(id)
		if err == nil {
			return g.stretches(step, f), nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return all, err
		} // it has been taken in since
	}
	return all, &NotFoundError{ID: id}
}

// storedStretches are those of row n: its chunks.
func (s *Store) storedStretches(ctx context.Context, n int64, step string) (stretches, error) {
	all := stretches{done: func() {}}
	all.read = func(at stretch) (data []byte, err error) {
		err = s.sound(ctx, func(db *sql.DB) error {
			return db.QueryRowContext(ctx, "SELECT data FROM chunks WHERE build = ? AND first = ?", n, at.at).Scan(&data)
		})
		if err == nil {
			data, err = s.unpack(data)
		}
		return data, err
	}
	list := func() error {
		all.list = nil
		return s.sound(ctx, func(db *sql.DB) error {
			rows, err := db.QueryContext(ctx, "SELECT first, line, lines, open, wrong FROM logs WHERE build = ? AND step = ? ORDER BY first", n, step)
			if err != nil {
				return err
			}
			defer rows.Close()
			for rows.Next() {
				var at stretch
				if err := rows.Scan(&at.at, &at.line, &at.lines, &at.open, &at.wrong); err != nil {
					return err
				}
				all.list = append(all.list, at)
			}
			return rows.Err()
		})
	}
	err := list()
	if err == nil && len(all.list) > 0 && all.list[0].line < 0 {
		if err = s.count(ctx, n); err == nil {
			err = list()
		}
	}
	return all, err
}

// count makes the marks of a build that a lighter without them took in.
func (s *Store) count(ctx context.Context, n int64) error {
	type key struct {
		step  string
		first int64
	}
	marks, steps := map[key]mark{}, counters{}
	var buf []byte
	err := s.chunks(ctx, n, 0, "", func(first int64, data []byte) error {
		for line := range bytes.Lines(data) {
			if step, output, ok := outputIn(bytes.TrimSuffix(line, []byte("\n")), buf); ok {
				steps.of(string(step)).add(output)
				buf = output[:0]
			}
		}
		for step, m := range steps.ended() {
			marks[key{step, first}] = m
		}
		return nil
	})
	if err != nil {
		return err
	}
	return s.sound(ctx, func(db *sql.DB) error {
		tx, err := db.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		defer tx.Rollback() //nolint:errcheck // after Commit there is nothing to roll back
		for k, m := range marks {
			if _, err := tx.ExecContext(ctx, "UPDATE logs SET line = ?, lines = ?, open = ?, wrong = ? WHERE build = ? AND step = ? AND first = ?",
				m.line, m.lines, m.open, m.wrong, n, k.step, k.first); err != nil {
				return err
			}
		}
		return tx.Commit()
	})
}

// Printed counts the lines of a step. That is known without reading them.
func (s *Store) Printed(ctx context.Context, id, step string) (Printed, error) {
	all, err := s.stretches(ctx, id, step)
	if err != nil {
		return Printed{}, s.failed("read build "+Short(id), err)
	}
	defer all.done()
	return all.printed(), nil
}

// Lines is what a step has printed so far from a line on, read from about there: a
// page of a log of 100 MB costs as much as one of a small one.
func (s *Store) Lines(ctx context.Context, id, step string, from int) iter.Seq2[Line, error] {
	return s.each(ctx, id, step, from, func(before int, output []byte, give func(Line) bool) bool {
		for n := before + 1; len(output) > 0; n++ {
			line, rest, _ := bytes.Cut(output, []byte("\n"))
			if n >= from && !give(Line{n, line}) {
				return false
			}
			output = rest
		}
		return true
	})
}

// Grep is the lines of a step that have a text in them, whatever its case is and
// however it is coloured.
func (s *Store) Grep(ctx context.Context, id, step, text string) iter.Seq2[Line, error] {
	want := Like(text)
	return s.each(ctx, id, step, 1, func(before int, output []byte, give func(Line) bool) bool {
		for n, line := range want.in(output) {
			if !give(Line{before + n, line}) {
				return false
			}
		}
		return true
	})
}

// each hands out the output of a step in pieces of whole lines, each with how many
// lines are before it. Only the last may end in a line that has no end.
func (s *Store) each(ctx context.Context, id, step string, from int, some func(before int, output []byte, give func(Line) bool) bool) iter.Seq2[Line, error] {
	return func(yield func(Line, error) bool) {
		all, err := s.stretches(ctx, id, step)
		if err == nil {
			defer all.done()
			err = all.each(ctx, step, from, func(before int, output []byte) bool {
				return some(before, output, func(l Line) bool { return yield(l, nil) })
			})
		}
		if err != nil {
			yield(Line{}, s.failed("read build "+Short(id), err))
		}
	}
}

func (s stretches) each(ctx context.Context, step string, from int, give func(before int, output []byte) bool) error {
	var output, buf []byte
	before := 0
	for i, at := range s.from(from) {
		if err := ctx.Err(); err != nil {
			return err
		}
		if i == 0 {
			before = at.line
		}
		data, err := s.read(at)
		if err != nil {
			return err
		}
		for line := range bytes.Lines(data) {
			if who, some, ok := outputIn(bytes.TrimSuffix(line, []byte("\n")), buf); ok {
				if buf = some[:0]; string(who) == step {
					output = append(output, some...)
				}
			}
		}
		whole := bytes.LastIndexByte(output, '\n') + 1
		if whole > 0 && !give(before, output[:whole]) {
			return nil
		}
		before = at.line + at.lines
		output = output[:copy(output, output[max(whole, len(output)-maxOpen):])]
	}
	if len(output) > 0 {
		give(before, output)
	}
	return nil
}
