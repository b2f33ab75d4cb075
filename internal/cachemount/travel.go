package cachemount

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/lighter-oci/lighter/internal/engine"
	"github.com/lighter-oci/lighter/internal/event"
)

// Travel is where the cache mounts of one build come from and go to.
type Travel struct {
	From   *Place                // nil for nowhere
	To     func() (Place, error) // called when there is something to save; nil for nowhere
	Import ImportOptions
	Push   PushOptions
	// What messages call the places.
	FromName, ToName string
	// Report hears what becomes of each mount, from several goroutines.
	Report func(event.Mount)

	opening  sync.Mutex
	opened   bool
	artifact *Artifact // nil where it cannot be had
}

var _ engine.Mounts = (*Travel)(nil)

// keyOf is an engine's mount in an artifact.
func keyOf(m engine.CacheMount) Key { return Key{ID: m.ID, Platform: m.Platform, From: m.Base} }

// open reads the artifact, once for all mounts, and reports where it cannot be
// had.
func (t *Travel) open(ctx context.Context) *Artifact {
	t.opening.Lock()
	defer t.opening.Unlock()
	if t.opened {
		return t.artifact
	}
	a, err := Open(ctx, *t.From)
	if ctx.Err() != nil {
		return nil // this one gives up, another may not
	}
	t.opened, t.artifact = true, a
	switch {
	case errors.Is(err, ErrNone):
		t.Report(event.Mount{Action: event.MountAbsent, Where: t.FromName})
	case err != nil:
		t.Report(event.Mount{Action: event.MountFailed, Where: t.FromName, Error: at(t.FromName, err).Error()})
	}
	return a
}

// Restore implements engine.Mounts. A mount that the place does not have stays as
// it is, and that is no error.
func (t *Travel) Restore(ctx context.Context, m engine.CacheMount, conn io.ReadWriteCloser) (err error) {
	defer func() { _ = conn.Close() }()
	began := time.Now()
	key := keyOf(m)
	a := t.open(ctx)
	if a == nil {
		return ctx.Err()
	}
	told := event.Mount{Name: key.Name(), Platform: key.Platform, Where: t.FromName}
	if a.Find(key) == nil {
		told.Action = event.MountAbsent
		t.Report(told)
		return nil
	}
	var out ImportResult
	defer func() {
		told.Action, told.Files, told.Size, told.Moved, told.Took = event.MountRestored, out.Files, out.Size, out.Fetched, time.Since(began)
		switch {
		case err != nil:
			told.Action, told.Error = event.MountFailed, err.Error()
		case out.Action == Kept:
			told.Action = event.MountKept
		}
		t.Report(told)
	}()
	s, err := NewSession(ctx, conn)
	if err != nil {
		return fmt.Errorf("%s: %w", key, err)
	}
	defer func() { _ = s.Close() }()
	out, err = Pull(ctx, *t.From, a, key, s, rootName(m), t.Import)
	return err
}

// Save implements engine.Mounts. The error is one of the place; what is wrong with a
// single mount is reported only.
func (t *Travel) Save(ctx context.Context, mounts []engine.CacheMount, conn io.ReadWriteCloser) error {
	defer func() { _ = conn.Close() }()
	began := time.Now()
	to, err := t.To()
	if err != nil {
		return err
	}
	s, err := NewSession(ctx, conn)
	if err != nil {
		return fmt.Errorf("cache mounts: %w", err)
	}
	defer func() { _ = s.Close() }()
	list := make([]PushMount, len(mounts))
	for i, m := range mounts {
		list[i] = PushMount{Key: keyOf(m), Root: rootName(m)}
	}
	out, err := Push(ctx, to, s, list, t.Push)
	if err != nil {
		err = at(t.ToName, err)
	}
	if out == nil {
		return err
	}
	for _, m := range out.Mounts {
		told := event.Mount{
			Action: event.MountSaved, Name: m.Key.Name(), Platform: m.Platform, Where: t.ToName,
			Files: m.Files, Size: m.Size, Moved: m.Sent, Took: time.Since(began), Left: m.Expired + m.Evicted + m.Unkept,
		}
		switch {
		case m.Err != nil:
			told.Action, told.Error = event.MountFailed, m.Err.Error()
		case err != nil: // told once, by whoever asked
			continue
		case m.Newer:
			told.Action = event.MountNewer
		}
		t.Report(told)
	}
	return err
}

// at names the place in an error, where it does not do so itself.
func at(where string, err error) error {
	repository := where
	if i := strings.LastIndexByte(where, ':'); i > strings.LastIndexByte(where, '/') {
		repository = where[:i]
	}
	if strings.HasPrefix(err.Error(), repository) {
		return err
	}
	return fmt.Errorf("%s: %w", where, err)
}

// rootName is what the two halves call a mount's directory.
func rootName(m engine.CacheMount) string {
	return fmt.Sprintf("%q %q %q", m.ID, m.Platform, m.Base)
}
