package toolchain

import (
	"os/exec"
	"path/filepath"
)

// zig plans builds with zig build, which is every target's compiler itself.
func (p Project) zig(targets []target) ([]Build, error) {
	if _, err := exec.LookPath("zig"); err != nil {
		return nil, &missingError{what: "zig", platform: targets[0].Platform, by: zigTool()}
	}
	builds := make([]Build, len(targets))
	for i, t := range targets {
		dir, err := p.buildDir(t)
		if err != nil {
			return nil, err
		}
		argv := []string{"zig", "build", "-Dtarget=" + t.zig(), "-Doptimize=ReleaseSafe", "--prefix", dir}
		for _, f := range p.Features {
			argv = append(argv, "-D"+f)
		}
		builds[i] = Build{Tool: "zig", Argv: append(argv, p.Flags...), made: func([]byte) ([]Binary, error) { return p.madeIn(filepath.Join(dir, "bin")) }}
	}
	return builds, nil
}
