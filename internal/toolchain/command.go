package toolchain

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/containerd/platforms"
)

// command plans builds with a command of the project's own. Two of them may
// write to the same places: they run one after the other.
func (p Project) command(targets []target) ([]Build, error) {
	if program := p.Command[0]; filepath.Base(program) == program { // a path may be made by something else
		if _, err := exec.LookPath(program); err != nil {
			return nil, fmt.Errorf("toolchain.command: there is no program %q in PATH", program)
		}
	}
	builds := make([]Build, len(targets))
	for i, t := range targets {
		fill := func(output string) *strings.Replacer {
			return strings.NewReplacer("{platform}", platforms.Format(t.Platform), "{os}", t.OS, "{arch}", t.Architecture,
				"{variant}", p.Variant, "{features}", strings.Join(p.Features, ","), "{version}", p.Version, "{output}", output)
		}
		output := fill("").Replace(p.Output)
		argv := make([]string, len(p.Command))
		for k, arg := range p.Command {
			argv[k] = fill(output).Replace(arg)
		}
		if !filepath.IsAbs(output) {
			output = filepath.Join(p.Dir, output)
		}
		builds[i] = Build{Tool: "command", Argv: argv, Lock: p.Dir, made: func([]byte) ([]Binary, error) { return p.commandMade(output) }}
	}
	return builds, nil
}

// commandMade are the binaries in what the command made: a file, or a directory
// of them.
func (p Project) commandMade(output string) ([]Binary, error) {
	info, err := os.Stat(output)
	if err != nil {
		return nil, fmt.Errorf("the command ended well, but made no output: %w", err)
	}
	if info.IsDir() {
		return p.madeIn(output)
	}
	return []Binary{{Name: filepath.Base(output), Path: output}}, nil
}

// madeIn are the chosen binaries of a directory: of its executable files.
func (p Project) madeIn(dir string) ([]Binary, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var have []string
	for _, e := range entries {
		if info, err := e.Info(); err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o111 != 0 {
			have = append(have, e.Name())
		}
	}
	names, err := p.choose(have, dir)
	if err != nil {
		return nil, err
	}
	made := make([]Binary, len(names))
	for i, name := range names {
		made[i] = Binary{Name: name, Path: filepath.Join(dir, name)}
	}
	return made, nil
}
