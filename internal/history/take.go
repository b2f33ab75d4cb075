package history

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/lighter-oci/lighter/internal/event"
	"github.com/lighter-oci/lighter/internal/report"
)

// Sizes in bytes.
const (
	// chunkSize is about what of a journal is compressed together: what reading one
	// step's log has to unpack at least.
	chunkSize = 256 << 10
	// The words of a log are those of its beginning and of its end.
	indexedHead = 128 << 10
	indexedTail = 64 << 10
)

// take moves a journal that nobody writes any more into the database. died is the
// outcome where the journal has none.
func (s *Store) take(ctx context.Context, id string, died Outcome) error {
	path := s.running(id + journalExt)
	if err := s.sound(ctx, func(db *sql.DB) error { return s.takeFile(ctx, db, path, died) }); err != nil {
		return err
	}
	if err := os.Remove(path); err != nil {
		return err
	}
	err := os.Remove(s.running(id + stoppedExt))
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return err
}

func (s *Store) takeFile(ctx context.Context, db *sql.DB, path string, died Outcome) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback() //nolint:errcheck // after Commit there is nothing to roll back
	t := taking{ctx: ctx, tx: tx, died: died, now: s.opts.now}
	if err := t.journal(f); err != nil {
		return err
	}
	return tx.Commit()
}

// takeQueued records a build that never began.
func (s *Store) takeQueued(ctx context.Context, b Begun, o Outcome) error {
	return s.sound(ctx, func(db *sql.DB) error {
		tx, err := db.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		defer tx.Rollback() //nolint:errcheck // after Commit there is nothing to roll back
		t := taking{ctx: ctx, tx: tx, died: o, now: s.opts.now, begun: &b}
		if err := t.finish(); err != nil {
			return err
		}
		return tx.Commit()
	})
}

// taking is one journal on its way into the database. Its memory does not grow
// with the log.
type taking struct {
	ctx  context.Context
	tx   *sql.Tx
	died Outcome
	now  func() time.Time

	begun *Begun
	ended *ended
	n     int64 // of the row
	there bool  // it is in the database already
	fold  report.Build
	last  event.Event
	size  int64 // stored
	logs  int64

	zstd  *zstd.Encoder
	chunk bytes.Buffer
	first uint64 // Seq of the first event in chunk
	steps counters

	head, tail bytes.Buffer
}

func (t *taking) journal(r io.Reader) error {
	lines := tail{r: r}
	for {
		data, err := lines.next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		if err := t.line(data); err != nil || t.there {
			return err
		}
	}
	if t.begun == nil {
		return errors.New("a journal without a beginning")
	}
	if err := t.flush(); err != nil {
		return err
	}
	return t.finish()
}

func (t *taking) line(data []byte) error {
	l, ok := readable(data)
	switch {
	case !ok: // of a disk that lost it: the rest counts
		return nil
	case l.Begun != nil && t.begun == nil:
		t.begun = l.Begun
		return t.insert()
	case l.Source != nil && t.begun != nil:
		t.begun.Source = *l.Source
		return nil
	case l.Ended != nil:
		t.ended = l.Ended
		return nil
	case !l.isEvent() || t.begun == nil:
		return nil
	}
	if t.chunk.Len() == 0 {
		t.first = l.Seq
	}
	t.chunk.Write(data)
	t.chunk.WriteByte('\n')
	t.last = l.Event
	t.fold.Add(l.Event)
	if l.Event.Log != nil {
		t.log(*l.Event.Log)
	}
	if t.chunk.Len() >= chunkSize {
		return t.flush()
	}
	return nil
}

// log notes where the output of a step is, and what is searched of it.
func (t *taking) log(l event.Log) {
	t.logs += int64(len(l.Data))
	if t.steps == nil {
		t.steps = counters{}
	}
	t.steps.of(l.Step).add(Output(l))
	if room := indexedHead - t.head.Len(); room > 0 {
		n := min(room, len(l.Data))
		t.head.Write(l.Data[:n])
		l.Data = l.Data[n:]
	}
	t.tail.Write(l.Data)
	if over := t.tail.Len() - indexedTail; over > indexedTail {
		t.tail.Next(over)
	}
}

// insert makes the row, which finish fills.
func (t *taking) insert() error {
	// A ticket that died may have a row, in which nothing is.
	if _, err := t.tx.ExecContext(t.ctx, "DELETE FROM builds WHERE id = ? AND events = 0", t.begun.ID); err != nil {
		return err
	}
	res, err := t.tx.ExecContext(t.ctx, `INSERT INTO builds VALUES (NULL, ?, ?, ?, ?, ?, ?, '', ?, 0, 0, 0, 0, 0, 0, 0, x'', x'')
		ON CONFLICT (id) DO NOTHING`, t.begun.ID, t.begun.Parent, t.begun.Project, t.begun.Dir, t.begun.Verb, t.begun.Variant, t.begun.Started.UnixMilli())
	if err != nil {
		return err
	}
	rows, err := res.RowsAffected()
	if err != nil {
		return err
	}
	t.there = rows == 0
	t.n, err = res.LastInsertId()
	return err
}

// flush stores a chunk.
func (t *taking) flush() (err error) {
	if t.chunk.Len() == 0 {
		return nil
	}
	data, err := t.pack(t.chunk.Bytes())
	if err != nil {
		return err
	}
	if _, err := t.tx.ExecContext(t.ctx, "INSERT INTO chunks VALUES (?, ?, ?, ?)", t.n, t.first, t.last.Seq, data); err != nil {
		return err
	}
	for step, m := range t.steps.ended() {
		if _, err := t.tx.ExecContext(t.ctx, "INSERT INTO logs VALUES (?, ?, ?, ?, ?, ?, ?)", t.n, step, t.first, m.line, m.lines, m.open, m.wrong); err != nil {
			return err
		}
		t.size += int64(len(step)) + 24
	}
	t.size += int64(len(data))
	t.chunk.Reset()
	return nil
}

func (t *taking) pack(data []byte) (_ []byte, err error) {
	if t.zstd == nil {
		t.zstd, err = zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(chunkSize))
	}
	if err != nil {
		return nil, err
	}
	return t.zstd.EncodeAll(data, nil), nil
}

// finish fills the row.
func (t *taking) finish() error {
	if t.n == 0 {
		if err := t.insert(); err != nil || t.there {
			return err
		}
	}
	o, r := t.outcome()
	row := Build{Begun: *t.begun, State: o.State, Ended: o.Time, Error: o.Error, Log: t.logs}
	row.fill(r)
	row.Took = r.Summary.Took // as its terminal has said, without what its process did before
	if t.last.Seq == 0 {
		row.Took = report.Seconds(max(o.Time.Sub(row.Started), 0))
	}
	rep, err := json.Marshal(r)
	if err != nil {
		return err
	}
	if rep, err = t.pack(rep); err != nil {
		return err
	}
	about, errs := words(row, r)
	log := t.head.String()
	if t.tail.Len() > 0 {
		t.tail.Next(max(t.tail.Len()-indexedTail, 0))
		log += t.tail.String()
	}
	if _, err := t.tx.ExecContext(t.ctx, "INSERT INTO words (rowid, about, errors, log) VALUES (?, ?, ?, ?)", t.n, about, errs, plain(log)); err != nil {
		return err
	}
	// The index of words takes about a third of what they are.
	t.size += int64(len(rep)+(len(about)+len(errs)+len(log))/3) + 1<<10
	row.Stored = t.size
	data, err := json.Marshal(row)
	if err != nil {
		return err
	}
	_, err = t.tx.ExecContext(t.ctx, `UPDATE builds SET state = ?, seconds = ?, image = ?, pushed = ?, total = ?, cached = ?, stored = ?, events = ?,
		row = ?, report = ? WHERE n = ?`, row.State, row.Took.Duration().Seconds(), row.Image, row.Pushed, row.Steps.Total, row.Steps.Cached, row.Stored,
		t.last.Seq, data, rep, t.n)
	return err
}

// outcome is how it ended, and its report.
func (t *taking) outcome() (ended, report.Report) {
	o := ended{t.died, t.last.Time}
	if t.ended != nil {
		o = *t.ended
	}
	if o.Time.IsZero() {
		o.Time = t.now()
	}
	if t.last.Seq > 0 {
		t.fold.Add(event.Event{Time: o.Time}) // where there is no result, it went on up to here
	}
	t.fold.Stages, t.fold.Proofs = o.Stages, o.Proofs
	r := t.fold.Report()
	r.Findings = append(r.Findings, o.Findings...)
	if o.Error == "" {
		o.Error = r.Summary.Error
	}
	switch {
	case o.Error != "" || o.State == Done:
	case o.State == Interrupted:
		o.Error = "interrupted: lighter " + t.begun.Verb + " died"
	case o.State == Killed:
		o.Error = "stopped"
	}
	if o.State != Done {
		r.Interrupt(o.Error)
	}
	return o, r
}

// words are what a build is found by, besides its log.
func words(b Build, r report.Report) (about, errs string) {
	list := append([]string{b.Project, b.Dir, b.Verb, b.Variant, b.Version, b.Commit, b.Branch, b.Who, b.How, b.Engine, b.Digest}, b.Names...)
	list = append(list, b.Platforms...)
	wrong := []string{b.Error}
	for _, s := range r.Steps {
		list = append(list, s.Text)
		wrong = append(wrong, s.Error)
	}
	for _, w := range r.Warnings {
		wrong = append(wrong, w.Short)
	}
	for _, f := range r.Findings {
		list = append(list, f.Text)
	}
	return plain(strings.Join(list, "\n")), plain(strings.Join(wrong, "\n"))
}

// plain is text as people read it: lines of it without escapes.
func plain(s string) string {
	var b strings.Builder
	for l := range strings.Lines(s) {
		b.WriteString(report.Clean(strings.TrimRight(l, "\r\n")))
		b.WriteByte('\n')
	}
	return b.String()
}
