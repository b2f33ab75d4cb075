package buildkit

import (
	"os"
	"strconv"
	"strings"

	"github.com/distribution/reference"
	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/frontend/dockerfile/parser"

	"github.com/lighter-oci/lighter/internal/engine"
)

// useBuiltinSyntax spares a build the download of a Dockerfile frontend that the
// engine has inside: "# syntax=docker/dockerfile:1" asks for the newest 1.x, the
// engine's own is one. It makes such a build work without a network, and
// saves every other one a look at Docker Hub. A frontend that is newer than the
// engine's, of another name, pinned by digest or asked for with
// BUILDKIT_SYNTAX is fetched as ever.
//
// The frontend takes "cmdline" for the sign that somebody has followed the
// directive already (frontend/dockerfile/builder/build.go).
func useBuiltinSyntax(req engine.Request, opt client.SolveOpt, builtin string) {
	if _, asked := req.BuildArgs["BUILDKIT_SYNTAX"]; asked {
		return
	}
	path := localDockerfilePath(req, opt)
	if path == "" {
		return
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return
	}
	ref, cmdline, _, ok := parser.DetectSyntax(data)
	if ok && isBuiltin(ref, builtin) {
		opt.FrontendAttrs["cmdline"] = cmdline
	}
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
