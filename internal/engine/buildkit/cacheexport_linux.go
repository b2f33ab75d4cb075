package buildkit

import (
	"context"
	"maps"

	"github.com/moby/buildkit/cache/remotecache"
	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/util/compression"

	"github.com/lighter-oci/lighter/internal/codec"
	"github.com/lighter-oci/lighter/internal/engine"
)

// layerCacheExporter makes a cache backend take its codec from lighter, so that
// a layer that the image export made is not made a second time for the cache.
func layerCacheExporter(pool *codec.Pool, resolve remotecache.ResolveCacheExporterFunc) remotecache.ResolveCacheExporterFunc {
	return func(ctx context.Context, g session.Group, attrs map[string]string) (remotecache.Exporter, error) {
		if attrs[engine.AttrCompression] == compression.EStargz.String() {
			return resolve(ctx, g, attrs)
		}
		opt, _, err := parseLayerAttrs(attrs)
		if err == nil {
			err = opt.want.Validate()
		}
		if err != nil {
			return nil, err
		}
		rest := maps.Clone(attrs)
		for _, k := range []string{engine.AttrCompression, engine.AttrLevel, engine.AttrForce} {
			delete(rest, k)
		}
		exp, err := resolve(ctx, g, rest)
		if err != nil || exp == nil {
			return nil, err
		}
		typ := &blobType{pool: pool, want: opt.want, force: opt.force, made: &ledger{}}
		return &layerCache{Exporter: exp, typ: typ}, nil
	}
}

type layerCache struct {
	remotecache.Exporter
	typ *blobType
}

func (c *layerCache) Config() remotecache.Config {
	return remotecache.Config{Compression: compression.Config{Type: c.typ, Force: true}}
}
