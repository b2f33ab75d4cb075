package buildkit

import (
	"fmt"
	"regexp"
	"time"

	"github.com/moby/buildkit/client"

	"github.com/lighter-oci/lighter/internal/event"
)

// What happens to a layer inside the engine reaches the client as a BuildKit
// progress status: any BuildKit client shows it as a line, lighter's reads it
// back. The ID carries action, digest and codec; Total is the bytes of the tar,
// Current the bytes of the blob, Started and Completed the time it took.

var layerStatus = regexp.MustCompile(`^layer (compressed|converted|reused|pushed|mounted|exists) (sha256:[0-9a-f]{64})(?: (\S+))?(?: to (\S+))?$`)

// layerStatusID is the inverse of parseLayerStatus.
func layerStatusID(l event.Layer) string {
	id := fmt.Sprintf("layer %s %s", l.Action, l.Digest)
	if l.Codec != "" {
		id += " " + l.Codec
	}
	if l.Where != "" {
		id += " to " + l.Where
	}
	return id
}

// parseLayerStatus returns nil for a status that is not about a layer.
func parseLayerStatus(s *client.VertexStatus) *event.Layer {
	m := layerStatus.FindStringSubmatch(s.ID)
	if m == nil {
		return nil
	}
	l := &event.Layer{
		Action: event.LayerAction(m[1]),
		Digest: m[2],
		Codec:  m[3],
		Where:  m[4],
		In:     s.Total,
		Out:    s.Current,
	}
	if s.Started != nil && s.Completed != nil {
		l.Took = max(s.Completed.Sub(*s.Started), 0)
	}
	if l.Took < time.Microsecond {
		l.Took = 0
	}
	return l
}
