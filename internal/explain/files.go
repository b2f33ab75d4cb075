package explain

import (
	"path"
	"slices"
	"strings"

	"github.com/lighter-oci/lighter/internal/engine"
)

// contextSources are the paths of the main context that an instruction reads.
func contextSources(in engine.Instruction) []string {
	var list []string
	if (in.Word == "COPY" || in.Word == "ADD") && in.From == "" {
		for _, s := range in.Sources {
			if !isRemote(s) {
				list = append(list, s)
			}
		}
	}
	for _, m := range in.Mounts {
		if isContextMount(m) {
			list = append(list, m.Source)
		}
	}
	return list
}

func isContextMount(m engine.Mount) bool { return m.Type == "bind" && m.From == "" }

// isRemote tells what ADD fetches from what the context has.
func isRemote(source string) bool {
	return strings.Contains(source, "://") || strings.HasPrefix(source, "git@")
}

// clean is a source relative to the context; "" is all of it.
func clean(source string) string {
	return strings.TrimPrefix(path.Clean("/"+source), "/")
}

// holds tells whether a source brings a path of the context. A source that was
// not expanded may bring anything.
func holds(source, p string) bool {
	s := clean(source)
	if s == "" || s == p || strings.HasPrefix(p, s+"/") || strings.Contains(s, "$") {
		return true
	}
	if !strings.ContainsAny(s, "*?[") {
		return false
	}
	// A pattern matches a directory with all that is in it.
	n := strings.Count(s, "/") + 1
	parts := strings.SplitN(p, "/", n+1)
	ok, _ := path.Match(s, strings.Join(parts[:min(n, len(parts))], "/"))
	return ok
}

// reads tells whether an instruction takes a path of the context that one of
// its sources holds.
func reads(in engine.Instruction, sources []string, p string) bool {
	if !slices.ContainsFunc(sources, func(s string) bool { return holds(s, p) }) {
		return false
	}
	return !slices.ContainsFunc(in.Exclude, func(pattern string) bool { return excludes(pattern, p) })
}

// excludes errs on the side of excluding: a file that is not named is better
// than one that did not matter.
func excludes(pattern, p string) bool {
	pattern = strings.TrimPrefix(clean(pattern), "**/")
	for q := p; q != "."; q = path.Dir(q) {
		for _, name := range []string{q, path.Base(q)} {
			if ok, _ := path.Match(pattern, name); ok {
				return true
			}
		}
	}
	return false
}
