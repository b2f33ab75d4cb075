package buildkit

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"github.com/moby/buildkit/client"
	gateway "github.com/moby/buildkit/frontend/gateway/client"
	"github.com/moby/buildkit/solver/pb"
	digest "github.com/opencontainers/go-digest"
	"github.com/tonistiigi/fsutil"
	"golang.org/x/sync/errgroup"

	"github.com/lighter-oci/lighter/internal/engine"
)

// labelMounts tells clients that a worker gives out cache mounts by itself.
const labelMounts = "lighter.mounts"

// buildUse is a cache mount of a build.
type buildUse struct {
	mountUse
	build *client.SolveOpt // has what the mount may start from
}

// solveWithMounts is Solve. For an engine that is not lighter's, the frontend's
// answer says which cache mounts there are, and new ones are filled before anything
// runs.
func (c *Client) solveWithMounts(ctx context.Context, req engine.Request, opt client.SolveOpt, statuses chan *client.SolveStatus) (*client.SolveResponse, error) {
	if req.Mounts == nil && req.SaveTo == nil {
		return c.bk.Solve(ctx, nil, opt, statuses)
	}
	a, err := c.foreign(ctx)
	if err != nil {
		close(statuses)
		return nil, err
	}
	if a == nil {
		return c.bk.Solve(ctx, nil, opt, statuses)
	}
	ask := gateway.SolveRequest{Frontend: opt.Frontend, FrontendOpt: maps.Clone(opt.FrontendAttrs)}
	if a.err == nil {
		opt.LocalMounts[localAgent] = a.files
	}
	return c.bk.Build(ctx, opt, "lighter", func(ctx context.Context, gw gateway.Client) (*gateway.Result, error) {
		res, err := gw.Solve(ctx, ask)
		if err != nil {
			return nil, err
		}
		uses, err := usesOf(ctx, res)
		if err != nil {
			stay(statuses, err)
		}
		c.remember(uses, &opt)
		if a.gw = gw; req.Mounts != nil {
			return res, c.restore(ctx, req.Mounts, a, uses, statuses)
		}
		return res, nil
	}, statuses)
}

// stay warns that nothing travels, which fails no build.
func stay(statuses chan *client.SolveStatus, err error) {
	statuses <- &client.SolveStatus{Warnings: []*client.VertexWarning{{Short: []byte("cache mounts stay where they are: " + err.Error())}}}
}

// usesOf are the cache mounts that a result may need.
func usesOf(ctx context.Context, res *gateway.Result) (uses []mountUse, err error) {
	err = res.EachRef(func(ref gateway.Reference) error {
		state, err := ref.ToState()
		if err != nil {
			return err
		}
		def, err := state.Marshal(ctx)
		if err != nil {
			return err
		}
		more, err := mountUses(def.ToPB())
		uses = append(uses, more...)
		return err
	})
	return uses, err
}

// maxUsed bounds what is remembered for those who never ask, in steps.
const maxUsed = 10_000

// remember keeps what a build's steps mount, until somebody saves it.
func (c *Client) remember(uses []mountUse, build *client.SolveOpt) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.used == nil || len(c.used) > maxUsed {
		c.used = map[string][]buildUse{}
	}
	for _, u := range uses {
		delete(c.used, u.step.String()) // of an earlier build
	}
	for _, u := range uses {
		step := u.step.String()
		c.used[step] = append(c.used[step], buildUse{u, build})
	}
}

// atOnce bounds how many agents run at the same time.
const atOnce = 4

// restore fills those of uses that the engine does not have yet. Errors are the
// context's: from has said what else there was.
func (c *Client) restore(ctx context.Context, from engine.Mounts, a *agents, uses []mountUse, statuses chan *client.SolveStatus) error {
	if len(uses) == 0 {
		return nil
	}
	seen, cleared := map[string]bool{}, map[string]bool{}
	var ids []string
	for _, u := range uses {
		cleared[u.ID] = cleared[u.ID] || u.anew
		ids = append(ids, u.ID, unfinishedID+u.ID)
	}
	here, err := c.mountsThere(ctx, ids...)
	if half := here.half(); err == nil && len(half) > 0 {
		if err = c.drop(ctx, half); err == nil {
			here, err = c.mountsThere(ctx, ids...)
		}
	}
	if err != nil {
		stay(statuses, err)
		return ctx.Err()
	}
	var eg errgroup.Group
	eg.SetLimit(atOnce)
	for _, u := range uses {
		// Those that start from something have no name that is known.
		if seen[u.dir()] || cleared[u.ID] || u.Base == "" && here.whole(u.ID) {
			continue
		}
		seen[u.dir()] = true
		eg.Go(func() error {
			done := func() {}
			l := &lateAgent{start: func() (*agentProcess, error) {
				done = said(statuses, "restoring cache mount "+u.Name())
				return a.startFilling(ctx, u, here, gateway.Mount{
					Dest: "/" + agentDir + "/unfinished", MountType: pb.MountType_CACHE, CacheOpt: &pb.CacheOpt{ID: unfinishedID + u.ID},
				})
			}}
			err := from.Restore(ctx, u.CacheMount, l)
			l.end()
			if err == nil && l.proc != nil {
				_ = c.dropMount(ctx, unfinishedID+u.ID) // else the next build's agent looks at the mount
			}
			done()
			return ctx.Err()
		})
	}
	return eg.Wait()
}

// said shows something among a build's steps until the function it answers is
// called.
func said(statuses chan *client.SolveStatus, name string) func() {
	began := time.Now()
	v := client.Vertex{Digest: digest.FromString(name + began.String()), Name: "[internal] " + name, Started: &began}
	statuses <- &client.SolveStatus{Vertexes: []*client.Vertex{&v}}
	return func() {
		now, v := time.Now(), v
		v.Completed = &now
		statuses <- &client.SolveStatus{Vertexes: []*client.Vertex{&v}}
	}
}

func (a *agents) save(ctx context.Context, steps Ran, to engine.Mounts) error {
	var uses []mountUse
	build := &client.SolveOpt{}
	a.c.mu.Lock()
	for _, step := range slices.Sorted(maps.Keys(steps)) {
		for _, u := range a.c.used[step] {
			build, u.began = u.build, steps[step]
			i := slices.IndexFunc(uses, func(k mountUse) bool { return k.CacheMount == u.CacheMount })
			if i < 0 {
				uses = append(uses, u.mountUse)
			} else if u.began.Before(uses[i].began) {
				uses[i].began = u.began
			}
		}
	}
	a.c.mu.Unlock()
	return a.with(ctx, build, uses, a.startSaving, to.Save)
}

// with calls f with the stream of an agent beside the mounts.
func (a *agents) with(ctx context.Context, build *client.SolveOpt, uses []mountUse,
	start func(context.Context, []mountUse) (*agentProcess, error), f func(context.Context, []engine.CacheMount, io.ReadWriteCloser) error) (err error) {
	if len(uses) == 0 {
		return nil
	}
	if a.err != nil {
		return a.err
	}
	list := make([]engine.CacheMount, len(uses))
	for i, u := range uses {
		list[i] = u.CacheMount
	}
	opt := client.SolveOpt{
		LocalMounts: map[string]fsutil.FS{}, OCIStores: build.OCIStores, SharedKey: build.SharedKey,
		Session: build.Session, AllowedEntitlements: build.AllowedEntitlements,
		FrontendAttrs: map[string]string{}, Internal: true, // no build for the engine's history
	}
	maps.Copy(opt.LocalMounts, build.LocalMounts)
	opt.LocalMounts[localAgent] = a.files
	_, berr := a.c.bk.Build(ctx, opt, "lighter", func(ctx context.Context, gw gateway.Client) (*gateway.Result, error) {
		a.gw = gw
		l := &lateAgent{start: func() (*agentProcess, error) { return start(ctx, uses) }}
		defer l.end()
		err = f(ctx, list, l)
		return gateway.NewResult(), nil
	}, nil)
	if err != nil {
		return err
	}
	return berr
}

// foreign is what brings agents to an engine that is not lighter's; nil where it
// is, and gives out its cache mounts by itself.
func (c *Client) foreign(ctx context.Context) (*agents, error) {
	if c.opt.Embedded {
		return nil, nil
	}
	workers, err := c.bk.ListWorkers(ctx)
	if err != nil {
		return nil, err
	}
	if slices.ContainsFunc(workers, func(w *client.WorkerInfo) bool { return w.Labels[labelMounts] != "" }) {
		return nil, nil
	}
	return c.agents(workers), nil
}

func (a *agents) list(ctx context.Context) ([]engine.CacheMount, error) {
	there, err := a.c.mountsThere(ctx)
	if err != nil {
		return nil, err
	}
	list := []engine.CacheMount{}
	for _, t := range there {
		if m := (engine.CacheMount{ID: t.id, Platform: a.platform}); t.base == "" && !t.ours() && !slices.Contains(list, m) {
			list = append(list, m)
		}
	}
	sortMounts(list)
	return list, nil
}

func (a *agents) push(ctx context.Context, list []engine.CacheMount, to engine.Mounts) error {
	there, err := a.c.mountsThere(ctx)
	if err != nil {
		return err
	}
	var uses []mountUse
	for _, m := range list {
		if there.has(m.ID, false) && m.Base == "" {
			uses = append(uses, useOf(m))
		}
	}
	return a.with(ctx, &client.SolveOpt{}, uses, a.startSaving, to.Save)
}

func (a *agents) pull(ctx context.Context, m engine.CacheMount, from engine.Mounts) error {
	there, err := a.c.mountsThere(ctx, m.ID)
	switch {
	case err != nil:
		return err
	case m.Base != "":
		return fmt.Errorf("cache mount %s starts from something: only a build can restore it", m.ID)
	case there.has(m.ID, true):
		return fmt.Errorf("cache mount %s is %w", m.ID, errInUse)
	}
	start := func(ctx context.Context, uses []mountUse) (*agentProcess, error) {
		return a.startFilling(ctx, uses[0], there)
	}
	return a.with(ctx, &client.SolveOpt{}, []mountUse{useOf(m)}, start, func(ctx context.Context, _ []engine.CacheMount, conn io.ReadWriteCloser) error {
		return from.Restore(ctx, m, conn)
	})
}

// useOf is a mount as any step would have it that starts from nothing.
func useOf(m engine.CacheMount) mountUse {
	return mountUse{CacheMount: m, mount: &pb.Mount{Dest: "/mount", CacheOpt: &pb.CacheOpt{ID: m.ID}}}
}
