package main

import (
	"fmt"
	"strings"

	"github.com/lighter-oci/lighter/internal/codec"
	"github.com/lighter-oci/lighter/internal/image"
)

// defaultCompression is what layers are without --compression.
const defaultCompression = "zstd:3"

// parseCompression reads CODEC[:LEVEL], and zstd:chunked[:LEVEL], which is
// containers/image's name for zstd that is fetched by parts.
func parseCompression(s string) (comp codec.Compression, chunked bool, err error) {
	if level, ok := strings.CutPrefix(s, image.TOCChunked); ok {
		s, chunked = "zstd"+level, true
	}
	comp, err = codec.Parse(s)
	return comp, chunked, err
}

// compressions reads --compression and every --add-compression, which together
// are the variants of an image.
func compressions(parse func(string) (codec.Compression, error), name string, added []string) (want codec.Compression, more []codec.Compression, err error) {
	read := func(flag, s string) (codec.Compression, error) {
		c, err := parse(s)
		if err != nil {
			return c, fmt.Errorf("%s: %w", flag, err)
		}
		return c, nil
	}
	if want, err = read("--compression", name); err != nil {
		return want, nil, err
	}
	for _, s := range added {
		c, err := read("--add-compression", s)
		if err != nil {
			return want, nil, err
		}
		more = append(more, c)
	}
	if _, err := image.Variants(append([]codec.Compression{want}, more...)...); err != nil {
		return want, nil, fmt.Errorf("--add-compression %w", err)
	}
	return want, more, nil
}
