package buildkit

import (
	"context"
	"maps"
	"slices"

	"github.com/moby/buildkit/executor"
	"github.com/moby/buildkit/frontend"
	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/solver/pb"
	digest "github.com/opencontainers/go-digest"
)

// clearedMounts is a frontend that writes down which cache mounts its builds begin
// without. Where a step runs without cache, BuildKit clears away the mounts that it
// has, before anything of the definition runs (detectPrunedCacheID of
// solver/llbsolver); what another step of that build is given must not bring back
// what they held.
type clearedMounts struct {
	frontend.Frontend
	mounts *mountTravel
}

// Solve implements frontend.Frontend.
func (c clearedMounts) Solve(ctx context.Context, llb frontend.FrontendLLBBridge, exec executor.Executor, opt map[string]string, inputs map[string]*pb.Definition, sid string, sm *session.Manager) (*frontend.Result, error) {
	return c.Frontend.Solve(ctx, clearedBridge{llb, c.mounts, sm}, exec, opt, inputs, sid, sm)
}

// clearedBridge sees the definitions.
type clearedBridge struct {
	frontend.FrontendLLBBridge
	mounts   *mountTravel
	sessions *session.Manager
}

// Solve implements frontend.FrontendLLBBridge.
func (b clearedBridge) Solve(ctx context.Context, req frontend.SolveRequest, sid string) (*frontend.Result, error) {
	if ids := clearedBy(req.Definition); len(ids) > 0 {
		b.mounts.clear(ctx, b.sessions, sid, ids)
	}
	return b.FrontendLLBBridge.Solve(ctx, req, sid)
}

// clearedBy are the IDs of the cache mounts that a definition clears away.
func clearedBy(def *pb.Definition) (ids []string) {
	if def == nil {
		return nil
	}
	anew := map[digest.Digest]bool{}
	for dgst, meta := range def.Metadata {
		if meta.GetIgnoreCache() {
			anew[digest.Digest(dgst)] = true
		}
	}
	if len(anew) == 0 {
		return nil
	}
	for _, b := range def.Def {
		op := &pb.Op{}
		if !anew[digest.FromBytes(b)] || op.UnmarshalVT(b) != nil { // BuildKit says what is wrong with it
			continue
		}
		for _, m := range cacheMounts(op.GetExec()) {
			ids = append(ids, m.CacheOpt.ID)
		}
	}
	return ids
}

// clear remembers what a session's builds begin without, for as long as it lasts.
func (t *mountTravel) clear(ctx context.Context, sessions *session.Manager, sid string, ids []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	maps.DeleteFunc(t.cleared, func(id string, _ []string) bool {
		c, err := sessions.Get(ctx, id, true)
		return err != nil || c == nil
	})
	if t.cleared == nil {
		t.cleared = map[string][]string{}
	}
	t.cleared[sid] = append(t.cleared[sid], ids...)
}

// clears tells whether a build of one of these sessions begins without the mount.
func (t *mountTravel) clears(group session.Group, id string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.ContainsFunc(session.AllSessionIDs(group), func(sid string) bool { return slices.Contains(t.cleared[sid], id) })
}
