package explain

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/lighter-oci/lighter/internal/engine"
	"github.com/lighter-oci/lighter/internal/report"
)

// byproduct is a directory that tools leave in a project and that a build makes
// itself or never reads.
type byproduct struct {
	name string
	// made matches the scripts of steps that make it; nil is a directory that no
	// build wants. What a step of the build does not make may be what it wants.
	made *regexp.Regexp
	// beside are files of which one stands beside the directory, so that the
	// name means what it seems to.
	beside []string
	unless *regexp.Regexp // scripts that read it
}

var (
	nodeInstall = regexp.MustCompile(`\b(npm (ci|install|i)|yarn|pnpm (install|i|fetch)|bun install)\b`)
	nodeBuild   = regexp.MustCompile(`\b((npm|pnpm|yarn|bun)( run)? build|vite build|tsc|webpack|rollup|next build)\b`)
	pyInstall   = regexp.MustCompile(`\b(pip3? install|uv sync|uv pip|poetry install|pipenv|venv)\b`)
	jvmBuild    = regexp.MustCompile(`\b(gradlew?|mvnw?)\b`)
)

var byproducts = []byproduct{
	{name: "node_modules", made: nodeInstall},
	{name: "target", made: regexp.MustCompile(`\bcargo\b`), beside: []string{"Cargo.toml"}},
	{name: "target", made: regexp.MustCompile(`\bmvnw?\b`), beside: []string{"pom.xml"}},
	{name: ".git", unless: regexp.MustCompile(`\bgit\b|buildvcs|setuptools[-_]scm|\bmake\b|goreleaser`)},
	{name: "dist", made: nodeBuild, beside: []string{"package.json"}},
	{name: "build", made: nodeBuild, beside: []string{"package.json"}},
	{name: "build", made: jvmBuild, beside: []string{"build.gradle", "build.gradle.kts"}},
	{name: ".gradle", made: jvmBuild},
	{name: ".venv", made: pyInstall},
	{name: "venv", made: pyInstall},
	{name: ".next", made: nodeBuild, beside: []string{"package.json"}},
	{name: ".nuxt", made: nodeBuild, beside: []string{"package.json"}},
	{name: ".turbo"}, {name: ".parcel-cache"}, {name: ".tox"}, {name: ".nox"}, {name: "__pycache__"},
	{name: ".pytest_cache"}, {name: ".mypy_cache"}, {name: ".ruff_cache"}, {name: ".terraform"},
}

// When files that need not be sent are worth a line: asked for, and not.
const (
	leastAsked   = 1_000_000
	leastUnasked = 10_000_000
	muchUnasked  = 100_000_000 // however much else is sent
)

// sentFiles finds what the ignore file should hold back.
func (g *graph) sentFiles() []report.Finding {
	total := int64(0)
	for _, f := range g.Context {
		total += f.Size
	}
	type heap struct {
		bytes int64
		files int
		deep  bool // not at the top of the context only
		by    engine.Instruction
	}
	heaps := map[string]*heap{}
	var order []string
	verdicts := map[string]*engine.Instruction{} // of directories
	for _, f := range g.Context {
		dir, ok := g.byproductOf(f.Path)
		if !ok || fingerprintOf(f).dir() {
			continue
		}
		by, known := verdicts[dir]
		if !known {
			by = g.needlessly(dir)
			verdicts[dir] = by
		}
		if by == nil {
			continue
		}
		name := path.Base(dir)
		h := heaps[name]
		if h == nil {
			h = &heap{by: *by}
			heaps[name] = h
			order = append(order, name)
		}
		h.bytes += f.Size
		h.files++
		h.deep = h.deep || strings.Contains(dir, "/")
	}
	var list []report.Finding
	for _, name := range order {
		h := heaps[name]
		if h.bytes < leastAsked || !g.All && (h.bytes < leastUnasked || h.bytes*10 < total && h.bytes < muchUnasked) {
			continue
		}
		line := name
		if h.deep {
			line = "**/" + name
		}
		list = append(list, report.Finding{
			Kind: report.SentFiles, Line: h.by.Line, Bytes: h.bytes, Change: []string{line}, ChangeIn: g.Outline.Ignore,
			Text: fmt.Sprintf("%s sends %s: %s in %s, %d %% of the context",
				short(h.by.Text), name, report.Bytes(h.bytes), report.Plural(h.files, "file"), h.bytes*100/max(total, 1)),
		})
	}
	return list
}

// byproductOf is the topmost directory of a path that has a byproduct's name.
func (g *graph) byproductOf(p string) (dir string, ok bool) {
	for i := 0; i < len(p); {
		end := strings.IndexByte(p[i:], '/')
		if end < 0 {
			return "", false
		}
		name := p[i : i+end]
		if slices.ContainsFunc(byproducts, func(b byproduct) bool { return b.name == name }) {
			return p[:i+end], true
		}
		i += end + 1
	}
	return "", false
}

// needlessly is the copy that sends a directory which no instruction wants, nil
// where one may.
func (g *graph) needlessly(dir string) *engine.Instruction {
	var by *engine.Instruction
	for i, st := range g.Outline.Stages {
		for at, in := range st.Instructions {
			for _, s := range contextSources(in) {
				switch {
				case strings.Contains(s, "$") || within(clean(s), dir) && clean(s) != "":
					return nil // named: it is meant
				case !holds(s, dir) || !g.built[i] || in.Word == "RUN":
				case !g.makes(dir, i):
					return nil
				case by == nil:
					by = &st.Instructions[at]
				}
			}
		}
	}
	return by
}

// makes tells whether the steps of a stage make a directory themselves, or can
// do without it.
func (g *graph) makes(dir string, stage int) bool {
	var scripts strings.Builder
	for i, st := range g.Outline.Stages {
		if i != stage && !g.restsOn(i, stage) {
			continue
		}
		for _, in := range st.Instructions {
			scripts.WriteString(in.Script + "\n")
		}
	}
	for _, b := range byproducts {
		if b.name != path.Base(dir) || b.made != nil && !b.made.MatchString(scripts.String()) ||
			b.unless != nil && b.unless.MatchString(scripts.String()) {
			continue
		}
		if len(b.beside) == 0 || slices.ContainsFunc(b.beside, func(f string) bool { return g.has(path.Join(path.Dir(dir), f)) }) {
			return true
		}
	}
	return false
}

// restsOn tells whether a stage is built on another.
func (g *graph) restsOn(stage, on int) bool {
	for stage >= 0 {
		if stage == on {
			return true
		}
		stage = g.Outline.Stages[stage].Parent
	}
	return false
}
