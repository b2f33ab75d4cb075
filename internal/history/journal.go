package history

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"strings"
	"unicode/utf8"

	"github.com/gofrs/flock"

	"github.com/lighter-oci/lighter/internal/event"
)

// Names in running/. A build that waits has ID.queued, held by the server that
// will start it; ID.stopped says that whoever killed the process meant to.
const (
	journalExt = ".jsonl"
	queuedExt  = ".queued"
	stoppedExt = ".stopped"
	begunExt   = ".tmp" // a file whose first line is being written
)

// maxLine bounds what one line of a journal is read as, bytes: a report of some
// thousand steps has 1 MB.
const maxLine = 64 << 20

// encode is an event as a line of a journal.
func encode(e event.Event) ([]byte, error) {
	l := line{Event: e}
	if e.Log != nil {
		l.Log = &logged{Step: e.Log.Step, Stream: e.Log.Stream, Dropped: e.Log.Dropped}
		if utf8.Valid(e.Log.Data) {
			l.Log.Text = string(e.Log.Data)
		} else {
			l.Log.Data = e.Log.Data
		}
		l.Event.Log = nil
	}
	return marshal(l)
}

// marshal is v in one line, end included.
func marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	err := enc.Encode(v)
	return b.Bytes(), err
}

// decode reads a line of a journal.
func decode(data []byte) (line, error) {
	var l line
	if q, ok := quick(data, nil); ok {
		if l.Event, ok = q.event(); ok {
			return l, nil
		}
	}
	if err := json.Unmarshal(data, &l); err != nil {
		return l, err
	}
	if l.Log != nil {
		l.Event.Log = &event.Log{Step: l.Log.Step, Stream: l.Log.Stream, Data: l.Log.Data, Dropped: l.Log.Dropped}
		if l.Log.Text != "" {
			l.Event.Log.Data = []byte(l.Log.Text)
		}
	}
	return l, nil
}

// readable is decode for who goes on where a line is none.
func readable(data []byte) (line, bool) {
	l, err := decode(data)
	return l, err == nil
}

// isEvent tells whether something is in the event at all: a line of a newer
// lighter may hold what this one knows nothing of.
func (l line) isEvent() bool { return l.Seq > 0 && l.Begun == nil && l.Ended == nil }

// tail reads the lines of a file that may still grow.
type tail struct {
	r    io.Reader
	buf  []byte // read, not yet given out
	used int    // of buf, given out
}

// next is the next whole line, without its end, which is valid until the next
// call. io.EOF means that there is none yet: a torn last line is none.
func (t *tail) next() ([]byte, error) {
	for from := t.used; ; {
		if i := bytes.IndexByte(t.buf[from:], '\n'); i >= 0 {
			l := t.buf[t.used : from+i]
			t.used = from + i + 1
			return l, nil
		}
		if t.used > 0 {
			t.buf = t.buf[:copy(t.buf, t.buf[t.used:])]
			t.used = 0
		}
		if len(t.buf) > maxLine {
			return nil, errors.New("a line without an end")
		}
		from = len(t.buf)
		if cap(t.buf)-from < 32<<10 {
			t.buf = append(make([]byte, 0, max(2*cap(t.buf), 128<<10)), t.buf...)
		}
		n, err := t.r.Read(t.buf[from:cap(t.buf)])
		t.buf = t.buf[:from+n]
		if n == 0 {
			if err == nil {
				err = io.EOF
			}
			return nil, err
		}
	}
}

// claim locks a file of running/, without waiting. It is false where somebody else
// holds it or it is gone.
func claim(path string) (*flock.Flock, bool) {
	l := flock.New(path, flock.SetFlag(os.O_RDWR))
	if ok, err := l.TryLock(); err != nil || !ok {
		_ = l.Close()
		return nil, false
	}
	// Somebody may have taken it in since it was opened.
	if !sameFile(l, path) {
		_ = l.Close()
		return nil, false
	}
	return l, true
}

func sameFile(l *flock.Flock, path string) bool {
	was, err1 := l.Stat()
	is, err2 := os.Stat(path)
	return err1 == nil && err2 == nil && os.SameFile(was, is)
}

// held tells whether a file of running/ is there, and has a process that holds it.
func held(path string) bool {
	if l, ok := claim(path); ok {
		_ = l.Close()
		return false
	}
	_, err := os.Stat(path)
	return err == nil
}

// create makes a file of running/ that nobody sees before it is locked and has its
// first line.
func create(path string, first any) (*flock.Flock, *os.File, error) {
	data, err := marshal(first)
	if err != nil {
		return nil, nil, err
	}
	tmp := path + begunExt
	l := flock.New(tmp, flock.SetFlag(os.O_CREATE|os.O_EXCL|os.O_RDWR), flock.SetPermissions(0o600))
	if ok, err := l.TryLock(); err != nil || !ok {
		_ = l.Close()
		return nil, nil, errors.Join(err, errors.New("cannot be locked"))
	}
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_APPEND, 0)
	if err == nil {
		_, err = f.Write(data)
	}
	if err == nil {
		if _, taken := os.Stat(path); taken == nil {
			err = errors.New("a build of this ID is running")
		} else if err = os.Rename(tmp, path); err == nil {
			return l, f, nil
		}
	}
	_ = os.Remove(tmp)
	if f != nil {
		_ = f.Close()
	}
	_ = l.Close()
	return nil, nil, err
}

// lastWords is how a journal ends; without a last line its writer died when it wrote
// the last time.
func lastWords(path string) (ended, error) {
	f, err := os.Open(path)
	if err != nil {
		return ended{}, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return ended{}, err
	}
	died := ended{Outcome{State: Interrupted}, info.ModTime()}
	for size := int64(64 << 10); ; size *= 8 { // findings and proofs are in that line
		buf := make([]byte, min(size, info.Size()))
		if _, err := f.ReadAt(buf, info.Size()-int64(len(buf))); err != nil {
			return died, err
		}
		line := bytes.TrimSuffix(buf, []byte("\n"))
		i := bytes.LastIndexByte(line, '\n')
		if i < 0 && size < min(info.Size(), maxLine) {
			continue
		}
		if l, ok := readable(line[i+1:]); ok && l.Ended != nil {
			return *l.Ended, nil
		}
		return died, nil
	}
}

// waiting lists the IDs in running/ that have a file of one kind.
func (s *Store) waiting(ext string) ([]string, error) {
	entries, err := os.ReadDir(s.running(""))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var ids []string
	for _, e := range entries {
		if id, ok := strings.CutSuffix(e.Name(), ext); ok && ValidID(id) {
			ids = append(ids, id)
		}
	}
	return ids, err
}
