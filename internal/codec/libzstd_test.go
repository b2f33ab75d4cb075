//go:build cgo

package codec

import "github.com/DataDog/zstd"

// libzstdDecode is the reference decoder, for up to fuzzLimit bytes; nil
// without cgo. Not the binding's stream: that one takes a skippable frame at
// the end of a blob for a cut one.
var libzstdDecode = func(b []byte) ([]byte, error) {
	out := make([]byte, fuzzLimit)
	n, err := zstd.DecompressInto(out, b)
	if err != nil {
		return nil, err
	}
	return out[:n], nil
}
