//go:build !cgo

package codec

import (
	"fmt"

	"github.com/klauspost/compress/zstd"
)

// klauspostLevel is which of klauspost's four encoder levels answers to a zstd
// level: its documentation calls them "roughly equivalent to the fastest
// mode", "to the default (level 3)", "about level 7–8" and "the best
// available". ok is false for the eighteen levels it does not have.
func klauspostLevel(level int) (l zstd.EncoderLevel, ok bool) {
	switch level {
	case 1:
		return zstd.SpeedFastest, true
	case 3:
		return zstd.SpeedDefault, true
	case 7:
		return zstd.SpeedBetterCompression, true
	case 11:
		return zstd.SpeedBestCompression, true
	}
	return 0, false
}

// zstdEncoder compresses one frame at a time with klauspost's encoder, which
// is bound to a level when it is made.
type zstdEncoder struct {
	level int
	enc   *zstd.Encoder
}

func newZstdEncoder() *zstdEncoder { return &zstdEncoder{} }

// encode makes one frame of src in dst's memory, with content size and
// without checksum, as the libzstd one does.
func (e *zstdEncoder) encode(dst, src []byte, level int) ([]byte, error) {
	if e.level != level {
		l, ok := klauspostLevel(level)
		if !ok {
			return nil, zstdLevelHonoured(level)
		}
		enc, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(l), zstd.WithEncoderConcurrency(1),
			zstd.WithWindowSize(maxFrame), zstd.WithEncoderCRC(false), zstd.WithZeroFrames(true), zstd.WithSingleSegment(true)) // or frames under 256 bytes do not say their size
		if err != nil {
			return nil, fmt.Errorf("zstd level %d: %w", level, err)
		}
		e.level, e.enc = level, enc
	}
	return e.enc.EncodeAll(src, dst[:0]), nil
}

func zstdLevelHonoured(level int) error {
	if _, ok := klauspostLevel(level); !ok {
		return fmt.Errorf("compression \"zstd:%d\": this build has no libzstd and only zstd:1, zstd:3, zstd:7 and zstd:11; use one of them or a build made with cgo", level)
	}
	return nil
}

func zstdEncoderName() string { return klauspostName() }
