package history

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"slices"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/gofrs/flock"

	"github.com/lighter-oci/lighter/internal/event"
)

// maxPiece is the most of a log that one line of a journal holds, bytes.
const maxPiece = 32 << 10

// Recorder is one build that writes its journal. It is safe for concurrent use; a
// nil one records nothing.
type Recorder struct {
	store *Store
	begun Begun

	mu   sync.Mutex
	lock *flock.Flock
	file *os.File // nil after End
	size int64    // of the whole lines in file
	seq  uint64
	logs int64 // bytes recorded
	lost error // the first thing that could not be written
}

// NewID is an ID for a build that begins now or waits. It comes after all that
// are known, also where the clock has been set back.
func (s *Store) NewID() string {
	now := s.opts.now()
	if newest := s.newest(); newest != "" {
		if t := timeOf(newest); !t.Before(now.Truncate(time.Millisecond)) {
			now = t.Add(time.Millisecond)
		}
	}
	return newID(now)
}

// newest is the last ID; "" where none is known. A database that cannot be read
// costs the order at most.
func (s *Store) newest() string {
	var newest string
	if _, err := os.Stat(s.file()); err == nil {
		if db, err := s.open(context.Background()); err == nil {
			_ = db.QueryRow("SELECT id FROM builds ORDER BY id DESC LIMIT 1").Scan(&newest)
		}
	}
	for _, ext := range []string{journalExt, queuedExt} {
		ids, _ := s.waiting(ext)
		for _, id := range ids {
			newest = max(newest, id)
		}
	}
	return newest
}

// Begin records a build from here on.
func (s *Store) Begin(b Begun) (*Recorder, error) {
	lock, f, err := s.begin(&b, journalExt)
	if err != nil {
		return nil, s.failed("begin a build", err)
	}
	r := &Recorder{store: s, begun: b, lock: lock, file: f}
	if info, err := f.Stat(); err == nil {
		r.size = info.Size()
	}
	return r, nil
}

func (s *Store) begin(b *Begun, ext string) (*flock.Flock, *os.File, error) {
	if b.ID == "" {
		b.ID = s.NewID()
	}
	if !ValidID(b.ID) {
		return nil, nil, errors.New("not an ID: " + b.ID)
	}
	if b.Started.IsZero() {
		b.Started = s.opts.now()
	}
	b.Started = b.Started.Round(0)
	if err := os.MkdirAll(s.running(""), 0o700); err != nil {
		return nil, nil, err
	}
	return create(s.running(b.ID+ext), line{Begun: b})
}

// ID is the build's.
func (r *Recorder) ID() string {
	if r == nil {
		return ""
	}
	return r.begun.ID
}

// Add records an event. It gets the next Seq of this build.
func (r *Recorder) Add(e event.Event) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if e.Time.IsZero() {
		e.Time = r.store.opts.now()
	}
	if e.Log == nil {
		r.write(e)
		return
	}
	whole := *e.Log
	if r.logs >= r.store.opts.MaxLog && len(whole.Data) > 0 {
		whole.Dropped += len(whole.Data)
		whole.Data = nil
	}
	r.logs += int64(len(whole.Data))
	for {
		piece := whole
		piece.Data, whole.Data = cut(whole.Data)
		e.Log = &piece
		r.write(e)
		if whole.Dropped = 0; len(whole.Data) == 0 {
			return
		}
	}
}

// Source records what is built, once it is known.
func (r *Recorder) Source(src Source) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.file == nil || r.lost != nil {
		return
	}
	data, err := marshal(line{Source: &src})
	if err == nil {
		err = r.append(data)
	}
	r.lost = err
}

// cut takes a piece off a log, up to a line's end where there is one.
func cut(data []byte) (piece, rest []byte) {
	if len(data) <= maxPiece {
		return data, nil
	}
	n := maxPiece
	if i := bytes.LastIndexByte(data[:n], '\n'); i >= 0 {
		n = i + 1
	} else {
		for n > maxPiece-utf8.UTFMax && !utf8.RuneStart(data[n]) {
			n--
		}
	}
	return data[:n], data[n:]
}

// write appends one event; the caller holds mu. After the first failure nothing
// more is written but the end: a journal has no holes.
func (r *Recorder) write(e event.Event) {
	if r.file == nil || r.lost != nil {
		return
	}
	r.seq++
	e.Seq, e.Build, e.Time = r.seq, "", e.Time.Round(0)
	data, err := encode(e)
	if err == nil {
		err = r.append(data)
	}
	if err != nil {
		r.lost = err
	}
}

func (r *Recorder) append(data []byte) error {
	n, err := r.file.Write(data)
	if err != nil {
		if n > 0 {
			err = errors.Join(err, r.file.Truncate(r.size))
		}
		return err
	}
	r.size += int64(len(data))
	return nil
}

// End takes the build into the database. The error says what was not recorded, and
// is a warning to whoever built. Where the database cannot take it now, the
// journal stays, and whoever opens the history next takes it in.
func (r *Recorder) End(ctx context.Context, o Outcome) error {
	if r == nil {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.file == nil {
		return nil
	}
	defer func() {
		_ = r.lock.Close()
		r.file = nil
	}()
	data, err := marshal(line{Ended: &ended{o, r.store.opts.now().Round(0)}})
	if err == nil {
		err = r.append(data)
	}
	err = errors.Join(r.lost, err, r.file.Close())
	if took := r.store.take(ctx, r.begun.ID, o); took != nil {
		err = errors.Join(err, took)
	} else {
		err = errors.Join(err, r.store.Trim(ctx))
	}
	return r.store.failed("record build "+Short(r.begun.ID), err)
}

// Drop forgets the build: it turned out to be none.
func (r *Recorder) Drop() error {
	if r == nil {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.file == nil {
		return nil
	}
	err := errors.Join(os.Remove(r.store.running(r.begun.ID+journalExt)), r.file.Close(), r.lock.Close())
	r.file = nil
	return r.store.failed("drop build "+Short(r.begun.ID), err)
}

// Ticket is a build that waits for its turn.
type Ticket struct {
	store *Store
	begun Begun
	lock  *flock.Flock
}

// Queue shows a build as waiting, as long as this process lives or until Start.
func (s *Store) Queue(b Begun) (*Ticket, error) {
	lock, f, err := s.begin(&b, queuedExt)
	if err != nil {
		return nil, s.failed("queue a build", err)
	}
	_ = f.Close()
	return &Ticket{s, b, lock}, nil
}

// ID is the one that the build has to begin with.
func (t *Ticket) ID() string { return t.begun.ID }

// Leave ends the waiting of a build that has begun, by Begin with the ticket's ID
// in any process. A build that has not is recorded with the outcome.
func (t *Ticket) Leave(ctx context.Context, o Outcome) error {
	defer t.lock.Close()
	_, err := os.Stat(t.store.running(t.begun.ID + journalExt))
	if errors.Is(err, fs.ErrNotExist) {
		err = t.store.takeQueued(ctx, t.begun, o)
	}
	if err != nil {
		return t.store.failed("record build "+Short(t.begun.ID), err)
	}
	return os.Remove(t.store.running(t.begun.ID + queuedExt))
}

// Stopping notes that the process of a build is about to be killed because somebody
// wants it: where it gets no time to say so itself, it is Killed, not Interrupted.
func (s *Store) Stopping(id string) error {
	if !ValidID(id) {
		return &NotFoundError{ID: id}
	}
	return os.WriteFile(s.running(id+stoppedExt), nil, 0o600)
}

// Sweep takes in what died: journals and tickets that no process holds. It answers
// their IDs. List and Follow do so, too.
func (s *Store) Sweep(ctx context.Context) ([]string, error) {
	var swept []string
	var errs error
	for _, ext := range []string{journalExt, queuedExt} {
		ids, err := s.waiting(ext)
		errs = errors.Join(errs, err)
		for _, id := range ids {
			if took, err := s.sweep(ctx, id, ext); err != nil {
				errs = errors.Join(errs, err)
			} else if took && !slices.Contains(swept, id) {
				swept = append(swept, id)
			}
		}
	}
	return swept, s.failed("take in what was interrupted", errs)
}

func (s *Store) sweep(ctx context.Context, id, ext string) (bool, error) {
	path := s.running(id + ext)
	l, ok := claim(path)
	if !ok {
		return false, nil
	}
	defer l.Close()
	o := Outcome{State: Interrupted}
	if _, err := os.Stat(s.running(id + stoppedExt)); err == nil {
		o.State = Killed
	}
	if ext == journalExt {
		return true, s.take(ctx, id, o)
	}
	begun, _, err := readBegun(path)
	if err == nil {
		if _, err := os.Stat(s.running(id + journalExt)); errors.Is(err, fs.ErrNotExist) {
			if err := s.takeQueued(ctx, begun, o); err != nil {
				return true, err
			}
		}
	}
	return true, os.Remove(path)
}
