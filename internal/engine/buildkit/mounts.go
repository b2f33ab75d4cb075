package buildkit

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"

	"github.com/moby/buildkit/client/connhelper"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/lighter-oci/lighter/internal/engine"
)

// mountsProvider is the part of a build's session that gives the engine what
// new cache mounts hold.
type mountsProvider struct{ mounts engine.Mounts }

func (p mountsProvider) Register(srv *grpc.Server) {
	registerMounts(srv, map[string]func(grpc.ServerStream) error{restoreMethod: p.restore})
}

func (p mountsProvider) restore(stream grpc.ServerStream) error {
	list, err := whichMounts(stream.Context())
	if err != nil {
		return err
	}
	if len(list) != 1 {
		return errOneMount
	}
	ctx, cancel := context.WithCancel(stream.Context())
	defer cancel()
	return p.mounts.Restore(ctx, list[0], &byteStream{messages: stream, end: cancel})
}

// mountsAccess is how the cache mounts of an engine are reached outside of builds.
type mountsAccess interface {
	save(ctx context.Context, steps Ran, to engine.Mounts) error
	list(ctx context.Context) ([]engine.CacheMount, error)
	push(ctx context.Context, list []engine.CacheMount, to engine.Mounts) error
	pull(ctx context.Context, m engine.CacheMount, from engine.Mounts) error
}

// mountsAccess is lighter's own service where the engine has that, else agents.
func (c *Client) mountsAccess(ctx context.Context) (mountsAccess, error) {
	a, err := c.foreign(ctx)
	if err != nil || a != nil {
		return a, err
	}
	return served{c}, nil
}

// SaveMounts hands the contents of the cache mounts that steps were given to
// mounts.
func (c *Client) SaveMounts(ctx context.Context, steps Ran, to engine.Mounts) error {
	there, err := c.mountsAccess(ctx)
	if err != nil {
		return err
	}
	return there.save(ctx, steps, to)
}

// CacheMounts lists the cache mounts that the engine has. Of those that start
// from something only the ones that steps of this engine's process were given.
func (c *Client) CacheMounts(ctx context.Context) ([]engine.CacheMount, error) {
	there, err := c.mountsAccess(ctx)
	if err != nil {
		return nil, err
	}
	return there.list(ctx)
}

// PushMounts hands the contents of cache mounts to mounts, but for those that a
// build has for itself, or that are not there.
func (c *Client) PushMounts(ctx context.Context, list []engine.CacheMount, to engine.Mounts) error {
	there, err := c.mountsAccess(ctx)
	if err != nil {
		return err
	}
	return there.push(ctx, list, to)
}

// PullMount fills a cache mount, and makes one where the engine has none. The
// engine knows a mount that starts from something (Base) only after a step has used it.
func (c *Client) PullMount(ctx context.Context, m engine.CacheMount, from engine.Mounts) error {
	there, err := c.mountsAccess(ctx)
	if err != nil {
		return err
	}
	return there.pull(ctx, m, from)
}

// served are the mounts of an engine that gives them out by itself.
type served struct{ c *Client }

func (s served) save(ctx context.Context, steps Ran, to engine.Mounts) error {
	return s.c.aboutMounts(func(conn *grpc.ClientConn) error {
		var used []engine.CacheMount
		if err := askMounts(ctx, conn, usedMethod, slices.Sorted(maps.Keys(steps)), &used); err != nil {
			return err
		}
		return saveMounts(ctx, conn, used, to)
	})
}

func (s served) list(ctx context.Context) (list []engine.CacheMount, err error) {
	err = s.c.aboutMounts(func(conn *grpc.ClientConn) error {
		return askMounts(ctx, conn, listMethod, struct{}{}, &list)
	})
	return list, err
}

func (s served) push(ctx context.Context, list []engine.CacheMount, to engine.Mounts) error {
	return s.c.aboutMounts(func(conn *grpc.ClientConn) error { return saveMounts(ctx, conn, list, to) })
}

func (s served) pull(ctx context.Context, m engine.CacheMount, from engine.Mounts) error {
	return s.c.aboutMounts(func(conn *grpc.ClientConn) error {
		return overMounts(ctx, conn, fillMethod, []engine.CacheMount{m}, func(ctx context.Context, stream *byteStream) error {
			if err := from.Restore(ctx, m, stream); err != nil {
				return err
			}
			return stream.finish() // the engine gives the mount its name when it hears no more
		})
	})
}

func sortMounts(list []engine.CacheMount) {
	slices.SortFunc(list, func(a, b engine.CacheMount) int {
		return cmp.Or(strings.Compare(a.ID, b.ID), strings.Compare(a.Platform, b.Platform), strings.Compare(a.Base, b.Base))
	})
}

// aboutMounts opens a connection to the engine's own service.
func (c *Client) aboutMounts(f func(*grpc.ClientConn) error) error {
	conn, err := grpc.NewClient("passthrough:///engine", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return dial(ctx, c.addr) }))
	if err != nil {
		return fmt.Errorf("engine %s: %w", c.addr, err)
	}
	defer conn.Close()
	return f(conn)
}

// dial goes the way to an engine that BuildKit's client goes.
func dial(ctx context.Context, addr string) (net.Conn, error) {
	if helper, err := connhelper.GetConnectionHelper(addr); err != nil || helper != nil {
		if err != nil {
			return nil, err
		}
		return helper.ContextDialer(ctx, addr)
	}
	network, address, _ := strings.Cut(addr, "://")
	return (&net.Dialer{}).DialContext(ctx, network, address)
}

func saveMounts(ctx context.Context, conn *grpc.ClientConn, list []engine.CacheMount, to engine.Mounts) error {
	if len(list) == 0 {
		return nil
	}
	return overMounts(ctx, conn, saveMethod, list, func(ctx context.Context, stream *byteStream) error {
		if err := to.Save(ctx, list, stream); err != nil {
			return err
		}
		return stream.finish() // until then the engine holds the mounts, and a build would find them in use
	})
}

// overMounts calls f with a stream to the engine's agent.
func overMounts(ctx context.Context, conn *grpc.ClientConn, method string, list []engine.CacheMount, f func(context.Context, *byteStream) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	about, err := aboutMounts(ctx, list)
	if err != nil {
		return err
	}
	stream, err := conn.NewStream(about, &bothWays, mountsMethod(method))
	if err != nil {
		return err
	}
	return f(ctx, &byteStream{messages: stream, end: func() { _ = stream.CloseSend() }})
}

// askMounts asks for JSON with JSON.
func askMounts(ctx context.Context, conn *grpc.ClientConn, method string, ask, answer any) error {
	stream, err := conn.NewStream(ctx, &bothWays, mountsMethod(method))
	if err != nil {
		return err
	}
	if err := sendJSON(stream, ask); err != nil {
		return err
	}
	return receiveJSON(stream, answer)
}
