package main

import (
	"fmt"
	"strings"

	"github.com/lighter-oci/lighter/internal/codec"
	"github.com/lighter-oci/lighter/internal/engine"
	"github.com/lighter-oci/lighter/internal/image"
)

// defaultCompression is what layers are without --compression.
const defaultCompression = "zstd:3"

// parseCompression reads CODEC[:LEVEL], and zstd:chunked[:LEVEL], which is
// containers/image's name for zstd that is fetched by parts.
func parseCompression(s string) (comp codec.Compression, chunked bool, err error) {
	plain := s
	if level, ok := strings.CutPrefix(s, image.TOCChunked); ok {
		plain, chunked = string(codec.Zstd)+level, true
	}
	if comp, err = codec.Parse(plain); err != nil {
		err = fmt.Errorf("compression %q: no such codec or level; use zstd[:1-22], zstd:chunked[:1-22], gzip[:1-9] or uncompressed", s)
	}
	return comp, chunked, err
}

// compressions reads --compression and every --add-compression, and answers the
// variants that they make of an image, too.
func compressions(parse func(string) (codec.Compression, error), name string, added []string) (l engine.Layers, variants []codec.Compression, err error) {
	if l.Compression, err = parse(name); err != nil {
		return l, nil, fmt.Errorf("--compression: %w", err)
	}
	for _, s := range added {
		c, err := parse(s)
		if err != nil {
			return l, nil, fmt.Errorf("--add-compression: %w", err)
		}
		l.Added = append(l.Added, c)
	}
	if variants, err = l.Variants(); err != nil {
		return l, nil, fmt.Errorf("--add-compression %w", err)
	}
	return l, variants, nil
}
