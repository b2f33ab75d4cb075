package buildkit

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/containerd/platforms"
	"github.com/moby/buildkit/cache"
	"github.com/moby/buildkit/frontend"
	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/session/sshforward"
	"github.com/moby/buildkit/snapshot"
	"github.com/moby/buildkit/solver"
	"github.com/moby/buildkit/solver/llbsolver/linuxresources"
	"github.com/moby/buildkit/solver/llbsolver/mounts"
	"github.com/moby/buildkit/solver/llbsolver/ops"
	"github.com/moby/buildkit/solver/pb"
	"github.com/moby/buildkit/worker"
	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

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

	mu   sync.Mutex
	used map[digest.Digest][]usedMount // by step
}

// usedMount is a cache mount that a step was given.
type usedMount struct {
	engine.CacheMount
	dir      string // key in BuildKit's index: the ID, and the local ref of the base
	selector string // directory of the ref that is mounted, "" for its root
}

// maxUsed bounds what is remembered for clients that never ask.
const maxUsed = 10_000

// ResolveOp gives steps with cache mounts the manager that fills them.
func (w *layerWorker) ResolveOp(v solver.Vertex, s frontend.FrontendLLBBridge, sm *session.Manager, proxy worker.ProxyOpt) (solver.Op, error) {
	base, ok := v.Sys().(*pb.Op)
	if !ok || w.mounts.agent == nil || proxy.Network {
		return w.Worker.ResolveOp(v, s, sm, proxy)
	}
	exec, ok := base.Op.(*pb.Op_Exec)
	if !ok || !hasCacheMount(exec.Exec) {
		return w.Worker.ResolveOp(v, s, sm, proxy)
	}
	var limits *pb.LinuxResources
	if m, ok := v.Options().Metadata.(*linuxresources.Metadata); ok && m != nil {
		limits = m.LinuxResources
	}
	step := &stepMounts{Manager: w.CacheMgr, travel: w.mounts, sessions: sm, step: v, exec: exec.Exec, platform: platformName(base.Platform)}
	return ops.NewExecOp(v, exec, base.Platform, step, w.ParallelismSem, sm, w.WorkerOpt.Executor, w, limits, false)
}

func hasCacheMount(op *pb.ExecOp) bool {
	for _, m := range op.Mounts {
		if m.MountType == pb.MountType_CACHE {
			return true
		}
	}
	return false
}

func platformName(p *pb.Platform) string {
	if p == nil {
		return platforms.Format(platforms.Normalize(platforms.DefaultSpec()))
	}
	return platforms.Format(ocispecs.Platform{OS: p.OS, Architecture: p.Architecture, Variant: p.Variant})
}

// stepMounts is the cache as one step sees it. BuildKit prepares the mounts of
// a step one after the other: it searches its index for the directory, then
// takes what it found or makes a new one.
type stepMounts struct {
	cache.Manager
	travel   *mountTravel
	sessions *session.Manager
	step     solver.Vertex
	exec     *pb.ExecOp
	platform string

	wanted *usedMount // the directory that was searched for last
}

// cacheDirIndex is how BuildKit's index of cache mounts begins (mount.go of
// solver/llbsolver/mounts); a test holds it against BuildKit.
const cacheDirIndex = "cache-dir:"

// Search sees which mount is prepared next.
func (s *stepMounts) Search(ctx context.Context, index string, prefix bool) ([]cache.RefMetadata, error) {
	if dir, ok := strings.CutPrefix(index, cacheDirIndex); ok && !prefix {
		s.wanted = s.mount(dir)
	}
	return s.Manager.Search(ctx, index, prefix)
}

// mount finds the mount that has its contents in the directory dir.
func (s *stepMounts) mount(dir string) *usedMount {
	for _, m := range s.exec.Mounts {
		if m.MountType != pb.MountType_CACHE || m.CacheOpt == nil {
			continue
		}
		id := m.CacheOpt.ID
		if dir != id && !(m.Input >= 0 && strings.HasPrefix(dir, id+":")) {
			continue
		}
		u := &usedMount{CacheMount: engine.CacheMount{ID: id, Platform: s.platform}, dir: dir, selector: m.Selector}
		if inputs := s.step.Inputs(); m.Input >= 0 && int(m.Input) < len(inputs) {
			u.Base = recipe(inputs[m.Input].Vertex, map[digest.Digest]string{})
		}
		return u
	}
	return nil
}

// recipe is a digest of how a step comes about that is the same in any build:
// those of BuildKit's vertices have in them which session local files come
// from. known holds those of steps that were met before.
func recipe(v solver.Vertex, known map[digest.Digest]string) string {
	if r, ok := known[v.Digest()]; ok {
		return r
	}
	sum := sha256.New()
	for _, in := range v.Inputs() {
		fmt.Fprintf(sum, "%s %d\n", recipe(in.Vertex, known), in.Index)
	}
	if op, ok := v.Sys().(*pb.Op); ok {
		op = op.CloneVT()
		op.Inputs = nil
		if src := op.GetSource(); src != nil && strings.HasPrefix(src.Identifier, "local://") {
			src.Attrs = nil
		}
		b, _ := proto.MarshalOptions{Deterministic: true}.Marshal(op) // what was unmarshaled
		sum.Write(b)
	}
	r := digest.NewDigest(digest.SHA256, sum).String()
	known[v.Digest()] = r
	return r
}

// GetMutable takes a mount that is there.
func (s *stepMounts) GetMutable(ctx context.Context, id string, opts ...cache.RefOption) (cache.MutableRef, error) {
	ref, err := s.Manager.GetMutable(ctx, id, opts...)
	if err == nil && s.wanted != nil {
		s.travel.remember(s.step.Digest(), *s.wanted)
		s.wanted = nil
	}
	return ref, err
}

// New makes a mount and fills it, or something else that the step needs.
func (s *stepMounts) New(ctx context.Context, parent cache.ImmutableRef, group session.Group, opts ...cache.RefOption) (cache.MutableRef, error) {
	wanted := s.wanted
	s.wanted = nil
	ref, err := s.Manager.New(ctx, parent, group, opts...)
	if err != nil || wanted == nil {
		return ref, err
	}
	s.travel.remember(s.step.Digest(), *wanted)
	if err := s.fill(ctx, ref, group, *wanted); err != nil {
		// Part of it may be there, which nobody shall keep: a cache mount's
		// directory outlives its release otherwise. The session's side has told
		// the user why.
		gone := errors.Join(ref.SetCachePolicyDefault(), ref.Release(context.WithoutCancel(ctx)))
		if ctx.Err() != nil {
			return nil, errors.Join(err, gone)
		}
		return s.Manager.New(ctx, parent, group, opts...)
	}
	return ref, nil
}

// fill asks the build's session for the contents. A session that has no mounts
// to give is none the worse.
func (s *stepMounts) fill(ctx context.Context, ref cache.MutableRef, group session.Group, m usedMount) error {
	return s.sessions.Any(ctx, group, func(ctx context.Context, _ string, caller session.Caller) error {
		if !caller.Supports(mountsMethod(restoreMethod)) {
			return nil
		}
		about, err := aboutMounts(ctx, []engine.CacheMount{m.CacheMount})
		if err != nil {
			return err
		}
		about, cancel := context.WithCancel(about)
		defer cancel()
		stream, err := caller.Conn().NewStream(about, &bothWays, mountsMethod(restoreMethod))
		if err != nil {
			return err
		}
		return s.travel.mounted(ctx, ref, group, m, func(dir engine.MountDir) error {
			conn := &byteStream{messages: stream, end: cancel}
			if err := s.travel.agent.Serve(ctx, map[engine.CacheMount]engine.MountDir{m.CacheMount: dir}, conn); err != nil {
				return err
			}
			if err := stream.RecvMsg(new(sshforward.BytesMessage)); !errors.Is(err, io.EOF) {
				return err // the session's side failed
			}
			return nil
		})
	})
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
	name := digest.FromString(m.dir + "\x00" + m.selector).Encoded()
	return f(engine.MountDir{Dir: filepath.Join(dir, filepath.Join("/", m.selector)), Record: filepath.Join(t.records, name)})
}

func (t *mountTravel) remember(step digest.Digest, m usedMount) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.used == nil || len(t.used) > maxUsed {
		t.used = map[digest.Digest][]usedMount{}
	}
	for _, known := range t.used[step] {
		if known == m {
			return
		}
	}
	t.used[step] = append(t.used[step], m)
}

// mountOf finds a mount that a step was given.
func (t *mountTravel) mountOf(want engine.CacheMount) (usedMount, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, list := range t.used {
		for _, m := range list {
			if m.CacheMount == want {
				return m, true
			}
		}
	}
	return usedMount{}, false
}

// usedBy serves a client that asks which mounts its steps were given.
func (t *mountTravel) usedBy(stream grpc.ServerStream) error {
	var steps []digest.Digest
	if err := receiveJSON(stream, &steps); err != nil {
		return err
	}
	var out []engine.CacheMount
	t.mu.Lock()
	for _, step := range steps {
		for _, m := range t.used[step] {
			if !slices.Contains(out, m.CacheMount) {
				out = append(out, m.CacheMount)
			}
		}
	}
	t.mu.Unlock()
	return sendJSON(stream, out)
}

// errInUse is a mount that a build has for itself, or that is gone.
var errInUse = errors.New("in use by a build, or pruned")

// existing is a cache in which no mount is made: BuildKit makes another, empty
// one where the one that is looked for is taken.
type existing struct{ cache.Manager }

func (existing) New(context.Context, cache.ImmutableRef, session.Group, ...cache.RefOption) (cache.MutableRef, error) {
	return nil, errInUse
}

// save serves a client that wants what mounts hold. They are taken as shared
// ones, so that a build that shares them and this do not wait for each other;
// those that another has for itself are left out.
func (t *mountTravel) save(stream grpc.ServerStream) error {
	ctx, cancel := context.WithCancel(stream.Context())
	defer cancel()
	list, err := whichMounts(ctx)
	if err != nil {
		return err
	}
	manager := mounts.NewMountManager("lighter", existing{t.cache}, nil)
	dirs := map[engine.CacheMount]engine.MountDir{}
	var open func(list []engine.CacheMount) error
	open = func(list []engine.CacheMount) error {
		if len(list) == 0 {
			return t.agent.Serve(ctx, dirs, &byteStream{messages: stream, end: cancel})
		}
		m, ok := t.mountOf(list[0])
		if !ok {
			return status.Errorf(codes.NotFound, "no step has used cache mount %s", list[0].ID)
		}
		ref, err := manager.MountableCache(ctx, &pb.Mount{CacheOpt: &pb.CacheOpt{ID: m.dir, Sharing: pb.CacheSharingOpt_SHARED}}, nil, nil)
		if errors.Is(err, errInUse) {
			return open(list[1:])
		}
		if err != nil {
			return err
		}
		defer func() { _ = ref.Release(context.WithoutCancel(ctx)) }()
		return t.mounted(ctx, ref, nil, m, func(dir engine.MountDir) error {
			dirs[m.CacheMount] = dir
			return open(list[1:])
		})
	}
	return open(list)
}
