// Package layer owns the tar of a layer: which entries a change set has, in
// which order, and their bytes; and what a blob says of the files in it, which
// is zstd:chunked's table of contents.
//
// It never compresses, which is codec's, and never decides where a layer goes:
// it writes to an io.Writer that it is given, and mounts nothing.
package layer
