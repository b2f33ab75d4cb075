package tune

import (
	"context"
	"io"

	"github.com/lighter-oci/lighter/internal/layer"
)

// writeTar writes the tree at dir as the layer that a build makes of it.
func writeTar(ctx context.Context, w io.Writer, dir string) error {
	_, err := layer.WriteChanges(ctx, w, layer.ChangeSet{Upper: dir, Merged: true})
	return err
}
