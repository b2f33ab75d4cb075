package engine

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/lighter-oci/lighter/internal/codec"
	"github.com/lighter-oci/lighter/internal/image"
)

// Attributes of outputs and caches that are about layers, as BuildKit spells
// them.
const (
	AttrCompression = "compression"
	AttrLevel       = "compression-level"
	AttrAdd         = "add-compression" // lighter's own: codecs with levels, commas between
	AttrForce       = "force-compression"
)

// Layers is how the layers of an output or a cache shall be.
type Layers struct {
	Compression codec.Compression
	Added       []codec.Compression // further variants of an image
	Force       bool                // base layers too
}

// Variants are all compressions, in the order of their index.
func (l Layers) Variants() ([]codec.Compression, error) {
	return image.Variants(append([]codec.Compression{l.Compression}, l.Added...)...)
}

// With is what attributes make of it: what they do not say stays. A level
// without a codec is one of the codec that stays; a codec without one means its
// default.
func (l Layers) With(attrs map[string]string) (Layers, error) {
	name, level := attrs[AttrCompression], attrs[AttrLevel]
	if name == "" && level != "" {
		name = string(l.Compression.Resolve().Codec)
	}
	if level != "" {
		name += ":" + level
	}
	var err error
	if name != "" {
		if l.Compression, err = codec.Parse(name); err != nil {
			return l, err
		}
	}
	if added := attrs[AttrAdd]; added != "" {
		l.Added = nil
		for s := range strings.SplitSeq(added, ",") {
			c, err := codec.Parse(s)
			if err != nil {
				return l, fmt.Errorf("%s: %w", AttrAdd, err)
			}
			l.Added = append(l.Added, c)
		}
	}
	if _, err := l.Variants(); err != nil {
		return l, fmt.Errorf("%s %w", AttrAdd, err)
	}
	l.Force, err = Flag(attrs, AttrForce, l.Force)
	return l, err
}

// Flag reads an attribute that is true or false; a bare key means true, and
// without the key it is otherwise.
func Flag(attrs map[string]string, key string, otherwise bool) (bool, error) {
	v, ok := attrs[key]
	switch {
	case !ok:
		return otherwise, nil
	case v == "":
		return true, nil
	}
	b, err := strconv.ParseBool(v)
	if err != nil {
		return false, fmt.Errorf("%s=%s: want true or false", key, v)
	}
	return b, nil
}
