package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/distribution/reference"
	xterm "golang.org/x/term"

	"github.com/lighter-oci/lighter/internal/engine"
)

// fillOutputs reads -o, --push, --load and -t.
func (b *buildCmd) fillOutputs(req *engine.Request) error {
	if req.Check {
		return nil
	}
	for _, t := range b.Tag {
		named, err := reference.ParseNormalizedNamed(t)
		if err != nil {
			return fmt.Errorf("-t %q: %w", t, err)
		}
		if _, pinned := named.(reference.Digested); pinned {
			return fmt.Errorf("-t %q: a build decides its digest itself: name a tag only", t)
		}
	}
	for _, s := range b.Output {
		out, err := parseOutput(s)
		if err != nil {
			return err
		}
		if out.Type == "cacheonly" {
			continue
		}
		req.Outputs = append(req.Outputs, out)
	}
	if b.Push {
		pushOutput(req)
	}
	if b.Load && !slices.ContainsFunc(req.Outputs, isImage) {
		req.Outputs = append(req.Outputs, engine.Output{Entry: engine.Entry{Type: "image", Attrs: map[string]string{}}})
	}
	for i := range req.Outputs {
		if err := b.nameOutput(req, &req.Outputs[i]); err != nil {
			return err
		}
	}
	return nil
}

func isImage(o engine.Output) bool { return o.Type == "image" }

// pushOutput makes every image output push, or adds one.
func pushOutput(req *engine.Request) {
	found := false
	for i, o := range req.Outputs {
		if isImage(o) {
			req.Outputs[i].Attrs["push"] = "true"
			found = true
		}
	}
	if !found {
		req.Outputs = append(req.Outputs, engine.Output{Entry: engine.Entry{Type: "image", Attrs: map[string]string{"push": "true"}}})
	}
}

// checkVariants refuses variants that would go nowhere. What a kind of output
// takes, the engine's client knows.
func (b *buildCmd) checkVariants(req engine.Request) error {
	added := func(o engine.Output) bool { return o.Attrs[engine.AttrAdd] != "" }
	switch {
	case len(req.AddCompression) == 0 && !slices.ContainsFunc(req.Outputs, added):
	case b.Load:
		return errors.New("--add-compression: --load gives a daemon one variant, which it unpacks: drop one of the two")
	case len(req.Outputs) == 0 && !req.Check:
		return errors.New("--add-compression: no output of this build makes an image: add --push or -o type=oci,dest=FILE")
	}
	return nil
}

// nameOutput gives an output the tags, and refuses what cannot work before
// anything is built.
func (b *buildCmd) nameOutput(req *engine.Request, o *engine.Output) error {
	if o.Type == "local" || o.Type == "tar" {
		return nil
	}
	if o.Attrs["name"] == "" && len(b.Tag) > 0 {
		o.Attrs["name"] = strings.Join(b.Tag, ",")
	}
	if isTrue(o.Attrs, "push") && o.Attrs["name"] == "" {
		return errors.New("a push needs a name: add -t REGISTRY/NAME:TAG")
	}
	if o.Attrs["name"] == "" {
		return nil
	}
	for n := range strings.SplitSeq(o.Attrs["name"], ",") {
		if n == "*" { // whatever the frontend names it
			continue
		}
		if _, err := reference.ParseNormalizedNamed(n); err != nil {
			return fmt.Errorf("-o name=%q: %w", n, err)
		}
	}
	return nil
}

// isTrue reads an attribute. That it is neither true nor false, the engine's
// client says.
func isTrue(attrs map[string]string, key string) bool {
	on, err := engine.Flag(attrs, key, false)
	return err == nil && on
}

// parseOutput reads one -o. A bare path is a directory, a bare dash a tar on
// standard output, as docker has it.
func parseOutput(s string) (engine.Output, error) {
	out := engine.Output{}
	switch {
	case s == "-":
		out.Type, out.Dest = "tar", "-"
	case !strings.Contains(s, "="):
		out.Type, out.Dest = "local", s
	default:
		f, err := fields("-o", s)
		if err != nil {
			return out, err
		}
		out.Type, out.Dest, out.Attrs = f["type"], f["dest"], f
		delete(f, "type")
		delete(f, "dest")
	}
	if out.Attrs == nil {
		out.Attrs = map[string]string{}
	}
	if out.Type == "registry" {
		out.Type = "image"
		out.Attrs["push"] = "true"
	}
	switch out.Type {
	case "image", "cacheonly":
	case "local":
		if out.Dest == "" {
			return out, fmt.Errorf("-o %q: add dest=DIRECTORY", s)
		}
	case "oci", "docker", "tar":
		if out.Dest == "" && out.Type == "docker" {
			return out, fmt.Errorf("-o %q: add dest=FILE, or use --load for a running Docker", s)
		}
		if out.Dest == "" {
			return out, fmt.Errorf("-o %q: add dest=FILE, or dest=- for standard output", s)
		}
		if out.Dest == "-" {
			if xterm.IsTerminal(int(os.Stdout.Fd())) {
				return out, fmt.Errorf("-o %q: an archive would spoil the terminal: send standard output somewhere, or add dest=FILE", s)
			}
			out.File = stdoutFile
		}
	default:
		return out, fmt.Errorf("-o %q: want type=image, oci, docker, local or tar", s)
	}
	return out, nil
}
