package main

import (
	"fmt"

	"github.com/lighter-oci/lighter/internal/codec"
	"github.com/lighter-oci/lighter/internal/image"
)

// defaultCompression is what layers are without --compression.
const defaultCompression = "zstd:3"

// compressions reads --compression and every --add-compression, which together
// are the variants of an image.
func compressions(name string, added []string) (want codec.Compression, more []codec.Compression, err error) {
	if want, err = codec.Parse(name); err != nil {
		return want, nil, fmt.Errorf("--compression: %w", err)
	}
	for _, s := range added {
		c, err := codec.Parse(s)
		if err != nil {
			return want, nil, fmt.Errorf("--add-compression: %w", err)
		}
		more = append(more, c)
	}
	if _, err := image.Variants(append([]codec.Compression{want}, more...)...); err != nil {
		return want, nil, fmt.Errorf("--add-compression %w", err)
	}
	return want, more, nil
}
