package buildkit

import (
	"context"
	"fmt"
	"time"

	"github.com/moby/buildkit/cache/remotecache"
	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/solver"
	"github.com/moby/buildkit/worker"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
)

// hastyImporter gives up a cache that is not read within wait. The layers that a
// build takes from it then have all the time that any registry has.
func hastyImporter(wait time.Duration, resolve remotecache.ResolveCacheImporterFunc) remotecache.ResolveCacheImporterFunc {
	return func(ctx context.Context, g session.Group, attrs map[string]string) (remotecache.Importer, ocispecs.Descriptor, error) {
		until := time.Now().Add(wait)
		within, cancel := context.WithDeadline(ctx, until)
		defer cancel()
		imp, desc, err := resolve(within, g, attrs)
		if err != nil {
			return nil, desc, silence(ctx, within, wait, err)
		}
		return hastyImport{imp, until, wait}, desc, nil
	}
}

type hastyImport struct {
	remotecache.Importer
	until time.Time
	wait  time.Duration
}

// Resolve implements remotecache.Importer. It is asked right after the import was made.
func (h hastyImport) Resolve(ctx context.Context, desc ocispecs.Descriptor, id string, w worker.Worker) (solver.CacheManager, error) {
	within, cancel := context.WithDeadline(ctx, h.until)
	defer cancel()
	m, err := h.Importer.Resolve(within, desc, id, w)
	if err != nil {
		return nil, silence(ctx, within, h.wait, err)
	}
	return m, nil
}

// silence is err, or that the time was up.
func silence(ctx, within context.Context, wait time.Duration, err error) error {
	if within.Err() == nil || ctx.Err() != nil {
		return err
	}
	return fmt.Errorf("the registry has not answered within %v", wait)
}
