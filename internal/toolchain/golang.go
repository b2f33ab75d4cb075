package toolchain

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// golang plans builds with Go's own toolchain, without cgo unless the
// environment asks for it: then static, with the target's C compiler.
func (p Project) golang(ctx context.Context, targets []target) ([]Build, error) {
	if _, err := exec.LookPath("go"); err != nil {
		return nil, &missingError{what: "Go", platform: targets[0].Platform, by: install{"else": "install Go: https://go.dev/doc/install"}}
	}
	mains, err := p.mains(ctx, targets[0])
	if err != nil {
		return nil, err
	}
	builds := make([]Build, len(targets))
	for i, t := range targets {
		env, err := p.goEnv(t)
		if err != nil {
			return nil, err
		}
		dir, err := p.buildDir(t)
		if err != nil {
			return nil, err
		}
		argv := append([]string{"go", "build", "-trimpath"}, p.goFlags(p.cgo())...)
		argv = append(argv, "-o", dir+string(filepath.Separator))
		var made []Binary
		for _, m := range mains {
			argv = append(argv, m.pkg)
			made = append(made, Binary{Name: m.name, Path: filepath.Join(dir, m.name)})
		}
		var before []os.FileInfo
		builds[i] = Build{Tool: "go", Argv: argv, Env: env,
			prep: func() error {
				for _, b := range made {
					info, _ := os.Stat(b.Path) // nil is no file's
					before = append(before, info)
				}
				return nil
			},
			// Go touches what is up to date, and renames what it has linked.
			made: func([]byte) ([]Binary, error) {
				for k := range made {
					info, err := os.Stat(made[k].Path)
					if err != nil {
						return nil, err
					}
					made[k].Kept = before[k] != nil && os.SameFile(before[k], info)
				}
				return made, nil
			}}
	}
	return builds, nil
}

// cgo tells whether C is compiled, too.
func (p Project) cgo() bool {
	on, ok := p.Env["CGO_ENABLED"]
	if !ok {
		on = os.Getenv("CGO_ENABLED")
	}
	return on == "1"
}

func (p Project) goEnv(t target) ([]string, error) {
	env := []string{"GOOS=" + t.OS, "GOARCH=" + t.Architecture}
	switch {
	case t.Architecture == "arm":
		env = append(env, "GOARM="+strings.TrimPrefix(t.Variant, "v"))
	case t.Architecture == "amd64" && t.Variant != "":
		env = append(env, "GOAMD64="+t.Variant)
	}
	if !p.cgo() {
		return append(env, "CGO_ENABLED=0"), nil
	}
	cc, err := t.cc(false)
	return append(env, "CGO_ENABLED=1", "CC="+cc), err
}

// goFlags are the arguments between build and packages. The project's own
// -ldflags and -tags join ours, because of each only the last counts.
func (p Project) goFlags(cgo bool) []string {
	var ld, rest []string
	tags := p.Features
	if !p.Debug {
		ld = append(ld, "-s", "-w")
	}
	if cgo {
		ld = append(ld, "-linkmode=external", "-extldflags=-static")
		tags = append([]string{"netgo", "osusergo"}, tags...)
	}
	for i := 0; i < len(p.Flags); i++ {
		name, value, has := strings.Cut(strings.TrimPrefix(p.Flags[i], "-"), "=")
		if name = strings.TrimPrefix(name, "-"); name != "ldflags" && name != "tags" {
			rest = append(rest, p.Flags[i])
			continue
		}
		if !has && i+1 < len(p.Flags) {
			i++
			value = p.Flags[i]
		}
		if name == "tags" {
			tags = append(tags, value)
		} else {
			ld = append(ld, value)
		}
	}
	var out []string
	if len(ld) > 0 {
		out = append(out, "-ldflags="+strings.Join(ld, " "))
	}
	if len(tags) > 0 {
		out = append(out, "-tags="+strings.Join(tags, ","))
	}
	return append(out, rest...)
}

// goMain is a package that is a program.
type goMain struct{ pkg, name string }

// major is the last element of a module's path that is a version of it.
var major = regexp.MustCompile(`\Av[0-9]+\z`)

// mains are the programs to build: the directory's own, or the only one below
// it, or those that are named.
func (p Project) mains(ctx context.Context, t target) ([]goMain, error) {
	env, err := p.goEnv(t)
	if err != nil {
		return nil, err
	}
	// Without -find each package's dependencies are resolved, too: three quarters of
	// the time, for 0.7 s of CPU in a program of 400 packages. The compiler finds them.
	cmd := exec.CommandContext(ctx, "go", "list", "-find", "-f", `{{if eq .Name "main"}}{{.ImportPath}} {{.Dir}}{{end}}`)
	cmd.Args = append(append(cmd.Args, p.listFlags()...), "./...")
	cmd.Dir = p.Dir
	cmd.Env = append(os.Environ(), env...)
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if why := strings.TrimSpace(said.String()); why != "" {
			err = errors.New(why)
		}
		return nil, fmt.Errorf("go list %s: %w", p.Dir, err)
	}
	var all []goMain
	for line := range strings.Lines(string(out)) {
		pkg, dir, ok := strings.Cut(strings.TrimSpace(line), " ")
		if !ok {
			continue // no program
		}
		name := path.Base(pkg)
		if major.MatchString(name) && path.Dir(pkg) != "." {
			name = path.Base(path.Dir(pkg))
		}
		m := goMain{pkg, name}
		if here, err := filepath.EvalSymlinks(p.Dir); err == nil && here == dir && len(p.Binaries) == 0 {
			return []goMain{m}, nil
		}
		all = append(all, m)
	}
	names := make([]string, len(all))
	for i, m := range all {
		names[i] = m.name
	}
	chosen, err := p.choose(names, p.Dir)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(all, func(m goMain) bool { return !slices.Contains(chosen, m.name) }), nil
}

// listFlags are the flags that decide which packages there are.
func (p Project) listFlags() []string {
	var out []string
	for _, f := range p.goFlags(false) {
		if strings.HasPrefix(f, "-tags=") || strings.HasPrefix(strings.TrimLeft(f, "-"), "mod") {
			out = append(out, f)
		}
	}
	return out
}
