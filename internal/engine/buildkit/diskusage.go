package buildkit

import (
	"context"
	"fmt"
	"time"

	"github.com/containerd/platforms"
	"github.com/moby/buildkit/client"

	"github.com/lighter-oci/lighter/internal/engine"
)

// CacheRecord is one piece of the engine's build cache.
type CacheRecord struct {
	ID          string     `json:"id"`
	Kind        string     `json:"kind"` // regular, source.local, exec.cachemount, …
	Description string     `json:"description,omitempty"`
	Size        int64      `json:"size"` // bytes on disk
	Created     time.Time  `json:"created"`
	LastUsed    *time.Time `json:"lastUsed,omitempty"`
	InUse       bool       `json:"inUse,omitempty"`
	Shared      bool       `json:"shared,omitempty"`
}

// PruneOptions select what goes. The zero value removes what no build needs at
// the moment and BuildKit does not keep for itself.
type PruneOptions struct {
	All     bool          // BuildKit's internal and frontend images too
	KeepFor time.Duration // spare what was used since
	MaxUsed int64         // stop when no more than this is used, bytes
	Filter  []string      // BuildKit's filters, "type==exec.cachemount"
}

// DiskUsage lists the build cache.
func (c *Client) DiskUsage(ctx context.Context, filter []string) ([]CacheRecord, error) {
	usage, err := c.bk.DiskUsage(ctx, client.WithFilter(filter))
	if err != nil {
		return nil, fmt.Errorf("list build cache: %w", err)
	}
	out := make([]CacheRecord, 0, len(usage))
	for _, u := range usage {
		out = append(out, cacheRecord(*u))
	}
	return out, nil
}

// Prune removes build cache and tells every record that went.
func (c *Client) Prune(ctx context.Context, opt PruneOptions, removed func(CacheRecord)) error {
	ch := make(chan client.UsageInfo)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for u := range ch {
			removed(cacheRecord(u))
		}
	}()
	opts := []client.PruneOption{client.WithFilter(opt.Filter), client.WithKeepOpt(opt.KeepFor, 0, opt.MaxUsed, 0)}
	if opt.All {
		opts = append(opts, client.PruneAll)
	}
	err := c.bk.Prune(ctx, ch, opts...)
	close(ch)
	<-done
	if err != nil {
		e := &BuildError{What: lastLine(err.Error()), err: err}
		e.full(engine.Request{})
		return fmt.Errorf("prune build cache: %w", e)
	}
	return nil
}

func cacheRecord(u client.UsageInfo) CacheRecord {
	return CacheRecord{
		ID: u.ID, Kind: string(u.RecordType), Description: u.Description, Size: u.Size,
		Created: u.CreatedAt, LastUsed: u.LastUsedAt, InUse: u.InUse, Shared: u.Shared,
	}
}

// Info is what an engine says about itself.
type Info struct {
	BuildKit  string            `json:"buildkit"`
	Platforms []string          `json:"platforms"`
	Labels    map[string]string `json:"labels,omitempty"`
}

// Info asks the engine for its version and its worker's platforms.
func (c *Client) Info(ctx context.Context) (Info, error) {
	info, err := c.bk.Info(ctx)
	if err != nil {
		return Info{}, fmt.Errorf("engine info: %w", err)
	}
	out := Info{BuildKit: info.BuildkitVersion.Version}
	workers, err := c.bk.ListWorkers(ctx)
	if err != nil {
		return out, fmt.Errorf("engine workers: %w", err)
	}
	for _, w := range workers {
		out.Labels = w.Labels
		for _, p := range w.Platforms {
			out.Platforms = append(out.Platforms, platforms.FormatAll(p))
		}
	}
	return out, nil
}
