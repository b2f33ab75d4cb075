package buildkit

import (
	"errors"
	"fmt"
	"maps"
	"strconv"
	"time"

	"github.com/moby/buildkit/exporter/containerimage/exptypes"

	"github.com/lighter-oci/lighter/internal/codec"
)

// Attribute names, as BuildKit spells them.
const (
	attrCompression      = "compression"
	attrLevel            = "compression-level"
	attrAddCompression   = "add-compression" // lighter's own: codecs with levels, commas between
	attrForce            = "force-compression"
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
	var err error
	if opt.want, err = parseCompressionAttrs(attrs); err != nil {
		return opt, nil, err
	}
	if opt.variants, err = parseVariants(opt.want, attrs[attrAddCompression]); err != nil {
		return opt, nil, err
	}
	if opt.force, err = parseBoolAttr(attrs, attrForce); err != nil {
		return opt, nil, err
	}
	if opt.rewrite, err = parseBoolAttr(attrs, attrRewriteTimestamp); err != nil {
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
	for _, k := range []string{attrCompression, attrLevel, attrAddCompression, attrForce, attrRewriteTimestamp} {
		delete(rest, k)
	}
	return opt, rest, nil
}

// parseCompressionAttrs reads compression and compression-level. Without any,
// it is BuildKit's default, gzip, because other BuildKit clients expect that;
// lighter's own client always says what it wants.
func parseCompressionAttrs(attrs map[string]string) (codec.Compression, error) {
	name := attrs[attrCompression]
	if name == "" {
		name = string(codec.Gzip)
	}
	if level := attrs[attrLevel]; level != "" {
		name += ":" + level
	}
	return codec.Parse(name)
}

// parseBoolAttr reads a flag attribute; a bare key means true.
func parseBoolAttr(attrs map[string]string, key string) (bool, error) {
	v, ok := attrs[key]
	if !ok {
		return false, nil
	}
	if v == "" {
		return true, nil
	}
	b, err := strconv.ParseBool(v)
	if err != nil {
		return false, fmt.Errorf("%s=%s: want true or false", key, v)
	}
	return b, nil
}
