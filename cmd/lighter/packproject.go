package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/platforms"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/lighter-oci/lighter/internal/image"
	"github.com/lighter-oci/lighter/internal/layer"
	"github.com/lighter-oci/lighter/internal/pack"
	"github.com/lighter-oci/lighter/internal/project"
	"github.com/lighter-oci/lighter/internal/report"
	"github.com/lighter-oci/lighter/internal/toolchain"
)

// fromProject answers the project, as its file and the flags have it, and a line
// that says what came from the file. Without a file it is what the flags say.
func (p *packCmd) fromProject(ctx context.Context) (proj project.Project, said string, err error) {
	if p.Dir != "" {
		if err := p.absolute(p.Dir); err != nil {
			return proj, "", err
		}
	}
	path := p.Project
	switch path {
	case "none":
		path = ""
	case "":
		if path, err = project.Find(p.Dir); err != nil {
			return proj, "", err
		}
	}
	if path == "" {
		if p.Variant != "" {
			return proj, "", usageError{fmt.Errorf("--variant %s: there is no %s here: make one with `lighter init`", p.Variant, project.Name)}
		}
		return proj, "", p.absolute(p.Dir)
	}
	if proj, err = project.Load(path); err != nil {
		return proj, "", codeError{exitUsage, err}
	}
	if p.Project == "" && p.Dir != "" && !sameDir(p.Dir, proj.Dir()) {
		other := project.Shown(p.Dir)
		if p.Variant != "" {
			return proj, "", usageError{fmt.Errorf("--variant %s: %s is about another directory than %s", p.Variant, project.Shown(path), other)}
		}
		return project.Project{}, fmt.Sprintf("note: %s is about another directory than %s, and not used; --project %[1]s uses it", project.Shown(path), other), nil
	}
	if proj, p.release.version, err = versioned(ctx, proj, p.Variant, p.release.version); err != nil {
		return proj, "", err
	}
	if took := p.take(proj); len(took) > 0 {
		said = project.Shown(path) + ": " + strings.Join(took, ", ")
	}
	if p.Dir == "" {
		err = p.absolute(proj.Dir())
	}
	return proj, said, err
}

// absolute makes dir the project's, as compilers can be told it.
func (p *packCmd) absolute(dir string) (err error) {
	if p.Dir, err = filepath.Abs(dir); err != nil { // of "", where the user stands
		return err
	}
	if info, err := os.Stat(p.Dir); err != nil || !info.IsDir() {
		return usageError{fmt.Errorf("%s is no directory: name that of a project", dir)}
	}
	return nil
}

func sameDir(a, b string) bool {
	one, err1 := os.Stat(a)
	other, err2 := os.Stat(b)
	return err1 == nil && err2 == nil && os.SameFile(one, other)
}

// take fills the flags that were not typed, and says which.
func (p *packCmd) take(proj project.Project) (took []string) {
	if names := proj.Names(); len(names) > 0 && len(p.Tag) == 0 {
		p.Tag = names
		took = append(took, imageSaid(names))
	}
	if len(proj.AddCompression) > 0 && p.Compression == "" && len(p.AddCompression) == 0 && !p.Load {
		p.AddCompression = proj.AddCompression
		took = append(took, "also "+strings.Join(proj.AddCompression, " and "))
	}
	if proj.Compression != "" && p.Compression == "" {
		p.Compression = proj.Compression
		took = append(took, proj.Compression)
	}
	if proj.ForceCompression && !p.ForceCompression {
		p.ForceCompression = true
		took = append(took, "base layers too")
	}
	if len(proj.Platforms) > 0 && len(p.Platform) == 0 {
		p.Platform = proj.Platforms
		took = append(took, report.Plural(len(proj.Platforms), "platform"))
	}
	if proj.DebugInfo != "" && p.DebugInfo == "" {
		p.DebugInfo = inProject(proj, proj.DebugInfo)
	}
	p.UPX = p.UPX || proj.UPX
	addUnset(&p.Label, proj.Labels)
	addUnset(&p.Annotation, proj.Annotations)
	return took
}

// plan is what has to be compiled.
func (p *packCmd) plan(ctx context.Context, proj project.Project) ([]toolchain.Build, error) {
	names := p.Platform
	if len(names) == 0 {
		names = []string{"local"}
	}
	list, err := platformsOf(names)
	if err != nil {
		return nil, err
	}
	compile := compiles(p.Dir, proj)
	compile.Whole = p.release.compiled != nil
	compile.Debug, compile.Version = p.DebugInfo != "", p.release.version
	for _, arg := range append([]string{compile.Output}, compile.Command...) {
		if strings.Contains(arg, "{version}") && compile.Version == "" {
			var err error
			if compile.Version, err = proj.ReadVersion(ctx); err != nil {
				return nil, fmt.Errorf("{version}: %w", err)
			}
		}
	}
	builds, err := compile.Plan(ctx, list)
	var only *toolchain.IncrementalError
	if errors.As(err, &only) {
		err = codeError{exitUsage, fmt.Errorf("%s: %w", proj.Place("toolchain.incremental"), err)}
	}
	return builds, err
}

// platformsOf reads names of platforms; local is this machine's architecture.
func platformsOf(names []string) (list []ocispec.Platform, err error) {
	for _, name := range names {
		if name == "local" {
			name = "linux/" + runtime.GOARCH
		}
		parsed, err := platforms.Parse(name)
		if err != nil || !strings.Contains(name, "/") {
			return nil, usageError{fmt.Errorf("--platform %q: want OS/ARCH, as linux/arm64", name)}
		}
		list = append(list, platforms.Normalize(parsed))
	}
	return list, nil
}

// compiles is what a project is for its compiler.
func compiles(dir string, proj project.Project) toolchain.Project {
	t := proj.Toolchain
	return toolchain.Project{
		Dir: dir, Use: t.Use, Command: t.Command, Output: t.Output, Flags: t.Flags, Env: t.Env, Incremental: t.Incremental,
		Features: proj.Features, NoDefaults: proj.NoDefaults, Binaries: proj.Binaries, Variant: proj.Name,
	}
}

// spec is what goes into the image besides binaries; lies is where its base is,
// for registries that can link layers.
func (p *packCmd) spec(ctx context.Context, places *places, proj project.Project) (spec pack.Spec, lies image.Reference, err error) {
	spec = pack.Spec{
		Include: proj.Include, Debug: p.debugDir(proj), UPX: p.UPX,
		Entrypoint: proj.Entrypoint, Cmd: proj.Cmd, Env: proj.Env, User: proj.User, Workdir: proj.Workdir, Expose: proj.Expose,
	}
	if spec.Labels, err = keyValues("--label", p.Label); err != nil {
		return spec, lies, usageError{err}
	}
	annotations, err := keyValues("--annotation", p.Annotation)
	if err != nil {
		return spec, lies, usageError{err}
	}
	spec.Annotations = pack.Origin(ctx, p.Dir)
	if epoch := os.Getenv("SOURCE_DATE_EPOCH"); epoch != "" {
		seconds, err := strconv.ParseInt(epoch, 10, 64)
		if err != nil || seconds < 0 {
			return spec, lies, usageError{fmt.Errorf("SOURCE_DATE_EPOCH=%q: want seconds since 1970", epoch)}
		}
		spec.Epoch = time.Unix(seconds, 0).UTC()
		spec.Annotations[ocispec.AnnotationCreated] = spec.Epoch.Format(time.RFC3339)
	}
	maps.Copy(spec.Annotations, annotations)
	for _, f := range proj.Files {
		file, err := packFile(proj, f)
		if err != nil {
			return spec, lies, err
		}
		spec.Files = append(spec.Files, file)
	}
	if proj.Base == "" || proj.Base == "scratch" {
		return spec, lies, nil
	}
	src, err := places.source(ctx, image.Location{Transport: image.InRegistry, Ref: proj.Base})
	if err != nil {
		return spec, lies, err
	}
	spec.Base = &pack.Base{Source: src, Ref: src.ref, Name: proj.Base}
	return spec, src.lies, spec.Base.Read(ctx)
}

// debugDir keeps the debug information of variants apart: their binaries have the
// same names.
func (p *packCmd) debugDir(proj project.Project) string {
	if p.DebugInfo == "" {
		return ""
	}
	return filepath.Join(p.DebugInfo, proj.Name)
}

// packFile is a file of the project's in the image's terms.
func packFile(proj project.Project, f project.File) (pack.File, error) {
	out := pack.File{From: inProject(proj, f.From), To: f.To}
	if f.Mode != "" {
		bits, err := strconv.ParseUint(strings.TrimPrefix(f.Mode, "0o"), 8, 12)
		if err != nil {
			return out, fmt.Errorf("files: mode %q: want permissions in octal", f.Mode)
		}
		mode := layer.Mode(uint32(bits))
		out.Mode = &mode
	}
	uid, gid, both := strings.Cut(f.Owner, ":")
	if f.Owner != "" {
		out.UID, _ = strconv.Atoi(uid) // digits, as its shape has it
		if out.GID = out.UID; both {
			out.GID, _ = strconv.Atoi(gid)
		}
	}
	return out, nil
}
