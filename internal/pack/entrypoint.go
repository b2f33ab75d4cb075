package pack

import (
	"cmp"
	"fmt"
	"path"
	"strings"

	"github.com/lighter-oci/lighter/internal/layer"
)

// starts holds the entrypoint against what is in the image. Of a base nobody knows
// all files before its layers are read, which costs more than this is worth.
func (s Spec) starts(files, programs []layer.File) error {
	if s.Base != nil || len(s.Entrypoint) == 0 {
		return nil
	}
	all := &layers{links: map[string]string{}}
	for _, list := range [][]layer.File{files, programs} {
		for _, f := range list {
			all.links[strings.TrimPrefix(f.Path, "/")] = f.Link
		}
	}
	program := s.Entrypoint[0]
	dirs := []string{path.Join("/", s.Workdir)}
	if !strings.Contains(program, "/") {
		dirs = strings.Split(s.path(), ":")
	}
	for _, dir := range dirs {
		if path.IsAbs(program) {
			dir = "/"
		}
		if all.resolves(path.Join(dir, program)) {
			return nil
		}
	}
	return &entrypointError{program}
}

// searchPath is PATH in an image on scratch.
const searchPath = "/usr/local/bin:/usr/bin:/bin"

// path is PATH in the image.
func (s Spec) path() string { return cmp.Or(s.Env["PATH"], searchPath) }

// entrypointError is an image that would not start.
type entrypointError struct{ program string }

func (e *entrypointError) Error() string {
	return fmt.Sprintf("entrypoint %s is not in the image, which stands on scratch", e.program)
}

// Hint is the next step.
func (*entrypointError) Hint() string {
	return "binaries are in " + binDir + "; files = [{ from = …, to = … }] brings others"
}
