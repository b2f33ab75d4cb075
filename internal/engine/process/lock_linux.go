package process

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Bytes of engine.lock that stand for something; the package comment says
// what. They overlap the JSON, which does not matter: locks are advisory.
const (
	ownerByte = iota
	usersByte
	starterByte
)

// maxRecord bounds what is read of engine.lock, in bytes.
const maxRecord = 16 << 10

// record is what the owner writes into engine.lock.
type record struct {
	PID      int       `json:"pid"`
	Ticks    uint64    `json:"ticks"` // start of PID since boot, to tell it from a later process of that number
	Started  time.Time `json:"started"`
	Version  string    `json:"version,omitempty"`
	Serves   bool      `json:"serves"`
	Socket   string    `json:"socket,omitempty"`
	Stopping bool      `json:"stopping,omitempty"`
}

// Lock is the ownership of a state directory. It ends with Release or with
// the process.
type Lock struct {
	State string

	mu     sync.Mutex
	file   *os.File // holds ownerByte; nil once released
	users  *os.File // holds usersByte from the decision to leave on
	record record
}

// Acquire makes this process the owner of state, which StateDir returned, and
// does not wait. Take it before anything in the directory is touched. The
// error is a *LockedError where another process owns it.
func Acquire(state string, opts LockOptions) (*Lock, error) {
	if err := checkStateDir(state); err != nil {
		return nil, err
	}
	f, err := openLock(state, os.O_CREATE)
	if err != nil {
		return nil, err
	}
	ok, err := tryLock(f, ownerByte, unix.F_WRLCK)
	if err != nil || !ok {
		f.Close()
		if err != nil {
			return nil, fmt.Errorf("lock %s: %w", f.Name(), err)
		}
		info, _ := Status(state)
		info.State, info.Running = state, true
		return nil, &LockedError{Info: info}
	}
	l := &Lock{State: state, file: f, record: record{
		PID:     os.Getpid(),
		Ticks:   statOf(os.Getpid()).ticks,
		Started: time.Now().UTC().Truncate(time.Millisecond),
		Version: opts.Version,
		Serves:  opts.Serve,
	}}
	if err := l.update(func(*record) {}); err != nil {
		f.Close()
		return nil, err
	}
	return l, nil
}

// Release gives the state directory up. Everything else that touches it must
// be closed by then. The second call does nothing.
func (l *Lock) Release() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file == nil {
		return nil
	}
	err := l.file.Truncate(0)
	// The owner's byte first: who gets the users' byte must find it free.
	err = errors.Join(err, l.file.Close())
	l.file = nil
	if l.users != nil {
		err = errors.Join(err, l.users.Close())
	}
	return err
}

// update changes what the file says about the owner.
func (l *Lock) update(change func(*record)) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file == nil {
		return errors.New("the state directory's lock was released")
	}
	change(&l.record)
	b, err := json.Marshal(l.record)
	if err != nil {
		return fmt.Errorf("write %s: %w", l.file.Name(), err)
	}
	// Truncated first, so that a reader sees either all of it or no JSON.
	if err := l.file.Truncate(0); err != nil {
		return fmt.Errorf("write %s: %w", l.file.Name(), err)
	}
	if _, err := l.file.WriteAt(append(b, '\n'), 0); err != nil {
		return fmt.Errorf("write %s: %w", l.file.Name(), err)
	}
	return nil
}

// claimUsers reports whether nobody uses the engine, and if so keeps everybody
// out until Release.
func (l *Lock) claimUsers() bool {
	f, err := openLock(l.State, 0)
	if err != nil {
		return false
	}
	if ok, err := tryLock(f, usersByte, unix.F_WRLCK); err != nil || !ok {
		f.Close()
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.users = f
	return true
}

// openLock opens STATE/engine.lock; every call is a holder of its own.
func openLock(state string, flag int) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(state, lockName), os.O_RDWR|unix.O_NOFOLLOW|flag, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock the state directory: %w", err)
	}
	return f, nil
}

// tryLock takes, converts or (F_UNLCK) drops the lock on one byte for this
// open file, and reports whether it could, without waiting.
func tryLock(f *os.File, at int64, kind int16) (bool, error) {
	lk := unix.Flock_t{Type: kind, Whence: io.SeekStart, Start: at, Len: 1}
	for {
		switch err := unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &lk); err {
		case nil:
			return true, nil
		case unix.EAGAIN, unix.EACCES:
			return false, nil
		case unix.EINTR:
		default:
			return false, err
		}
	}
}

// locked reports whether somebody else than f holds a lock on the byte,
// without taking it: a probe that took it could fail a real owner.
func locked(f *os.File, at int64) (bool, error) {
	lk := unix.Flock_t{Type: unix.F_WRLCK, Whence: io.SeekStart, Start: at, Len: 1}
	if err := unix.FcntlFlock(f.Fd(), unix.F_OFD_GETLK, &lk); err != nil {
		return false, fmt.Errorf("query %s: %w", f.Name(), err)
	}
	return lk.Type != unix.F_UNLCK, nil
}

// readRecord returns what the file says, or false while it is being written.
func readRecord(f *os.File) (record, bool) {
	b := make([]byte, maxRecord)
	n, err := f.ReadAt(b, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return record{}, false
	}
	var r record
	if json.Unmarshal(b[:n], &r) != nil || r.PID <= 0 {
		return record{}, false
	}
	return r, true
}

// still reports whether the file names this owner, and not a later one.
func (r record) still(f *os.File) bool {
	now, ok := readRecord(f)
	return ok && now.PID == r.PID && now.Ticks == r.Ticks
}

// alive reports whether the process that wrote the record is visible here and
// runs. False is not "dead": it may live in another PID namespace.
func (r record) alive() bool {
	st := statOf(r.PID)
	return r.Ticks != 0 && st.ticks == r.Ticks && !st.ended()
}

// dying reports whether the process has ended, but for threads that still hold
// its lock and its socket, on which the kernel goes on taking connections.
func (r record) dying() bool {
	st := statOf(r.PID)
	return r.Ticks != 0 && st.ticks == r.Ticks && st.ended()
}

func (r record) info(state string) Info {
	i := Info{
		State: state, Running: true, PID: r.PID, Serves: r.Serves, Started: r.Started,
		Version: r.Version, Socket: r.Socket, Stopping: r.Stopping,
	}
	if r.alive() {
		i.RSS = residentBytes(r.PID)
	}
	if log := filepath.Join(state, logName); r.Serves {
		if _, err := os.Stat(log); err == nil {
			i.Log = log
		}
	}
	return i
}
