package cachemount

import (
	"context"
	"io"

	"github.com/lighter-oci/lighter/internal/codec"
	"github.com/lighter-oci/lighter/internal/engine"
)

// EngineAgent is an Agent for the mounts that an engine names.
func EngineAgent(pool *codec.Pool) engine.MountAgent { return engineAgent{pool} }

type engineAgent struct{ pool *codec.Pool }

// Serve implements engine.MountAgent.
func (a engineAgent) Serve(ctx context.Context, dirs map[engine.CacheMount]engine.MountDir, conn io.ReadWriteCloser) error {
	agent := Agent{Roots: map[string]Root{}, Pool: a.pool}
	for m, dir := range dirs {
		agent.Roots[rootName(m)] = Root(dir)
	}
	return agent.Serve(ctx, conn)
}
