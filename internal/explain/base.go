package explain

import (
	"fmt"
	"slices"
	"strings"

	"github.com/lighter-oci/lighter/internal/codec"
	"github.com/lighter-oci/lighter/internal/engine"
	"github.com/lighter-oci/lighter/internal/report"
)

// baseLayers finds base layers that stayed gzip in an image that was to be zstd.
func (g *graph) baseLayers() []report.Finding {
	r := g.Request
	// Of several variants one is gzip because somebody asked for it.
	variants := len(r.AddCompression) > 0 ||
		slices.ContainsFunc(r.Outputs, func(o engine.Output) bool { return o.Attrs[engine.AttrAdd] != "" })
	if r.Compression.Codec != codec.Zstd || r.Force || variants || len(g.Outline.Stages) == 0 {
		return nil
	}
	var bytes int64
	seen := map[string]bool{}
	for _, l := range g.Report.Layers {
		name, _, _ := strings.Cut(l.Codec, ":")
		// The proof of a push says of a layer that was kept why it was; before a
		// push there is what the engine said of base images.
		kept := l.Verdict != nil && l.Verdict.OK && l.Verdict.Reason != ""
		if name == string(codec.Gzip) && (kept || slices.Contains(g.BaseDiffIDs, l.DiffID)) && !seen[l.Digest] {
			seen[l.Digest] = true
			bytes += l.Out
		}
	}
	if len(seen) == 0 || !g.All && bytes < leastAsked {
		return nil
	}
	base := g.foundation(g.target())
	return []report.Finding{{
		Kind: report.BaseLayers, Line: base.Line, Bytes: bytes, ChangeIn: commandLine,
		Change: []string{
			"lighter build --force-compression",
			"lighter convert " + base.Base + " REGISTRY/NAME:TAG, and FROM that",
		},
		Text: fmt.Sprintf("%s of %s stayed gzip in an image that is zstd otherwise (%s)", report.Plural(len(seen), "layer"), base.Base, report.Bytes(bytes)),
	}}
}

// target is the stage that was built for.
func (g *graph) target() int {
	if i := g.stageOf(g.Request.Target, len(g.Outline.Stages)); g.Request.Target != "" && i >= 0 {
		return i
	}
	return len(g.Outline.Stages) - 1
}
