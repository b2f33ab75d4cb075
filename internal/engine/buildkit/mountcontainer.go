package buildkit

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/containerd/platforms"
	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/client/llb"
	gateway "github.com/moby/buildkit/frontend/gateway/client"
	"github.com/moby/buildkit/identity"
	"github.com/moby/buildkit/solver/pb"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/lighter-oci/lighter/internal/engine"
	"github.com/lighter-oci/lighter/internal/event"
)

// agents run beside the cache mounts of a BuildKit that has none of its own, each
// in a container with the same mounts that a step has.
type agents struct {
	platform string // of the engine
	files    agentFS
	command  []string
	err      error // why there are none

	c    *Client
	gw   gateway.Client
	once sync.Once
	root gateway.Reference // the agent's files, there
}

// localAgent is the agent's files in a session.
const localAgent = event.MountAgent

// recordsDir is where agents remember mounts by.
const recordsDir = "/" + agentDir + "/records"

// agents finds the agent for the engine's machine.
func (c *Client) agents(workers []*client.WorkerInfo) *agents {
	a := &agents{c: c}
	var on []ocispecs.Platform
	for _, w := range workers {
		on = append(on, w.Platforms...)
	}
	if len(on) == 0 {
		a.err = fmt.Errorf("the BuildKit at %s has no worker", c.addr)
		return a
	}
	a.platform = platforms.Format(platforms.Normalize(on[0]))
	a.files, a.command, a.err = c.opt.Agent.files(on)
	return a
}

// heldDir is where an agent's container has the mounts that it saves: under a name
// that no other container has, by which BuildKit's list shows what it made for it.
const heldDir = "/mounts/"

// startSaving makes one container of all of uses. An agent begins in it when each of
// them is proven to be what the steps had; what cannot be is left out, and the agent
// says so.
func (a *agents) startSaving(ctx context.Context, uses []mountUse) (*agentProcess, error) {
	common, err := a.common(ctx)
	if err != nil {
		return nil, err
	}
	list, mounts := make([]agentMount, len(uses)), make([]gateway.Mount, len(uses))
	for i, u := range uses {
		list[i] = u.about("")
		if mounts[i], err = a.mount(ctx, u); err != nil {
			list[i].Err = lastLine(err.Error())
		}
		mounts[i].CacheOpt = &pb.CacheOpt{ID: u.ID} // shared: a build that shares it need not wait
	}
	for end := time.Now().Add(countedWithin); ; {
		at := heldDir + identity.NewID() + "/"
		all := common
		for i := range mounts {
			if list[i].Err == "" {
				list[i].Dir = path.Join(at, strconv.Itoa(i))
				mounts[i].Dest = list[i].Dir
				all = append(all, mounts[i])
			}
		}
		ctr, err := a.hold(ctx, all)
		if err != nil {
			return nil, err
		}
		err = a.provesAll(ctx, uses, at, list, time.Now().After(end))
		if err == nil {
			return a.run(ctx, ctr, list)
		}
		if err := a.letGo(ctx, ctr, func(m mountThere) bool { return m.madeAt(at) }, usedIDs(uses)...); err != nil {
			return nil, err
		}
		if !errors.Is(err, errInUse) && !errors.Is(err, errUnsure) {
			return nil, err
		}
		if err := pause(ctx); err != nil {
			return nil, err
		}
	}
}

// provesAll is an error for as long as a mount of a container that shall have an agent
// is not proven. Those that are not the last time will have none.
func (a *agents) provesAll(ctx context.Context, uses []mountUse, at string, list []agentMount, last bool) (unproven error) {
	there, err := a.c.mountsThere(ctx, usedIDs(uses)...)
	if err != nil {
		return err
	}
	for i, u := range uses {
		if list[i].Err != "" {
			continue
		}
		if err := there.proves(u, at); err != nil {
			unproven = err
			if last {
				list[i].Err, list[i].Dir = err.Error(), ""
			}
		}
	}
	return unproven
}

// startFilling makes a container of one mount, which is seen at the path that its step
// has, so that BuildKit describes it as it does for the step, and of more. Before are the
// mounts that were there: where BuildKit makes another of what is among these, it waits.
func (a *agents) startFilling(ctx context.Context, u mountUse, before mountsThere, more ...gateway.Mount) (*agentProcess, error) {
	all, err := a.common(ctx)
	if err != nil {
		return nil, err
	}
	m, err := a.mount(ctx, u)
	if err != nil {
		return nil, err
	}
	all = append(append(all, m), more...)
	for end := time.Now().Add(countedWithin); ; {
		ctr, err := a.hold(ctx, all)
		if err != nil {
			return nil, err
		}
		there, lerr := a.c.mountsThere(ctx, u.ID)
		made := there.which(func(m mountThere) bool {
			known := func(o mountThere) bool { return o.record == m.record }
			return m.id == u.ID && (m.base != "") == (u.from != nil) && m.madeByContainer() && !slices.ContainsFunc(before, known)
		})
		twin := slices.ContainsFunc(made, func(m mountThere) bool { return slices.ContainsFunc(before, m.instead) })
		if lerr == nil && (!twin || u.mount.CacheOpt.Sharing == pb.CacheSharingOpt_PRIVATE) {
			about := u.about(m.Dest)
			about.New = len(made) > 0
			return a.run(ctx, ctr, []agentMount{about})
		}
		isMade := func(m mountThere) bool { return slices.Contains(made, m) }
		if err := errors.Join(lerr, a.letGo(ctx, ctr, isMade, u.ID)); err != nil {
			return nil, err
		}
		if time.Now().After(end) {
			return nil, errInUse
		}
		if err := pause(ctx); err != nil {
			return nil, err
		}
	}
}

// common are the mounts of every agent's container.
func (a *agents) common(ctx context.Context) ([]gateway.Mount, error) {
	a.once.Do(func() {
		if a.err != nil {
			return
		}
		if a.root, a.err = a.send(ctx); a.err != nil {
			a.err = fmt.Errorf("bring the agent there: %w", a.err)
		}
	})
	if a.err != nil {
		return nil, a.err
	}
	return slices.Clip([]gateway.Mount{
		{Dest: pb.RootMount, Ref: a.root},
		{Dest: recordsDir, MountType: pb.MountType_CACHE, CacheOpt: &pb.CacheOpt{ID: recordsID}},
	}), nil
}

// mount is a mount as its step has it.
func (a *agents) mount(ctx context.Context, u mountUse) (gateway.Mount, error) {
	m := gateway.Mount{Dest: u.mount.Dest, Selector: u.mount.Selector, MountType: pb.MountType_CACHE, CacheOpt: u.mount.CacheOpt}
	if u.from != nil {
		base, err := a.gw.Solve(ctx, gateway.SolveRequest{Definition: u.from, Evaluate: true})
		if err != nil {
			return m, err
		}
		m.Ref = base.Ref
	}
	return m, nil
}

// about is what an agent is told of a mount that its container has in a directory.
func (u mountUse) about(dir string) agentMount {
	return agentMount{u.CacheMount, engine.MountDir{Dir: dir, Record: path.Join(recordsDir, recordName(u.dir(), u.mount.Selector))}}
}

func usedIDs(uses []mountUse) (ids []string) {
	for _, u := range uses {
		ids = append(ids, u.ID)
	}
	return ids
}

// hold makes a container, which has its mounts from then on.
func (a *agents) hold(ctx context.Context, mounts []gateway.Mount) (gateway.Container, error) {
	return a.gw.NewContainer(ctx, gateway.NewContainerRequest{Mounts: mounts, NetMode: pb.NetMode_NONE})
}

// letGo releases a container in which nothing ran, and removes what was made for it.
func (a *agents) letGo(ctx context.Context, ctr gateway.Container, made func(mountThere) bool, ids ...string) error {
	ctx = context.WithoutCancel(ctx)
	if err := ctr.Release(ctx); err != nil {
		return err
	}
	there, err := a.c.mountsThere(ctx, ids...)
	if err != nil {
		return err
	}
	return a.c.drop(ctx, there.which(made))
}

// run starts the agent in its container.
func (a *agents) run(ctx context.Context, ctr gateway.Container, list []agentMount) (*agentProcess, error) {
	about, err := json.Marshal(list)
	if err != nil {
		return nil, err
	}
	return run(ctx, ctr, append(a.command[:len(a.command):len(a.command)], string(about)))
}

// send brings the agent's files there; BuildKit keeps them for the next time.
func (a *agents) send(ctx context.Context) (gateway.Reference, error) {
	def, err := llb.Local(localAgent, llb.SharedKeyHint(localAgent), llb.WithCustomName("[internal] load agent for cache mounts")).Marshal(ctx)
	if err != nil {
		return nil, err
	}
	res, err := a.gw.Solve(ctx, gateway.SolveRequest{Definition: def.ToPB(), Evaluate: true})
	if err != nil {
		return nil, err
	}
	return res.SingleRef()
}
