package buildkit

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sync/errgroup"
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
	m, err := whichMount(stream.Context())
	if err != nil {
		return err
	}
	return p.mounts.Restore(stream.Context(), m, &byteStream{messages: stream})
}

// SaveMounts hands the contents of the cache mounts that steps were given to
// mounts. Steps are the IDs of those that ran, as events have them. All mounts
// are tried, and the error joins what went wrong.
func (c *Client) SaveMounts(ctx context.Context, steps []string, to engine.Mounts) error {
	conn, err := grpc.NewClient(c.addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return fmt.Errorf("engine %s: %w", c.addr, err)
	}
	defer conn.Close()
	used, err := usedMounts(ctx, conn, steps)
	if err != nil {
		return err
	}
	errs := make([]error, len(used))
	var eg errgroup.Group
	eg.SetLimit(2) // both ends of one read and compress
	for i, m := range used {
		eg.Go(func() error {
			if err := saveMount(ctx, conn, m, to); err != nil {
				errs[i] = fmt.Errorf("cache mount %s: %w", m.ID, err)
			}
			return nil
		})
	}
	_ = eg.Wait()
	return errors.Join(errs...)
}

func usedMounts(ctx context.Context, conn *grpc.ClientConn, steps []string) (used []engine.CacheMount, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := conn.NewStream(ctx, &bothWays, mountsMethod(usedMethod))
	if err != nil {
		return nil, err
	}
	if err := sendJSON(stream, steps); err != nil {
		return nil, err
	}
	return used, receiveJSON(stream, &used)
}

func saveMount(ctx context.Context, conn *grpc.ClientConn, m engine.CacheMount, to engine.Mounts) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ctx, err := aboutMount(ctx, m)
	if err != nil {
		return err
	}
	stream, err := conn.NewStream(ctx, &bothWays, mountsMethod(saveMethod))
	if err != nil {
		return err
	}
	b := &byteStream{messages: stream}
	if err := to.Save(ctx, m, b); err != nil {
		return err
	}
	return b.finish(stream)
}
