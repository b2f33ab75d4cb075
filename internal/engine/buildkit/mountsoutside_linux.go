package buildkit

import (
	"context"
	"errors"
	"regexp"
	"slices"

	"github.com/moby/buildkit/cache"
	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/solver/llbsolver/mounts"
	"github.com/moby/buildkit/solver/pb"
	digest "github.com/opencontainers/go-digest"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/lighter-oci/lighter/internal/engine"
)

// register serves what clients ask of the engine's mounts outside of builds.
func (t *mountTravel) register(srv *grpc.Server) {
	registerMounts(srv, map[string]func(grpc.ServerStream) error{usedMethod: t.usedBy, listMethod: t.list, saveMethod: t.save, fillMethod: t.fillOne})
}

func (t *mountTravel) remember(step digest.Digest, m usedMount) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.used == nil || len(t.used) > maxUsed {
		t.used = map[digest.Digest][]usedMount{}
	}
	if m.Base != "" { // made anew, what it starts from has another ref: the mount is here now
		for _, list := range t.used {
			for i := range list {
				if list[i].CacheMount == m.CacheMount {
					list[i].dir = m.dir
				}
			}
		}
	}
	for _, known := range t.used[step] {
		if known == m {
			return
		}
	}
	t.used[step] = append(t.used[step], m)
}

// mountOf finds where a mount is. One that starts from nothing is always where its
// ID says; of the others only those are known that a step was given.
func (t *mountTravel) mountOf(want engine.CacheMount) usedMount {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, list := range t.used {
		for _, m := range list {
			if m.CacheMount == want {
				return m
			}
		}
	}
	if want.Base != "" || want.ID == "" {
		return usedMount{}
	}
	return usedMount{CacheMount: want, dir: want.ID}
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

// existing is a cache in which no mount is made: BuildKit makes another, empty
// one where the one that is looked for is taken.
type existing struct{ cache.Manager }

// GetMutable waits for what is only being counted.
func (e existing) GetMutable(ctx context.Context, id string, opts ...cache.RefOption) (cache.MutableRef, error) {
	return getPatiently(ctx, e.Manager, countedWithin, id, opts...)
}

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
	dirs := map[engine.CacheMount]engine.MountDir{}
	var open func(list []engine.CacheMount) error
	open = func(list []engine.CacheMount) error {
		if len(list) == 0 {
			return t.agent.Serve(ctx, dirs, &byteStream{messages: stream, end: cancel})
		}
		err := t.open(ctx, list[0], func(dir engine.MountDir) error {
			dirs[list[0]] = dir
			return open(list[1:])
		})
		if errors.Is(err, errInUse) {
			dirs[list[0]] = engine.MountDir{Err: errInUse.Error()}
			return open(list[1:])
		}
		return err
	}
	return open(list)
}

// open calls f with the directory of a mount that is there. errInUse is wrapped
// where it cannot be had, and by no other error.
func (t *mountTravel) open(ctx context.Context, want engine.CacheMount, f func(engine.MountDir) error) error {
	m := t.mountOf(want)
	if m.dir == "" {
		return status.Errorf(codes.NotFound, "no step has used cache mount %s", want.ID)
	}
	manager := mounts.NewMountManager("lighter", existing{t.cache}, nil)
	ref, err := manager.MountableCache(ctx, &pb.Mount{CacheOpt: &pb.CacheOpt{ID: m.dir, Sharing: pb.CacheSharingOpt_SHARED}}, nil, nil)
	if err != nil {
		return err
	}
	defer func() { _ = ref.Release(context.WithoutCancel(ctx)) }()
	return t.mounted(ctx, ref, nil, m, f)
}

// basedMount is a name in BuildKit's index that ends in the ref a mount starts from.
var basedMount = regexp.MustCompile(`:[a-z0-9]{25}$`)

// list serves a client that asks which mounts there are. Those that start from
// something are known by the steps that used them only.
func (t *mountTravel) list(stream grpc.ServerStream) error {
	if err := receiveJSON(stream, new(struct{})); err != nil {
		return err
	}
	found, err := t.cache.Search(stream.Context(), cacheDirIndex, true)
	if err != nil {
		return err
	}
	here := map[string]bool{}
	for _, md := range found {
		here[md.GetString(cacheDirKey)] = true
	}
	out := []engine.CacheMount{}
	t.mu.Lock()
	for _, list := range t.used {
		for _, m := range list {
			if here[m.dir] && !slices.Contains(out, m.CacheMount) {
				out = append(out, m.CacheMount)
			}
		}
	}
	t.mu.Unlock()
	for dir := range here {
		if !basedMount.MatchString(dir) && !slices.ContainsFunc(out, func(m engine.CacheMount) bool { return m.ID == dir }) {
			out = append(out, engine.CacheMount{ID: dir, Platform: platformName(nil)})
		}
	}
	sortMounts(out)
	return sendJSON(stream, out)
}

// fillOne serves a client that has contents for one mount. Where the engine has
// none of that name, it gets its name when it is whole.
func (t *mountTravel) fillOne(stream grpc.ServerStream) error {
	ctx, cancel := context.WithCancel(stream.Context())
	defer cancel()
	list, err := whichMounts(ctx)
	if err != nil {
		return err
	}
	if len(list) != 1 {
		return errOneMount
	}
	serve := func(dir engine.MountDir) error {
		return t.agent.Serve(ctx, map[engine.CacheMount]engine.MountDir{list[0]: dir}, &byteStream{messages: stream, end: cancel})
	}
	made := false
	if m := t.mountOf(list[0]); m.dir != "" && m.Base == "" {
		opts := mountOptions(&pb.Mount{Dest: m.Name(), CacheOpt: &pb.CacheOpt{ID: m.ID}})
		if err := t.make(ctx, m.dir, func(ctx context.Context) (cache.MutableRef, error) {
			made = true
			ref, err := t.cache.New(ctx, nil, nil, opts...)
			if err != nil {
				return nil, err
			}
			if err := t.mounted(ctx, ref, nil, m, serve); err != nil {
				return nil, errors.Join(err, discard(ctx, ref))
			}
			return ref, nil
		}); err != nil || made {
			return err
		}
	}
	err = t.open(ctx, list[0], serve)
	if errors.Is(err, errInUse) {
		return status.Errorf(codes.FailedPrecondition, "cache mount %s is %v", list[0].ID, errInUse)
	}
	return err
}
