package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/lighter-oci/lighter/internal/project"
	"github.com/lighter-oci/lighter/internal/report"
)

// bakeFiles are the bake files that this build is about: those that --project
// names, or those of the working directory where there is no lighter.toml and
// the command line leaves the context to them. A context that is typed is built
// as it always was.
func (b *buildCmd) bakeFiles(path string) []string {
	switch ext := filepath.Ext(path); {
	case ext == ".hcl" || ext == ".json":
		return []string{path}
	case path != "" || b.Project == "none" || b.Context != "":
		return nil
	}
	return project.FindBake(".")
}

// fromBake is fromProject for a target of bake files.
func (b *buildCmd) fromBake(files []string) (said string, err error) {
	all, err := project.LoadBake(files, os.LookupEnv)
	if err != nil {
		return "", codeError{exitUsage, err}
	}
	name, target, err := all.Target(b.Variant)
	if err != nil {
		return "", usageError{err}
	}
	took, err := b.takeTarget(target)
	if err != nil {
		return "", usageError{fmt.Errorf("%s: target %s: %w", project.Shown(all.Path), name, err)}
	}
	b.bake = filepath.Dir(files[0])
	return project.Shown(all.Path) + ": " + strings.Join(append([]string{"target " + name}, took...), ", "), nil
}

// takeTarget fills flags that were not typed, and says which. Paths are from the
// working directory, and the Dockerfile's is from the context, as bake has it.
func (b *buildCmd) takeTarget(t project.Target) (took []string, err error) {
	if file := t.Text("dockerfile"); file != "" && b.File == "" {
		b.File = file
		if dir := t.Text("context"); !filepath.IsAbs(file) && !strings.Contains(dir, "://") {
			b.File = filepath.Join(dir, file)
		}
		took = append(took, "file "+b.File)
	}
	for key, flag := range map[string]*string{
		"context": &b.Context, "target": &b.Target, "network": &b.Network, "shm-size": &b.ShmSize, "cgroup-parent": &b.CgroupP,
	} {
		if *flag == "" {
			*flag = t.Text(key)
		}
	}
	if b.Context == "" {
		b.Context = "."
	}
	for key, flag := range map[string]*bool{"no-cache": &b.NoCache, "pull": &b.Pull} {
		*flag = *flag || t.Text(key) == "true"
	}
	switch call := t.Text("call"); call {
	case "", "build":
	case "check":
		b.Check = true
	default:
		return nil, fmt.Errorf("call = %q: want build or check", call)
	}
	if len(b.Tag) == 0 && len(t["tags"]) > 0 {
		b.Tag = t["tags"]
		took = append(took, imageSaid(b.Tag))
	}
	if b.Push || b.Load { // which say where it goes
		delete(t, "output")
	}
	return append(took, b.takeLists(t)...), nil
}

// takeLists fills the flags that may be repeated.
func (b *buildCmd) takeLists(t project.Target) (took []string) {
	for _, l := range []struct {
		key, said string
		flag      *[]string
		adds      bool // to what was typed, which wins
	}{
		{"platforms", "platform", &b.Platform, false},
		{"output", "output", &b.Output, false},
		{"cache-from", "imported cache", &b.CacheFrom, false},
		{"cache-to", "exported cache", &b.CacheTo, false},
		{"no-cache-filter", "uncached stage", &b.NoCacheFilter, false},
		{"ulimits", "limit", &b.Ulimit, false},
		{"args", "build argument", &b.BuildArg, true},
		{"labels", "label", &b.Label, true},
		{"contexts", "named context", &b.BuildContext, true},
		{"annotations", "annotation", &b.Annotation, true},
		{"attest", "attestation", &b.Attest, true},
		{"secret", "secret", &b.Secret, true},
		{"ssh", "ssh agent", &b.SSH, true},
		{"extra-hosts", "host", &b.AddHost, true},
		{"entitlements", "entitlement", &b.Allow, true},
	} {
		values := t[l.key]
		if len(values) == 0 || len(*l.flag) > 0 && !l.adds {
			continue
		}
		if l.key == "extra-hosts" {
			values = slices.Clone(values)
			for i := range values {
				values[i] = strings.Replace(values[i], "=", ":", 1)
			}
		}
		*l.flag = append(slices.Clone(values), *l.flag...)
		took = append(took, report.Plural(len(values), l.said))
	}
	return took
}

// imageSaid is the first name of an image, and how many more there are.
func imageSaid(names []string) string {
	said := "image " + names[0]
	if more := len(names) - 1; more > 0 {
		said += " and " + report.Plural(more, "more tag")
	}
	return said
}
