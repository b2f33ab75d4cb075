//go:build cgo && linux

package codec

// The binding brings libzstd, its own copy or (with its build tag
// external_libzstd) the system's, but of all parameters sets only the level,
// and does not say which version it is. So the library is called here. Its
// symbols are weak because the linker that checks this package alone does not
// see the binding.

/*
#include <stddef.h>

#define WEAK __attribute__((weak))
typedef struct ZSTD_CCtx_s ZSTD_CCtx;
extern ZSTD_CCtx *ZSTD_createCCtx(void) WEAK;
extern size_t ZSTD_freeCCtx(ZSTD_CCtx *) WEAK;
extern size_t ZSTD_CCtx_setParameter(ZSTD_CCtx *, int parameter, int value) WEAK;
extern size_t ZSTD_compress2(ZSTD_CCtx *, void *dst, size_t room, const void *src, size_t n) WEAK;
extern size_t ZSTD_compressBound(size_t) WEAK;
extern unsigned ZSTD_isError(size_t) WEAK;
extern const char *ZSTD_getErrorName(size_t) WEAK;
extern const char *ZSTD_versionString(void) WEAK;

enum { compressionLevel = 100, windowLog = 101 }; // ZSTD_cParameter, stable since 1.4.0

static size_t lighter_set(ZSTD_CCtx *c, int level, int window) {
	size_t err = ZSTD_CCtx_setParameter(c, compressionLevel, level);
	return ZSTD_isError(err) ? err : ZSTD_CCtx_setParameter(c, windowLog, window);
}
*/
import "C"

import (
	"errors"
	"runtime"
	"unsafe"

	_ "github.com/DataDog/zstd" // links libzstd
)

// windowLog lets a match reach back to the start of its frame. The levels' own
// windows are made for streams, 2 MiB at level 3; in frames of 8 MiB a larger
// one makes a layer of Debian packages 1.9 % smaller at no cost of time. 8 MiB is
// what RFC 8878 wants every decoder to take.
const windowLog = 23

// zstdEncoder compresses one frame at a time with libzstd. Its context keeps
// tables of about 1 MB at level 3 and more than 100 MB at level 22 between
// calls; they are freed with the encoder.
type zstdEncoder struct {
	ctx   *C.ZSTD_CCtx
	level int // that ctx is set to
}

func newZstdEncoder() *zstdEncoder {
	e := &zstdEncoder{ctx: C.ZSTD_createCCtx()}
	runtime.AddCleanup(e, func(ctx *C.ZSTD_CCtx) { C.ZSTD_freeCCtx(ctx) }, e.ctx)
	return e
}

// encode makes one frame of src in dst's memory, or in new memory where dst has
// less room than the worst case. A frame carries its content size and no
// checksum: XXH64 at 5.7 GB/s would cost 4 % at level 3, and both digests of a
// blob cover every byte already.
func (e *zstdEncoder) encode(dst, src []byte, level int) ([]byte, error) {
	defer runtime.KeepAlive(e)
	if e.ctx == nil {
		return nil, errors.New("libzstd has no memory for an encoder")
	}
	if e.level != level {
		if err := zstdError(C.lighter_set(e.ctx, C.int(level), windowLog)); err != nil {
			return nil, err
		}
		e.level = level
	}
	if bound := int(C.ZSTD_compressBound(C.size_t(len(src)))); cap(dst) < bound {
		dst = make([]byte, bound)
	}
	dst = dst[:cap(dst)]
	n := C.ZSTD_compress2(e.ctx, unsafe.Pointer(unsafe.SliceData(dst)), C.size_t(len(dst)), unsafe.Pointer(unsafe.SliceData(src)), C.size_t(len(src)))
	if err := zstdError(n); err != nil {
		return nil, err
	}
	return dst[:n], nil
}

func zstdError(n C.size_t) error {
	if C.ZSTD_isError(n) == 0 {
		return nil
	}
	return errors.New(C.GoString(C.ZSTD_getErrorName(n)))
}

func zstdLevelHonoured(int) error { return nil }

// zstdEncoderName asks the library that is linked: "libzstd 1.5.7".
func zstdEncoderName() string { return "libzstd " + C.GoString(C.ZSTD_versionString()) }
