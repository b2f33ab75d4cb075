//go:build cgo && !linux

package codec

import "github.com/DataDog/zstd"

// zstdEncoder compresses one frame at a time with libzstd as the binding calls
// it: with the windows of the levels, where Linux's has the whole frame. Weak
// symbols, by which that one calls the library itself, are a matter of ELF.
type zstdEncoder struct{ ctx zstd.Ctx }

func newZstdEncoder() *zstdEncoder { return &zstdEncoder{ctx: zstd.NewCtx()} }

func (e *zstdEncoder) encode(dst, src []byte, level int) ([]byte, error) {
	return e.ctx.CompressLevel(dst, src, level)
}

func zstdLevelHonoured(int) error { return nil }

// zstdEncoderName has the version of the binding's module, which is that of
// the libzstd inside, and says that blobs differ from those made on Linux.
func zstdEncoderName() string {
	return "libzstd " + moduleVersion("github.com/DataDog/zstd", datadogVersion) + " small windows"
}
