package tune

import (
	"fmt"
	"slices"
	"strings"

	"github.com/lighter-oci/lighter/internal/codec"
)

// DefaultLevels are what is tried unless told otherwise: where zstd's speed and
// size change their minds (fast below 3, greedy and lazy to 12, optimal from
// there), and what every client reads.
const DefaultLevels = "zstd:1,3,6,9,12,15,19,gzip:6"

// ParseLevels reads "zstd:1,3,gzip:6": a number alone belongs to the codec
// before it. Each level is there once. For "" it is the default ones that this
// build honours; one that was asked for and is not honoured is an error.
func ParseLevels(s string) ([]codec.Compression, error) {
	asked := s != ""
	if !asked {
		s = DefaultLevels
	}
	var out []codec.Compression
	var last codec.Codec
	for item := range strings.SplitSeq(s, ",") {
		item = strings.TrimSpace(item)
		name := item
		if item == "" {
			return nil, fmt.Errorf("%q: an empty level; write them as %s", s, DefaultLevels)
		}
		if strings.Trim(item, "0123456789") == "" {
			if last == "" {
				return nil, fmt.Errorf("%q: level %s of which codec? write them as %s", s, item, DefaultLevels)
			}
			name = string(last) + ":" + item
		}
		c, err := codec.Parse(name)
		if err == nil {
			err = c.Validate()
		}
		if err != nil && asked {
			return nil, err
		}
		if err != nil {
			continue
		}
		last = c.Codec
		if !slices.Contains(out, c) {
			out = append(out, c)
		}
	}
	return out, nil
}
