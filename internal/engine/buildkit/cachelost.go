package buildkit

import (
	"context"
	"maps"
	"regexp"
	"slices"

	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/identity"

	"github.com/lighter-oci/lighter/internal/engine"
)

// lostContent are the engine's words about content that its place no longer has, or has
// as something else.
var lostContent = regexp.MustCompile(`could not fetch content descriptor sha256:|unexpected status from GET request to \S+/blobs/sha256:|` +
	`unexpected commit (?:digest|size) |short read: expected \d+ bytes|content sha256:[0-9a-f]{64}: not found`)

// mayLose tells whether a build that its caches fail can begin anew: what came on
// standard input, or went to standard output, can do so once.
func mayLose(req engine.Request) bool {
	return len(req.CacheFrom) > 0 && req.Context != "-" && !req.Check &&
		!slices.ContainsFunc(req.Outputs, func(o engine.Output) bool { return o.File != nil })
}

// solveAll builds, and once more without the caches where these promised layers
// that cannot be had: registries delete what is old, directories are copied in part.
// BuildKit asks for a layer when a step needs it, long after it has called the steps
// before it cached, and gives up then.
func (c *Client) solveAll(ctx context.Context, req engine.Request, opt client.SolveOpt, view *events, statuses chan *client.SolveStatus) (*engine.Response, Ran, error) {
	tap := tapStatuses(statuses)
	resp, err := c.solve(ctx, req, opt, tap.in)
	ran := tap.steps()
	if err == nil || ctx.Err() != nil || !view.mayLose {
		return resp, ran, err
	}
	why := lastLine(err.Error())
	at := lostContent.FindStringIndex(why)
	if at == nil {
		return resp, ran, err
	}
	view.anew.Warnings = []*client.VertexWarning{{Short: []byte("the cache lacks a part, and the build began anew without it: " + why[at[0]:] +
		" → a build that writes the cache brings what is missing; delete one that keeps saying so")}}
	statuses <- view.anew
	opt.CacheImports, opt.Ref = nil, identity.NewID()
	tap = tapStatuses(statuses)
	resp, err = c.solve(ctx, req, opt, tap.in)
	again := tap.steps()
	maps.Copy(again, ran) // steps that ran at first are cached now
	return resp, again, err
}

// lost takes the failure of a step whose inputs a cache has lost for what it is, until
// the build begins anew.
func (e *events) lost(s *client.SolveStatus) {
	if s == e.anew {
		e.losing = false
	}
	for _, v := range s.Vertexes {
		if e.losing && lostContent.MatchString(v.Error) {
			v.Error = ""
		}
	}
}
