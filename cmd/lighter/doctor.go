package main

import (
	"context"
	"fmt"
	"maps"
	"path/filepath"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/lighter-oci/lighter/internal/doctor"
	"github.com/lighter-oci/lighter/internal/image"
	"github.com/lighter-oci/lighter/internal/project"
	"github.com/lighter-oci/lighter/internal/registry"
	"github.com/lighter-oci/lighter/internal/report"
	"github.com/lighter-oci/lighter/internal/term"
	"github.com/lighter-oci/lighter/internal/toolchain"
)

// doctorCmd says what of lighter works here.
type doctorCmd struct {
	Registry []string `arg:"" optional:"" help:"HOST or HOST/REPOSITORY to probe by pushing an image of a few hundred bytes and a blob of 66 kB, which are taken away again."`

	Format     string `enum:"text,json" default:"text" help:"text or json."`
	TryOverlay string `hidden:"" placeholder:"DIR" help:"The part that runs in a user namespace."`
}

// Help is what `lighter doctor --help` says below the flags.
func (doctorCmd) Help() string {
	return "Without a registry nothing leaves this machine. Targets are those of lighter.toml, here or above, or of the project of this directory. A probe of HOST writes to HOST/lighter-doctor, one of HOST/REPOSITORY to that; both mount a " +
		"layer into a second repository named the same with -lighter-doctor behind it. What a registry does not delete is named. " +
		"What buildkitd.toml says of a registry is shown, and holds for the probe. Exit 1 when a registry " +
		"that was named does not take a zstd image."
}

// Run asks everything, and the registries one after the other.
func (c *doctorCmd) Run(ctx context.Context, out *term.Output, flags *engineFlags) error {
	out.JSON = c.Format == "json"
	if c.TryOverlay != "" {
		return doctor.TryOverlay(c.TryOverlay)
	}
	refs := make([]image.Reference, len(c.Registry))
	for i, name := range c.Registry {
		ref, err := doctor.ParseRegistry(name)
		if err != nil {
			return usageError{err}
		}
		refs[i] = ref
	}
	found := report.Checkup{Version: version(), Registries: []report.RegistryCheck{}}
	machine := doctor.MachineOptions{State: flags.State, Overlay: []string{"doctor", "--try-overlay"}}
	if flags.EngineAddr != engineInProcess {
		machine.Engine = flags.EngineAddr
	}
	compiled, of, wrong := doctorProject()
	found.Project = of
	var g errgroup.Group
	for _, ask := range []func(){
		func() { found.Machine = doctor.Machine(ctx, machine) },
		func() { found.Compilers = doctor.Compilers(ctx) },
		func() {
			found.Targets, found.Pairs = doctor.Targets(ctx, compiled)
			if wrong != nil {
				found.Targets = append(found.Targets, doctor.Wrong(project.Name, wrong))
			}
		},
		func() { found.Daemons = doctor.Daemons(ctx) },
		func() { found.Credentials = doctor.Credentials(ctx, registry.Credentials{}) },
	} {
		g.Go(func() error { ask(); return nil })
	}
	for i, ref := range refs {
		found.Registries = append(found.Registries, doctor.Registry(ctx, c.Registry[i], ref, registry.Options{UserAgent: "lighter/" + version()}))
	}
	_ = g.Wait() // nothing in there fails
	if err := out.Checkup(found); err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if !found.OK() {
		return codeError{code: exitFailed}
	}
	return nil
}

// doctorProject is what would be compiled here: each variant of lighter.toml, here
// or above; the project of this directory; or, where there is none, anything.
func doctorProject() (all []doctor.Compiled, of string, err error) {
	path, err := project.Find(".")
	if err != nil {
		return nil, "", err
	}
	if path == "" {
		dir, err := filepath.Abs(".")
		if err != nil {
			return nil, "", err
		}
		if use, _ := toolchain.Detect(dir); use == "" {
			return doctor.Anything(), "", nil
		}
		return []doctor.Compiled{{Project: toolchain.Project{Dir: dir}}}, project.Shown(dir), nil
	}
	base, err := project.Load(path)
	if err != nil {
		return nil, "", err
	}
	dir, err := filepath.Abs(base.Dir())
	if err != nil {
		return nil, "", err
	}
	variants := slices.Sorted(maps.Keys(base.Variants))
	for _, name := range append([]string{""}, variants...) {
		proj, err := base.Variant(name)
		if err != nil {
			return nil, "", err
		}
		c := doctor.Compiled{Project: compiles(dir, proj)}
		if use, _ := toolchain.Detect(dir); use == "" && c.Use == "" && len(c.Command) == 0 {
			continue // a Dockerfile's
		}
		if c.Platforms, err = platformsOf(proj.Platforms); err != nil {
			return nil, "", err
		}
		if name != "" {
			c.Variant = "variant " + name
		}
		all = append(all, c)
	}
	if len(all) == 0 {
		return doctor.Anything(), "", nil
	}
	return all, project.Shown(path), nil
}
