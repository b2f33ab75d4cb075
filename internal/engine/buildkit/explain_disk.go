package buildkit

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/lighter-oci/lighter/internal/engine"
)

var (
	// noSpace finds a full disk, or a used up quota, and what could not be
	// written there.
	noSpace = regexp.MustCompile(`(?:(\S+): )?(?i:(no space left on device|disk quota exceeded))`)
	// stateFile takes the engine's directory from the path of one of its files.
	stateFile = regexp.MustCompile(`^(/.*?)/(?:buildkit/)?(?:runc-[a-z]+|cache\.db|history\.db)(?:/|$)`)
)

const pruneHint = "free some disk there, or let go of build cache with `lighter cache prune --all`"

// full explains a build that ran out of disk: which one, and what to do. It
// reports whether that was it.
func (e *BuildError) full(req engine.Request) bool {
	m := noSpace.FindStringSubmatch(e.What)
	if m == nil {
		return e.fullQuietly(req)
	}
	path, reason := m[1], strings.ToLower(m[2])
	for _, out := range req.Outputs {
		if written(path, out) {
			e.fullOutput(out, reason)
			return true
		}
	}
	where := "the engine's disk"
	if s := stateFile.FindStringSubmatch(path); s != nil {
		where = "the engine's state " + s[1]
	} else if path != "" {
		where = path
	}
	e.What = where + ": " + reason
	e.Next = pruneHint
	return true
}

// fullQuietly finds the full disks that the error says nothing of: a step's,
// which only its output names, and that of a directory to which the engine
// sends files, of which all that arrives may be a broken connection.
func (e *BuildError) fullQuietly(req engine.Request) bool {
	if strings.Contains(e.What, "did not complete successfully") && noSpace.MatchString(e.Log) {
		e.Next = "the step ran out of disk; if that is the engine's, " + pruneHint
		return true
	}
	for _, out := range req.Outputs {
		if strings.HasSuffix(e.What, "EOF") && out.Dest != "" && (nothingFree(out.Dest) || nothingFree(filepath.Dir(out.Dest))) {
			e.fullOutput(out, "no space left on device")
			return true
		}
	}
	return false
}

func (e *BuildError) fullOutput(out engine.Output, reason string) {
	dest := out.Dest
	if dest == "" || dest == "-" {
		dest = "on standard output"
	}
	e.What = "output " + dest + ": " + reason
	e.Next = "free some disk there, or give another dest="
}

// written tells whether a path is an output's, or on its way there.
func written(path string, out engine.Output) bool {
	if out.Dest == "" || out.Dest == "-" {
		return path == os.Stdout.Name()
	}
	within := func(prefix string) bool { return strings.HasPrefix(path, prefix) }
	return path == out.Dest || within(out.Dest+"/") ||
		within(filepath.Join(filepath.Dir(out.Dest), "."+filepath.Base(out.Dest)+"."))
}
