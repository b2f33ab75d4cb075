package buildkit

import (
	"os"
	"strconv"

	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"

	"github.com/lighter-oci/lighter/internal/engine"
)

// stageNames lists the stages of a Dockerfile on this machine that have steps,
// in its order, as BuildKit names them in the names of its steps. It says
// which stages a build had no use for; where it cannot read the Dockerfile it
// says nothing, because the engine will.
func stageNames(req engine.Request, opt client.SolveOpt) []string {
	path := localDockerfilePath(req, opt)
	if path == "" {
		return nil
	}
	f, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer f.Close()
	ast, err := parser.Parse(f)
	if err != nil {
		return nil
	}
	stages, _, err := instructions.Parse(ast.AST, nil)
	if err != nil || len(stages) < 2 {
		return nil // one stage goes by no name
	}
	var names []string
	for i, s := range stages {
		name := s.Name
		if name == "" {
			name = "stage-" + strconv.Itoa(i)
		}
		if hasStep(s) {
			names = append(names, name)
		}
	}
	return names
}

// hasStep tells whether a stage would show up in a build's steps.
func hasStep(s instructions.Stage) bool {
	for _, c := range s.Commands {
		switch c.(type) {
		case *instructions.RunCommand, *instructions.CopyCommand, *instructions.AddCommand, *instructions.WorkdirCommand:
			return true
		}
	}
	return false
}

// localDockerfilePath is where the Dockerfile is on this machine, "" where it
// is not, or is read from standard input.
func localDockerfilePath(req engine.Request, opt client.SolveOpt) string {
	if _, remote := opt.FrontendAttrs["context"]; remote || req.Dockerfile == "-" || req.Context == "-" {
		return ""
	}
	if req.Dockerfile == "" {
		return defaultDockerfile(req.Context)
	}
	return req.Dockerfile
}
