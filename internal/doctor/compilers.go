package doctor

import (
	"context"
	"fmt"
	"os/exec"
	"strings"

	"github.com/containerd/platforms"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/lighter-oci/lighter/internal/report"
	"github.com/lighter-oci/lighter/internal/toolchain"
)

// Compilers asks what this machine can compile with.
func Compilers(ctx context.Context) []report.Check {
	checks := []report.Check{}
	for _, f := range append(toolchain.Find(ctx), toolchain.Helpers(ctx)...) {
		c := report.Check{Name: f.Name, State: report.CheckOK, Found: fmt.Sprintf("%s (%s)", f.Version, f.Path)}
		switch {
		case f.Path == "":
			c.State, c.Found, c.Fix = report.CheckNo, "not installed", ""
		case f.Err != nil:
			c.State, c.Found = report.CheckUnknown, fmt.Sprintf("%s does not tell its version: %v", f.Path, f.Err)
		}
		checks = append(checks, c)
	}
	return checks
}

// Compiled is a project, or a variant of one, that is compiled here.
type Compiled struct {
	toolchain.Project
	Platforms []ocispec.Platform
	Variant   string // in words; "" where there is one
}

// Anything are the compilers of this machine without a project: each that is here,
// for the platforms that images are mostly made for.
func Anything() []Compiled {
	var all []Compiled
	for _, tool := range []struct{ use, name string }{{"go", "go"}, {"cargo", "cargo"}, {"c", "gcc"}, {"c", "clang"}, {"zig", "zig"}} {
		if _, err := exec.LookPath(tool.name); err == nil && (len(all) == 0 || all[len(all)-1].Use != tool.use) {
			all = append(all, Compiled{Project: toolchain.Project{Use: tool.use}, Platforms: usual()})
		}
	}
	return all
}

func usual() []ocispec.Platform {
	return []ocispec.Platform{{OS: "linux", Architecture: "amd64"}, {OS: "linux", Architecture: "arm64"}}
}

// Targets tells which platforms each is compiled for here, and what ends badly of
// what it is compiled with.
func Targets(ctx context.Context, all []Compiled) (targets, pairs []report.Check) {
	targets, pairs = []report.Check{}, []report.Check{}
	said := map[toolchain.Problem]bool{}
	for _, p := range all {
		if len(p.Platforms) == 0 {
			p.Platforms = usual()
		}
		var err error
		if p.Use == "" && len(p.Command) == 0 {
			p.Use, err = toolchain.Detect(p.Dir)
		}
		for _, platform := range p.Platforms {
			c := report.Check{Name: p.name(platform), State: report.CheckOK, Needed: p.Dir != "", Found: "can be compiled for here"}
			able := err
			if able == nil {
				able = p.Able(ctx, platform)
			}
			if able != nil {
				c = no(c, able)
				c.Found = strings.TrimPrefix(c.Found, platforms.Format(platform)+" ") // which the name has
				if !c.Needed && c.Fix != "" {                                         // nobody asked for it: nothing to mend
					c.Found, c.Fix = c.Found+"; "+c.Fix, ""
				}
			}
			targets = append(targets, c)
		}
		if err != nil || len(p.Command) > 0 {
			continue // whose compiler nobody here knows
		}
		for _, problem := range p.Problems(ctx, p.Platforms) {
			if !said[problem] {
				said[problem] = true
				pairs = append(pairs, report.Check{Name: problem.Tools, State: report.CheckNo, Found: problem.What, Fix: problem.Fix})
			}
		}
	}
	return targets, pairs
}

// Wrong is something that cannot be asked about, because of err.
func Wrong(name string, err error) report.Check {
	return no(report.Check{Name: name, Needed: true}, err)
}

func (p Compiled) name(platform ocispec.Platform) string {
	name := platforms.Format(platform)
	if p.Use != "" {
		name = p.Use + " " + name
	}
	if p.Variant != "" {
		name += ", " + p.Variant
	}
	return name
}
