package buildkit

import (
	"context"
	"fmt"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

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
		return status.Error(codes.InvalidArgument, "one cache mount at a time")
	}
	ctx, cancel := context.WithCancel(stream.Context())
	defer cancel()
	return p.mounts.Restore(ctx, list[0], &byteStream{messages: stream, end: cancel})
}

// SaveMounts hands the contents of the cache mounts that steps were given to
// mounts. Steps are the IDs of those that ran, as events have them.
func (c *Client) SaveMounts(ctx context.Context, steps []string, to engine.Mounts) error {
	conn, err := grpc.NewClient(c.addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return fmt.Errorf("engine %s: %w", c.addr, err)
	}
	defer conn.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	used, err := usedMounts(ctx, conn, steps)
	if err != nil || len(used) == 0 {
		return err
	}
	about, err := aboutMounts(ctx, used)
	if err != nil {
		return err
	}
	stream, err := conn.NewStream(about, &bothWays, mountsMethod(saveMethod))
	if err != nil {
		return err
	}
	return to.Save(ctx, used, &byteStream{messages: stream, end: cancel})
}

func usedMounts(ctx context.Context, conn *grpc.ClientConn, steps []string) (used []engine.CacheMount, err error) {
	stream, err := conn.NewStream(ctx, &bothWays, mountsMethod(usedMethod))
	if err != nil {
		return nil, err
	}
	if err := sendJSON(stream, steps); err != nil {
		return nil, err
	}
	return used, receiveJSON(stream, &used)
}
