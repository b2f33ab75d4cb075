package buildkit

import (
	"context"
	"strconv"
	"strings"

	"github.com/distribution/reference"
	"github.com/moby/buildkit/executor"
	"github.com/moby/buildkit/frontend"
	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/solver/pb"
)

// builtinSyntax spares a build the download of a Dockerfile frontend that the
// engine has inside: "# syntax=docker/dockerfile:1" asks for the newest 1.x, the
// engine's own is one. It makes such a build work without a network, and
// saves every other one a look at Docker Hub, wherever the Dockerfile comes
// from. A frontend that is newer than the engine's, of another name or pinned
// by digest is fetched as in any BuildKit.
type builtinSyntax struct {
	frontend.Frontend // runs frontends from images
	dockerfile        frontend.Frontend
	version           string // of dockerfile
}

// Solve is asked by the built-in frontend when it finds a syntax line; the
// options then hold "cmdline", with which that frontend looks for none again.
func (b builtinSyntax) Solve(ctx context.Context, llb frontend.FrontendLLBBridge, exec executor.Executor, opt map[string]string, inputs map[string]*pb.Definition, sid string, sm *session.Manager) (*frontend.Result, error) {
	if _, asked := opt["cmdline"]; asked && isBuiltin(opt[frontend.KeySource], b.version) {
		return b.dockerfile.Solve(ctx, llb, exec, opt, inputs, sid, sm)
	}
	return b.Frontend.Solve(ctx, llb, exec, opt, inputs, sid, sm)
}

// isBuiltin tells whether the frontend inside an engine, of a version like
// "1.23.0", can stand for the image ref.
func isBuiltin(ref, builtin string) bool {
	named, err := reference.ParseNormalizedNamed(ref)
	if err != nil || named.Name() != "docker.io/docker/dockerfile" {
		return false
	}
	if _, pinned := named.(reference.Digested); pinned {
		return false
	}
	tagged, ok := named.(reference.Tagged)
	if !ok {
		return false // latest, which may be anything
	}
	want, have := numbers(tagged.Tag()), numbers(builtin)
	if len(want) == 0 || len(want) > 2 || len(have) < 2 || want[0] != have[0] {
		return false // 1.7.0 is one release, and meant
	}
	return len(want) == 1 || want[1] <= have[1]
}

// numbers reads "1.7.0"; nil for anything else, "1-labs" among it.
func numbers(version string) []int {
	var out []int
	for part := range strings.SplitSeq(version, ".") {
		n, err := strconv.Atoi(part)
		if err != nil {
			return nil
		}
		out = append(out, n)
	}
	return out
}
