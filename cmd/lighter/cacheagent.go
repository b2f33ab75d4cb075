package main

import (
	"context"
	"errors"
	"io"
	"os"

	"github.com/lighter-oci/lighter/internal/cachemount"
	"github.com/lighter-oci/lighter/internal/codec"
	"github.com/lighter-oci/lighter/internal/engine/buildkit"
)

// mountAgent is what carries cache mounts to and from an engine that is not
// lighter's: this program, or another of the engine's platform.
func mountAgent() buildkit.Agent {
	return buildkit.Agent{File: os.Getenv("LIGHTER_AGENT"), Args: []string{"cache", "agent"}}
}

// cacheAgentCmd is the program in a container beside cache mounts.
type cacheAgentCmd struct {
	Mounts string `arg:"" help:"The mounts, as JSON."`
}

// Run serves standard input and output.
func (c cacheAgentCmd) Run(ctx context.Context) error {
	pool := codec.NewPool(0)
	defer pool.Close()
	agent := cachemount.EngineAgent(pool)
	if agent == nil {
		return errors.New("cache agent: runs on Linux only")
	}
	return buildkit.ServeAgent(ctx, c.Mounts, agent, standardStreams{os.Stdin, os.Stdout})
}

// standardStreams are one stream. Closing it ends the reads, too.
type standardStreams struct {
	io.Reader
	io.Writer
}

// Close implements io.Closer.
func (standardStreams) Close() error { return errors.Join(os.Stdin.Close(), os.Stdout.Close()) }
