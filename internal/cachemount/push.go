package cachemount

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/lighter-oci/lighter/internal/image"
)

// PushOptions say what a push keeps. The zero value keeps everything.
type PushOptions struct {
	Export ExportOptions
	// MaxSize bounds the contents of the whole artifact, bytes; 0 is no bound.
	// Mounts that are pushed share it; other mounts go, the one pushed longest ago
	// first, as far as they have no room beside these.
	MaxSize int64
	// MaxAge drops other mounts that nobody has pushed for so long; 0 keeps them.
	MaxAge time.Duration
	// Settle is how long after the tag is set the push looks whether it still
	// stands, where the place cannot tell at once; 0 is three times what lay between
	// its last look and the tag, and between 25 ms and two seconds.
	Settle time.Duration
}

// PushMount is a directory to push.
type PushMount struct {
	Key
	Root string // as the agent names the directory
}

// Pushed is what a push did.
type Pushed struct {
	Mounts  []PushedMount // in the order in which they were asked for
	Merged  int           // how often somebody else's push was merged
	Dropped []Key         // other mounts that went, by age or by size
}

// PushedMount is what became of one mount.
type PushedMount struct {
	Key
	Exported
	Err error
	// Newer tells that somebody else pushed the mount meanwhile, from a
	// directory that was read later, and that theirs stays.
	Newer bool
}

// Push sends what directories have and the artifact p lacks, and sets p's name.
// A mount that fails is in the result with its error and stays in the artifact
// as it was; the others go on. An error is of the artifact as a whole; then the
// name stands for what it stood for.
//
// Whatever happens, the name stands for a whole artifact: blobs come first, then
// the manifest, then the name. Two pushes at once merge. Each looks again what
// the name stands for just before it sets it, and takes over the mounts that it
// has not pushed itself; of a mount that both pushed, the one read later
// stays. Registries cannot set a name on a condition, so between look and name
// another push may do the same, and one would be lost: each looks again after
// Settle, and merges again. A push is lost only if another's look and name lie
// further apart than that, or if it is killed in between; the mounts are then as
// they were before it. An OCI layout can set a name on a condition, and there
// none is lost.
func Push(ctx context.Context, p Place, s *Session, mounts []PushMount, o PushOptions) (*Pushed, error) {
	src, err := p.Source()
	if err != nil {
		return nil, err
	}
	defer release(src)
	q := &push{p: p, s: s, o: o, store: &store{src, p.Target}}
	q.read = sync.OnceValue(func() (err error) {
		if q.base, err = read(ctx, src, p.Name, nil); useless(err) {
			return nil
		}
		return err
	})
	for i := range mounts {
		if err := q.export(ctx, &mounts[i], len(mounts)-i); err != nil {
			return &q.out, err
		}
	}
	if len(q.made) == 0 {
		return &q.out, nil
	}
	q.remember = sync.OnceValue(func() error { return q.confirm(ctx, mounts) })
	if err := q.publish(ctx); err != nil {
		return &q.out, err
	}
	return &q.out, q.remember()
}

// push is the state of one Push.
type push struct {
	p     Place
	s     *Session
	o     PushOptions
	store *store

	read     func() error // what the name stands for, once, into base
	base     *Artifact
	remember func() error // once, what the directories were like

	out  Pushed
	made []Mount // what was exported
	size int64   // bytes of content of these
}

// export reads one directory, of left that are still to come with it. An error
// is one after which none of the others can be read.
func (q *push) export(ctx context.Context, m *PushMount, left int) error {
	o := q.o.Export
	if q.o.MaxSize > 0 {
		share := max(1, (q.o.MaxSize-q.size)/int64(left))
		if o.MaxSize == 0 || share < o.MaxSize {
			o.MaxSize = share
		}
	}
	now := time.Now()
	var lost error
	made, res, err := q.s.exportMount(ctx, m.Root, func() (base *Mount, err error) {
		base, lost = q.usable(ctx, m.Key)
		return base, lost
	}, q.store, o)
	if lost != nil {
		return lost
	}
	if err != nil {
		err = fmt.Errorf("%s: %w", m.Key, err)
	}
	q.out.Mounts = append(q.out.Mounts, PushedMount{Key: m.Key, Exported: res, Err: err})
	if err != nil {
		if ctx.Err() != nil || errors.Is(err, ErrCut) || errors.Is(err, ErrVersion) {
			return err
		}
		return nil
	}
	made.Key, made.Pushed = m.Key, now.UTC()
	q.made = append(q.made, *made)
	q.size += made.Size
	return nil
}

// usable is the mount as the last artifact has it, or an empty one where the
// place has lost a part of it: then all is sent again.
func (q *push) usable(ctx context.Context, k Key) (*Mount, error) {
	if err := q.read(); err != nil {
		return nil, err
	}
	found := q.base.Find(k)
	if found == nil {
		return &Mount{}, nil
	}
	parts := []ocispec.Descriptor{found.Tree}
	for i := range found.Packs {
		parts = append(parts, found.Packs[i].descriptor())
	}
	var lost atomic.Bool
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(askAtOnce)
	for _, part := range parts {
		g.Go(func() error {
			has, err := q.p.Target.Has(ctx, part)
			if !has {
				lost.Store(true)
			}
			return err
		})
	}
	if err := g.Wait(); err != nil || lost.Load() {
		return &Mount{}, err
	}
	m := *found
	return &m, nil
}

// Bounds of PushOptions.Settle's default, and of how often a push merges.
const (
	minSettle = 25 * time.Millisecond
	maxSettle = 2 * time.Second
	maxMerges = 20
)

// askAtOnce is how many parts of a mount are asked after at a time.
const askAtOnce = 8

// swapper is a target that sets a name on the condition that it still stands for
// what it did; image.ErrMoved is wrapped where it does not.
type swapper interface {
	Swap(ctx context.Context, desc ocispec.Descriptor, b []byte, name string, was digest.Digest) error
}

// publish sets the name, until it stands for what was made. All else is there
// by the time it looks what the name stands for, so that between look and name
// lies one request.
func (q *push) publish(ctx context.Context) error {
	for attempt := range maxMerges {
		mounts := q.merge()
		conf, manifest, err := documents(mounts)
		if err != nil {
			return err
		}
		if err := q.put(ctx, conf, manifest); err != nil {
			return err
		}
		began := time.Now()
		same, err := q.look(ctx)
		if err != nil {
			return err
		}
		if same {
			done, err := q.name(ctx, mounts, manifest, began)
			if err != nil || done {
				return err
			}
		}
		q.out.Merged++
		// Who lost to others this often lets some of them through.
		pause := min(time.Duration(attempt)*time.Since(began), maxSettle)
		if err := sleep(ctx, rand.N(pause+1)); err != nil {
			return err
		}
	}
	return fmt.Errorf("others kept pushing to it for %d attempts; push again", maxMerges)
}

// name makes the name stand for mounts, and tells whether it still does after a
// while. The look before it began at a time.
func (q *push) name(ctx context.Context, mounts []Mount, manifest document, began time.Time) (stands bool, err error) {
	if target, ok := q.p.Target.(swapper); ok {
		var was digest.Digest
		if q.base != nil {
			was = q.base.Descriptor.Digest
		}
		err := target.Swap(ctx, manifest.desc, manifest.b, q.p.Name, was)
		if errors.Is(err, image.ErrMoved) {
			return false, nil
		}
		return err == nil, err
	}
	if err := q.p.Target.Tag(ctx, manifest.desc, manifest.b, q.p.Name); err != nil {
		return false, err
	}
	q.base = &Artifact{Descriptor: manifest.desc, Mounts: mounts}
	return q.stands(ctx, time.Since(began))
}

// look reads what the name stands for now, and tells whether that is what it
// stood for at the last look. What is of no use to anybody has no mounts.
func (q *push) look(ctx context.Context) (same bool, err error) {
	src, err := q.p.Source()
	if err != nil {
		return false, err
	}
	defer release(src)
	now, err := read(ctx, src, q.p.Name, q.base)
	if err != nil && !useless(err) {
		return false, err
	}
	was := q.base
	q.base = now
	if was == nil || now == nil {
		return was == now, nil
	}
	return was.Descriptor.Digest == now.Descriptor.Digest, nil
}

// useless tells errors about an artifact that a push may take the place of.
func useless(err error) bool {
	return errors.Is(err, ErrNone) || errors.Is(err, ErrCorrupt) || errors.Is(err, ErrMissing)
}

// merge is what was made beside what others had there at the last look.
func (q *push) merge() []Mount {
	all := slices.Clone(q.made)
	size := int64(0)
	for i := range all {
		theirs := q.base.Find(all[i].Key)
		newer := theirs != nil && theirs.Pushed.After(all[i].Pushed)
		q.mark(all[i].Key, newer)
		if newer {
			all[i] = *theirs
		}
		size += all[i].Size
	}
	var others []Mount
	if q.base != nil {
		others = slices.Clone(q.base.Mounts)
	}
	others = slices.DeleteFunc(others, func(m Mount) bool {
		return slices.ContainsFunc(q.made, func(made Mount) bool { return made.Key == m.Key })
	})
	slices.SortStableFunc(others, func(a, b Mount) int { return b.Pushed.Compare(a.Pushed) })
	q.out.Dropped = nil
	for _, m := range others {
		size += m.Size
		if q.o.MaxSize > 0 && size > q.o.MaxSize || q.o.MaxAge > 0 && time.Since(m.Pushed) > q.o.MaxAge {
			size -= m.Size
			q.out.Dropped = append(q.out.Dropped, m.Key)
			continue
		}
		all = append(all, m)
	}
	return all
}

func (q *push) mark(k Key, newer bool) {
	for i := range q.out.Mounts {
		if q.out.Mounts[i].Key == k && q.out.Mounts[i].Err == nil {
			q.out.Mounts[i].Newer = newer
		}
	}
}

// put uploads the config, and the manifest where that does not come with its name,
// as it does to a registry.
func (q *push) put(ctx context.Context, conf, manifest document) error {
	up, err := q.p.Target.Upload(ctx)
	if err != nil {
		return err
	}
	defer up.Abort()
	if _, err := up.Write(conf.b); err != nil {
		return err
	}
	if err := up.Commit(ctx, conf.desc); err != nil {
		return err
	}
	if _, ok := q.p.Target.(swapper); !ok {
		return nil
	}
	return q.p.Target.PutManifest(ctx, manifest.desc, manifest.b)
}

// stands waits for pushes that looked before the name was set, and tells whether
// what was made is still what the name stands for. took is how long this push
// needed from its look to the name.
func (q *push) stands(ctx context.Context, took time.Duration) (bool, error) {
	wait := q.o.Settle
	if wait == 0 {
		wait = min(max(3*took, minSettle), maxSettle)
	}
	settled := time.Now().Add(wait)
	_ = q.remember() // Push says what was wrong with it
	if err := sleep(ctx, time.Until(settled)); err != nil {
		return false, err
	}
	if _, err := q.look(ctx); err != nil {
		return false, err
	}
	for i := range q.made {
		m := q.base.Find(q.made[i].Key)
		if m == nil || m.Pushed.Before(q.made[i].Pushed) {
			return false, nil
		}
	}
	return true, nil
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// confirm tells the agent which directories the artifact has as they are.
func (q *push) confirm(ctx context.Context, mounts []PushMount) error {
	for i := range q.made {
		for j := range q.out.Mounts {
			if q.out.Mounts[j].Key != q.made[i].Key || q.out.Mounts[j].Err != nil || q.out.Mounts[j].Newer {
				continue
			}
			if err := q.s.confirm(ctx, mounts[j].Root, &q.made[i]); err != nil {
				return fmt.Errorf("%s: pushed, but not remembered: %w", q.made[i].Key, err)
			}
		}
	}
	return nil
}
