//go:build !linux

package tune

import (
	"archive/tar"
	"context"
	"errors"
	"io"
	"os"
)

// writeTar writes the tree at dir as a tar. Package layer reads upperdirs,
// which are Linux's; what differs between its tars and these is a few bytes a
// header.
func writeTar(_ context.Context, w io.Writer, dir string) error {
	tw := tar.NewWriter(w)
	return errors.Join(tw.AddFS(os.DirFS(dir)), tw.Close())
}
