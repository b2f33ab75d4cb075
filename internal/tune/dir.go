package tune

import (
	"context"
	"fmt"
	"io"
	"os"
)

// DirLayers is a directory as the one layer that COPY would make of it.
func DirLayers(dir string) (*Layers, error) {
	info, err := os.Stat(dir)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		return nil, fmt.Errorf("%s is no directory", dir)
	}
	return &Layers{streams: []stream{{
		part: Part{Name: dir},
		open: func(ctx context.Context, counted func(io.Reader) io.Reader) (io.ReadCloser, error) {
			r, w := io.Pipe()
			ctx, cancel := context.WithCancel(ctx)
			done := make(chan struct{})
			go func() {
				defer close(done)
				w.CloseWithError(writeTar(ctx, w, dir))
			}()
			return &dirReader{counted(r), r, cancel, done}, nil
		},
	}}}, nil
}

// dirReader reads a tar that is made while it is read.
type dirReader struct {
	io.Reader
	pipe   *io.PipeReader
	cancel func()
	done   chan struct{}
}

func (r *dirReader) Close() error {
	r.cancel()
	err := r.pipe.Close()
	<-r.done
	return err
}
