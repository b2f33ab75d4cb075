package main

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/posener/complete"

	"github.com/lighter-oci/lighter/internal/project"
	"github.com/lighter-oci/lighter/internal/report"
)

// fromProject fills in the flags that were not typed from the project's file,
// and answers a line that says what it took: "" where there is no file.
func (b *buildCmd) fromProject(ctx context.Context) (said string, err error) {
	path, err := b.projectFile()
	if err != nil {
		return "", usageError{err}
	}
	if files := b.bakeFiles(path); len(files) > 0 {
		return b.fromBake(files)
	}
	if path == "" {
		switch {
		case b.Variant != "":
			return "", usageError{fmt.Errorf("--variant %s: there is no %s here: make one with `lighter init`", b.Variant, project.Name)}
		case b.Context == "":
			return "", usageError{noContextError{}}
		}
		return "", nil
	}
	p, err := project.Load(path)
	if err != nil {
		return "", codeError{exitUsage, err} // with the place to mend, and no flag that would help
	}
	if b.Project == "" && !b.isOf(p) {
		if b.Variant != "" {
			return "", usageError{fmt.Errorf("--variant %s: %s is about another context than %s", b.Variant, project.Shown(path), b.Context)}
		}
		return fmt.Sprintf("note: %s is about another context than %s, and not used; --project %[1]s uses it", project.Shown(path), b.Context), nil
	}
	if p, b.version, err = versioned(ctx, p, b.Variant, b.version); err != nil {
		return "", err
	}
	b.proj = p
	took := b.take(p)
	if len(took) == 0 {
		return "", nil
	}
	return project.Shown(path) + ": " + strings.Join(took, ", "), nil
}

// noContextError is a build of nothing.
type noContextError struct{}

func (noContextError) Error() string { return "nothing says what to build" }

// Hint is the next step.
func (noContextError) Hint() string { return "name the directory, as in `lighter build .`" }

// versioned is a variant of a project, with a version where it needs one: its
// own, unless another is given.
func versioned(ctx context.Context, p project.Project, variant, version string) (project.Project, string, error) {
	p, err := p.Variant(variant)
	if err != nil {
		return p, version, usageError{fmt.Errorf("--variant: %w", err)}
	}
	if !p.NeedsVersion() {
		return p, version, nil
	}
	if version == "" {
		if version, err = p.ReadVersion(ctx); err != nil {
			return p, version, fmt.Errorf("%s: %w", project.Shown(p.Path), err)
		}
	}
	return p.At(version), version, nil
}

// projectFile is where the file is that this build is about: in the context or
// above, or where the user stands. A context from elsewhere has none.
func (b *buildCmd) projectFile() (string, error) {
	switch b.Project {
	case "none":
		return "", nil
	case "":
	default:
		return b.Project, nil
	}
	dir := cmp.Or(b.Context, ".")
	if info, err := os.Stat(dir); err == nil && info.IsDir() { // no URL, no tar, not standard input
		return project.Find(dir)
	}
	return "", nil
}

// isOf tells whether the context that was typed is the project's.
func (b *buildCmd) isOf(p project.Project) bool {
	typed, err := os.Stat(b.Context)
	if err != nil {
		return b.Context == ""
	}
	for _, dir := range []string{p.Dir(), inProject(p, p.Context)} {
		if info, err := os.Stat(dir); err == nil && os.SameFile(typed, info) {
			return true
		}
	}
	return false
}

// inProject is a path of the file, from where the user stands.
func inProject(p project.Project, path string) string { return project.Shown(p.Abs(path)) }

// take fills flags, and says which.
func (b *buildCmd) take(p project.Project) (took []string) {
	say := func(format string, args ...any) { took = append(took, fmt.Sprintf(format, args...)) }
	if b.Context == "" {
		b.Context = inProject(p, p.Context)
	}
	if p.Dockerfile != "" && b.File == "" {
		b.File = inProject(p, p.Dockerfile)
		say("file %s", b.File)
	}
	if names := p.Names(); len(names) > 0 && len(b.Tag) == 0 {
		b.Tag = names
		say("%s", imageSaid(names))
	}
	if len(p.AddCompression) > 0 && b.Compression == "" && len(b.AddCompression) == 0 && b.makesIndex() {
		b.AddCompression = p.AddCompression
		say("also %s", strings.Join(p.AddCompression, " and "))
	}
	if p.Compression != "" && b.Compression == "" {
		b.Compression = p.Compression
		say("%s", p.Compression)
	}
	if p.ForceCompression && !b.ForceCompression {
		b.ForceCompression = true
		say("base layers too")
	}
	if len(p.Platforms) > 0 && len(b.Platform) == 0 {
		b.Platform = p.Platforms
		if say("%s", p.Platforms[0]); len(p.Platforms) > 1 {
			took[len(took)-1] = report.Plural(len(p.Platforms), "platform")
		}
	}
	if p.Target != "" && b.Target == "" {
		b.Target = p.Target
		say("target %s", p.Target)
	}
	for _, m := range []struct {
		flag *[]string
		from map[string]string
		name string
	}{
		{&b.BuildArg, p.Args, "build argument"}, {&b.Label, p.Labels, "label"}, {&b.Annotation, p.Annotations, "annotation"},
		{&b.BuildContext, contextsFrom(p), "named context"},
	} {
		if n := addUnset(m.flag, m.from); n > 0 {
			say("%s", report.Plural(n, m.name))
		}
	}
	took = append(took, b.takeSecrets(p)...)
	took = append(took, b.takeCache(p)...)
	if keys := p.PackKeys(); len(keys) > 0 { // of a Dockerfile's image nobody has them but the Dockerfile
		say("without %s (of lighter pack)", strings.Join(keys, ", "))
	}
	return took
}

// contextsFrom are the named contexts of the file, from where the user stands.
func contextsFrom(p project.Project) map[string]string {
	all := map[string]string{}
	for name, from := range p.Contexts {
		scheme, dir, ok := strings.Cut(from, "://")
		switch {
		case !ok:
			from = inProject(p, from)
		case scheme == "oci-layout":
			from = "oci-layout://" + inProject(p, dir)
		}
		all[name] = from
	}
	return all
}

// addUnset puts what a flag does not say before what it says.
func addUnset(flag *[]string, from map[string]string) int {
	var add []string
	for _, key := range slices.Sorted(maps.Keys(from)) {
		if !slices.ContainsFunc(*flag, func(s string) bool {
			name, _, _ := strings.Cut(s, "=")
			return name == key
		}) {
			add = append(add, key+"="+from[key])
		}
	}
	*flag = append(add, *flag...)
	return len(add)
}

// takeSecrets takes those that are here. What a step cannot do without, it says
// itself.
func (b *buildCmd) takeSecrets(p project.Project) (took []string) {
	for _, id := range slices.Sorted(maps.Keys(p.Secrets)) {
		if slices.ContainsFunc(b.Secret, func(s string) bool {
			f, err := fields("--secret", s)
			return err == nil && f["id"] == id
		}) {
			continue
		}
		from, missing := p.Secrets[id].Env, "is not set"
		_, here := os.LookupEnv(from)
		kind := "env="
		if from == "" {
			from, kind, missing = inProject(p, p.Secrets[id].File), "src=", "is not there"
			_, err := os.Stat(from)
			here = err == nil
		}
		flag, err := record([]string{"id=" + id, kind + from})
		if !here || err != nil {
			took = append(took, fmt.Sprintf("without secret %s (%s %s)", id, from, missing))
			continue
		}
		b.Secret = append(b.Secret, flag)
		took = append(took, "secret "+id)
	}
	return took
}

// pushes tells whether something will be pushed.
func (b *buildCmd) pushes() bool {
	return b.Push || slices.ContainsFunc(b.Output, func(s string) bool {
		out, err := parseOutput(s)
		return err == nil && isTrue(out.Attrs, "push")
	})
}

// makesIndex tells whether all that this build makes can be an index of several
// compressions.
func (b *buildCmd) makesIndex() bool {
	for _, s := range b.Output {
		if out, err := parseOutput(s); err != nil || out.Type != "image" && out.Type != "oci" {
			return false
		}
	}
	return !b.Load && (b.Push || len(b.Output) > 0)
}

// variantsHere are the variants of the project around the shell.
func variantsHere(complete.Args) []string {
	path, err := project.Find(".")
	if err != nil {
		return nil
	}
	if files := project.FindBake("."); path == "" && len(files) > 0 {
		b, _ := project.LoadBake(files, os.LookupEnv)
		return b.Names() // none of a file that cannot be read
	}
	p, err := project.Load(path)
	if err != nil {
		return nil
	}
	return slices.Sorted(maps.Keys(p.Variants))
}
