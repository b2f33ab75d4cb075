package buildkit

import (
	"errors"
	"fmt"
	"maps"
	"strconv"
	"time"

	"github.com/moby/buildkit/exporter/containerimage/exptypes"

	"github.com/lighter-oci/lighter/internal/codec"
	"github.com/lighter-oci/lighter/internal/engine"
)

// Further attribute names, as BuildKit spells them.
const (
	attrTar              = "tar"
	attrOCIMediaTypes    = "oci-mediatypes"
	attrRewriteTimestamp = "rewrite-timestamp"
)

// layerOptions is how the layers of one export shall be.
type layerOptions struct {
	want codec.Compression
	// variants are want and what is added to it.
	variants []codec.Compression
	force    bool
	rewrite  bool
	epoch    *time.Time
}

// parseLayerAttrs splits the attributes into lighter's and the others.
func parseLayerAttrs(attrs map[string]string) (layerOptions, map[string]string, error) {
	rest := maps.Clone(attrs)
	var opt layerOptions
	// Without a word it is BuildKit's default, because its other clients expect
	// that; lighter's own client always says what it wants.
	layers, err := engine.Layers{Compression: codec.Compression{Codec: codec.Gzip}.Resolve()}.With(attrs)
	if err != nil {
		return opt, nil, err
	}
	opt.want, opt.force = layers.Compression, layers.Force
	opt.variants = append([]codec.Compression{layers.Compression}, layers.Added...)
	if opt.rewrite, err = engine.Flag(attrs, attrRewriteTimestamp, false); err != nil {
		return opt, nil, err
	}
	if v := attrs[string(exptypes.OptKeySourceDateEpoch)]; v != "" {
		sec, err := strconv.ParseInt(v, 10, 64)
		if err != nil {
			return opt, nil, fmt.Errorf("source-date-epoch %q is not a number of seconds", v)
		}
		t := time.Unix(sec, 0).UTC()
		opt.epoch = &t
	}
	if v, ok := attrs[attrOCIMediaTypes]; ok {
		oci, err := strconv.ParseBool(v)
		switch {
		case err != nil || oci:
		case len(opt.variants) > 1:
			return opt, nil, errors.New("an index of variants needs OCI media types: drop oci-mediatypes=false, or add-compression")
		case opt.want.Codec == codec.Zstd:
			return opt, nil, errors.New("zstd layers need OCI media types: drop oci-mediatypes=false, or ask for compression=gzip")
		}
	}
	for _, k := range []string{engine.AttrCompression, engine.AttrLevel, engine.AttrAdd, engine.AttrForce, attrRewriteTimestamp} {
		delete(rest, k)
	}
	return opt, rest, nil
}
