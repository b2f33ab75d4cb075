package buildkit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/moby/buildkit/cache"
	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/frontend"
	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/session/sshforward"
	"github.com/moby/buildkit/snapshot"
	"github.com/moby/buildkit/solver"
	"github.com/moby/buildkit/solver/llbsolver/linuxresources"
	"github.com/moby/buildkit/solver/llbsolver/mounts"
	"github.com/moby/buildkit/solver/llbsolver/ops"
	"github.com/moby/buildkit/solver/pb"
	"github.com/moby/buildkit/util/flightcontrol"
	"github.com/moby/buildkit/util/progress"
	"github.com/moby/buildkit/worker"
	digest "github.com/opencontainers/go-digest"

	"github.com/lighter-oci/lighter/internal/engine"
)

// mountTravel lets the contents of cache mounts travel. A step with cache
// mounts gets a cache manager of its own, which sees the step ask for each of
// them. One that BuildKit has to make new is filled before it gets its name in
// BuildKit's index: a kill before that leaves a directory that nobody finds.
type mountTravel struct {
	agent   engine.MountAgent // nil lets nothing travel
	cache   cache.Manager
	records string // directory of the agent's records
	making  flightcontrol.Group[struct{}]

	mu      sync.Mutex
	used    map[digest.Digest][]usedMount // by step
	cleared map[string][]string           // IDs of mounts that nothing is restored into, by session
}

// usedMount is a cache mount that a step was given.
type usedMount struct {
	engine.CacheMount
	dir      string // key in BuildKit's index: the ID, and the local ref of the base
	selector string // directory of the ref that is mounted, "" for its root
	sharing  pb.CacheSharingOpt
}

// ResolveOp gives steps with cache mounts the manager that fills them.
func (w *layerWorker) ResolveOp(v solver.Vertex, s frontend.FrontendLLBBridge, sm *session.Manager, proxy worker.ProxyOpt) (solver.Op, error) {
	base, ok := v.Sys().(*pb.Op)
	if !ok || w.mounts.agent == nil || proxy.Network {
		return w.Worker.ResolveOp(v, s, sm, proxy)
	}
	exec, ok := base.Op.(*pb.Op_Exec)
	if !ok || len(cacheMounts(exec.Exec)) == 0 {
		return w.Worker.ResolveOp(v, s, sm, proxy)
	}
	var limits *pb.LinuxResources
	if m, ok := v.Options().Metadata.(*linuxresources.Metadata); ok && m != nil {
		limits = m.LinuxResources
	}
	step := &stepMounts{Manager: w.CacheMgr, travel: w.mounts, sessions: sm, step: v, exec: exec.Exec, platform: platformName(base.Platform)}
	return ops.NewExecOp(v, exec, base.Platform, step, w.ParallelismSem, sm, w.WorkerOpt.Executor, w, limits, false)
}

// stepMounts is the cache as one step sees it. BuildKit prepares the mounts of
// a step one after the other: the root first, then for a cache mount it searches
// its index for the directory, and takes what it found or makes a new one.
//
// It does the latter under a lock that all steps of a process share. So what a
// step may need is made and filled before, when it asks for its root; but a
// mount that starts from something has a name that is not known until it is
// searched for, and is filled then.
type stepMounts struct {
	cache.Manager
	travel   *mountTravel
	sessions *session.Manager
	step     solver.Vertex
	exec     *pb.ExecOp
	platform string

	ahead  bool       // that what is known beforehand was seen to
	wanted *usedMount // the directory that was searched for last
}

// cacheDirIndex is how BuildKit's index of cache mounts begins (mount.go of
// solver/llbsolver/mounts); a test holds it against BuildKit.
const cacheDirIndex = cacheDirKey + ":"

const cacheDirKey = "cache-dir"

// Search sees which mount is prepared next.
func (s *stepMounts) Search(ctx context.Context, index string, prefix bool) ([]cache.RefMetadata, error) {
	if dir, ok := strings.CutPrefix(index, cacheDirIndex); ok && !prefix {
		if s.wanted = s.mount(dir); s.wanted != nil {
			s.travel.remember(s.step.Digest(), *s.wanted)
		}
	}
	return s.Manager.Search(ctx, index, prefix)
}

// GetMutable takes a mount that is there. What has a shared one is no other step,
// for those get it from BuildKit's list of them; it is BuildKit's garbage
// collection, which holds each record for as long as it counts its bytes, and
// would have the step begin with a new mount. A private one may be a step's.
func (s *stepMounts) GetMutable(ctx context.Context, id string, opts ...cache.RefOption) (cache.MutableRef, error) {
	patience := time.Duration(0)
	if s.wanted != nil {
		switch s.wanted.sharing {
		case pb.CacheSharingOpt_SHARED:
			patience = countedWithin
		case pb.CacheSharingOpt_PRIVATE:
			patience = countedWithin / 10
		}
	}
	ref, err := getPatiently(ctx, s.Manager, patience, id, opts...)
	if err == nil {
		s.wanted = nil
	}
	return ref, err
}

// getPatiently is GetMutable of what somebody may have for a moment.
func getPatiently(ctx context.Context, manager cache.Manager, patience time.Duration, id string, opts ...cache.RefOption) (cache.MutableRef, error) {
	for end := time.Now().Add(patience); ; {
		ref, err := manager.GetMutable(ctx, id, opts...)
		if !errors.Is(err, cache.ErrLocked) || time.Now().After(end) {
			return ref, err
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// mount finds the mount that has its contents in the directory dir.
func (s *stepMounts) mount(dir string) *usedMount {
	for _, m := range cacheMounts(s.exec) {
		if id := m.CacheOpt.ID; dir == id || m.Input >= 0 && strings.HasPrefix(dir, id+":") {
			u := s.uses(m, dir)
			return &u
		}
	}
	return nil
}

// uses is a mount of the step that has its contents in the directory dir.
func (s *stepMounts) uses(m *pb.Mount, dir string) usedMount {
	u := usedMount{CacheMount: engine.CacheMount{ID: m.CacheOpt.ID, Platform: s.platform}, dir: dir, selector: m.Selector, sharing: m.CacheOpt.Sharing}
	if inputs := s.step.Inputs(); m.Input >= 0 && int(m.Input) < len(inputs) {
		u.Base = recipeOf(inputs[m.Input].Vertex, map[digest.Digest]string{})
	}
	return u
}

// recipeOf is the recipe of a step. known holds those of steps that were met before.
func recipeOf(v solver.Vertex, known map[digest.Digest]string) string {
	if r, ok := known[v.Digest()]; ok {
		return r
	}
	inputs := make([]string, len(v.Inputs()))
	for i, in := range v.Inputs() {
		inputs[i] = fmt.Sprintf("%s %d", recipeOf(in.Vertex, known), in.Index)
	}
	op, _ := v.Sys().(*pb.Op)
	known[v.Digest()] = recipe(op, inputs)
	return known[v.Digest()]
}

// New makes something that the step needs. A mount that is new is filled where
// there is something to fill it with; where that fails, it is empty: the
// session's side has told the user why.
func (s *stepMounts) New(ctx context.Context, parent cache.ImmutableRef, group session.Group, opts ...cache.RefOption) (cache.MutableRef, error) {
	wanted := s.wanted
	s.wanted = nil
	if wanted == nil {
		if err := s.lookAhead(ctx, group); err != nil {
			return nil, err
		}
	} else if from := s.source(ctx, group, wanted.ID); from != nil && wanted.Base != "" {
		ref, err := s.filled(ctx, from, parent, group, *wanted, opts...)
		if err == nil || ctx.Err() != nil {
			return ref, err
		}
	}
	return s.Manager.New(ctx, parent, group, opts...)
}

// lookAhead makes and fills the step's mounts whose names are known. Errors are
// the context's: others leave a mount for BuildKit to make.
func (s *stepMounts) lookAhead(ctx context.Context, group session.Group) error {
	if s.ahead {
		return nil
	}
	s.ahead = true
	for _, m := range cacheMounts(s.exec) {
		if m.Input >= 0 {
			continue
		}
		u := s.uses(m, m.CacheOpt.ID)
		s.travel.remember(s.step.Digest(), u) // it may join a mount that is in use, and never search for it
		from := s.source(ctx, group, u.ID)
		if from == nil {
			continue
		}
		_ = s.travel.make(ctx, u.dir, func(ctx context.Context) (cache.MutableRef, error) {
			return s.filled(ctx, from, nil, group, u, mountOptions(m)...)
		})
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
	return nil
}

// mountOptions are those with which BuildKit makes a cache mount.
func mountOptions(m *pb.Mount) []cache.RefOption {
	name := "cached mount " + m.Dest
	if id := strings.TrimPrefix(m.CacheOpt.ID, "/"); id != m.Dest {
		name += fmt.Sprintf(" with id %q", id)
	}
	return []cache.RefOption{cache.WithRecordType(client.UsageRecordTypeCacheMount), cache.WithDescription(name), cache.CachePolicyRetain}
}

// make gives the index a mount, made by f, where it has none. Who comes while
// another is making it waits for that one.
func (t *mountTravel) make(ctx context.Context, dir string, f func(context.Context) (cache.MutableRef, error)) error {
	_, err := t.making.Do(ctx, dir, func(ctx context.Context) (struct{}, error) {
		found, err := mounts.SearchCacheDir(ctx, t.cache, dir, false)
		if err != nil || len(found) > 0 {
			return struct{}{}, err
		}
		ref, err := f(ctx)
		if err != nil {
			return struct{}{}, err
		}
		err = ref.SetString(cacheDirKey, dir, cacheDirIndex+dir)
		return struct{}{}, errors.Join(err, ref.Release(context.WithoutCancel(ctx)))
	})
	return err
}

// filled is a new mount with its contents. One that could not be filled whole is
// gone: nobody shall keep a part, and a cache mount's directory outlives its
// release otherwise.
func (s *stepMounts) filled(ctx context.Context, from session.Caller, parent cache.ImmutableRef, group session.Group, m usedMount, opts ...cache.RefOption) (cache.MutableRef, error) {
	ref, err := s.Manager.New(ctx, parent, group, opts...)
	if err != nil {
		return nil, err
	}
	if err := s.fill(ctx, from, ref, group, m); err != nil {
		return nil, errors.Join(err, discard(ctx, ref))
	}
	return ref, nil
}

// discard lets go of a mount that has no name.
func discard(ctx context.Context, ref cache.MutableRef) error {
	return errors.Join(ref.SetCachePolicyDefault(), ref.Release(context.WithoutCancel(ctx)))
}

// errNoMounts is a session that has nothing to do with cache mounts.
var errNoMounts = errors.New("the session has no cache mounts")

// source is the session that has contents for a mount of the step; nil for none,
// and where the mount was cleared away for this build.
func (s *stepMounts) source(ctx context.Context, group session.Group, id string) (from session.Caller) {
	if s.travel.clears(group, id) {
		return nil
	}
	_ = s.sessions.Any(ctx, group, func(_ context.Context, _ string, caller session.Caller) error {
		if !caller.Supports(mountsMethod(restoreMethod)) {
			return errNoMounts
		}
		from = caller
		return nil
	})
	return from
}

// fill asks a session for the contents.
func (s *stepMounts) fill(ctx context.Context, from session.Caller, ref cache.MutableRef, group session.Group, m usedMount) error {
	about, err := aboutMounts(from.Context(ctx), []engine.CacheMount{m.CacheMount})
	if err != nil {
		return err
	}
	about, cancel := context.WithCancel(about)
	defer cancel()
	stream, err := from.Conn().NewStream(about, &bothWays, mountsMethod(restoreMethod))
	if err != nil {
		return err
	}
	done := progress.OneOff(ctx, "restoring cache mount "+m.Name())
	return done(s.travel.mounted(ctx, ref, group, m, func(dir engine.MountDir) error {
		dir.New = true
		conn := &byteStream{messages: stream, end: cancel}
		if err := s.travel.agent.Serve(ctx, map[engine.CacheMount]engine.MountDir{m.CacheMount: dir}, conn); err != nil {
			return err
		}
		if err := stream.RecvMsg(new(sshforward.BytesMessage)); !errors.Is(err, io.EOF) {
			return err // the session's side failed
		}
		return nil
	}))
}

// mounted calls f with the directory that a step would see.
func (t *mountTravel) mounted(ctx context.Context, ref cache.MutableRef, group session.Group, m usedMount, f func(engine.MountDir) error) (err error) {
	mount, err := ref.Mount(ctx, false, group)
	if err != nil {
		return err
	}
	local := snapshot.LocalMounter(mount)
	dir, err := local.Mount()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, local.Unmount()) }()
	return f(engine.MountDir{Dir: filepath.Join(dir, filepath.Join("/", m.selector)), Record: filepath.Join(t.records, recordName(m.dir, m.selector))})
}
