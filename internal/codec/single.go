package codec

import (
	"errors"

	"github.com/klauspost/compress/zstd"
)

var errFrameSize = errors.New("the frame is not of the size that was said")

// DecodeFrame decodes one zstd frame, packed, into dst, all of which it must
// fill: whoever keeps a table of frames fetches and decodes them one by one. It
// waits for one of the pool's workers and may be called from any goroutine.
func (p *Pool) DecodeFrame(dst, packed []byte) error {
	if err := p.enter(); err != nil {
		return err
	}
	defer p.leave()
	dec, err := p.frameDecoder()
	if err != nil {
		return err
	}
	<-p.cpu
	defer func() { p.cpu <- struct{}{} }()
	return decodeFrame(dec, dst, packed)
}

// decodeFrame fills dst, whatever memory the decoder takes for it.
func decodeFrame(dec *zstd.Decoder, dst, packed []byte) error {
	n := len(dst)
	out, err := dec.DecodeAll(packed, dst[:0:n])
	switch {
	case errors.Is(err, zstd.ErrDecoderSizeExceeded) || err == nil && len(out) != n:
		return errFrameSize
	case err != nil:
		return err
	case n > 0 && &out[0] != &dst[0]:
		copy(dst, out)
	}
	return nil
}
