package codec

import "fmt"

// BeginFrame ends the frame being filled, if there is one, and begins another
// where the next n bytes of the tar will stand together, though not
// necessarily alone: a frame ends with the next call or when it is full. With
// sum, Frame.Sum will be the digest of the new frame; it is taken where the
// frame is compressed, on any core. Frames without content are not made. n is
// no larger than the frame size, and the blob is zstd.
//
// Frames that are small cost no more than their own bytes: one buffer on its
// way through the pool holds as many as fit.
func (w *Writer) BeginFrame(n int, sum bool) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.c.Codec != Zstd || n < 0 || n > w.frameSize {
		return fmt.Errorf("%s blob: no frame of %d bytes can be begun", w.c, n)
	}
	if _, err := w.room(); err != nil {
		return err
	}
	if len(w.cur) > 0 && len(w.cur)+n > w.frameSize {
		if w.curToken == nil {
			if err := w.enlarge(); err != nil {
				return err
			}
		}
		w.submit(false)
	}
	c := cut{len(w.cur), sum}
	if last := len(w.cuts) - 1; last >= 0 && w.cuts[last].at == c.at {
		w.cuts[last] = c
	} else {
		w.cuts = append(w.cuts, c)
	}
	return nil
}

// pieces are what the cuts make of the buffer being filled, which they leave
// without any.
func (w *Writer) pieces() []piece {
	pieces := make([]piece, 0, len(w.cuts)+1)
	sum := false
	for _, c := range w.cuts {
		if c.at > 0 {
			pieces = append(pieces, piece{c.at, sum})
		}
		sum = c.sum
	}
	if end := len(w.cur); len(pieces) == 0 || pieces[len(pieces)-1].end < end {
		pieces = append(pieces, piece{end, sum})
	}
	w.cuts = w.cuts[:0]
	return pieces
}
