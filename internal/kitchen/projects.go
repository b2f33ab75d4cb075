package kitchen

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"github.com/lighter-oci/lighter/internal/project"
)

// Project is one of the directories that the server was pointed at, as its files
// say now: they are read for each page, so that what is shown is what would be built.
type Project struct {
	Slug      string    `json:"project"` // in addresses
	Dir       string    `json:"dir"`
	File      string    `json:"file,omitempty"` // what says how it is built: lighter.toml, a bake file, Dockerfile
	Image     string    `json:"image,omitempty"`
	Verbs     []string  `json:"verbs"`               // of build, pack and publish those that it can
	Variants  []Variant `json:"variants"`            // the project itself first, where it can be built
	Platforms []string  `json:"platforms"`           // to choose from
	Problems  []string  `json:"problems,omitempty"`  // why it can not; with file, line and column where there is one
	Engine    string    `json:"-"`                   // of --engine; an address may have a user in it
	Version   bool      `json:"versioned,omitempty"` // tags or arguments have a version in them

	bake bool
}

// Variant is one image of a project.
type Variant struct {
	Name  string   `json:"name"` // "" is the project itself
	Names []string `json:"tags,omitempty"`
	Note  string   `json:"note,omitempty"` // target and base, where they differ
}

// Label is the variant's name, or what the project itself is called.
func (v Variant) Label() string { return cmp.Or(v.Name, "default") }

// Can tells whether a verb is among the project's.
func (p Project) Can(verb string) bool { return slices.Contains(p.Verbs, verb) }

// place is where a project lies and how its page is called.
type place struct{ slug, dir, engine string }

var notSlug = regexp.MustCompile(`[^a-z0-9._-]+`)

// places names the directories: by their last element, with a number where two
// have the same.
func places(dirs []string, config *Config) ([]place, error) {
	var all []place
	taken := map[string]bool{}
	for _, dir := range dirs {
		abs, err := filepath.Abs(dir)
		if err != nil {
			return nil, err
		}
		if info, err := os.Stat(abs); errors.Is(err, fs.ErrNotExist) {
			return nil, fault{what: dir + " does not exist", next: "name directories of projects, or none for this one"}
		} else if err != nil {
			return nil, err
		} else if !info.IsDir() {
			return nil, fault{what: dir + " is no directory", next: "name the directory that it is in"}
		}
		if slices.ContainsFunc(all, func(p place) bool { return p.dir == abs }) {
			continue
		}
		base := strings.Trim(notSlug.ReplaceAllString(strings.ToLower(filepath.Base(abs)), "-"), "-.")
		base = cmp.Or(base, "project")
		slug := base
		for n := 2; taken[slug]; n++ {
			slug = base + "-" + strconv.Itoa(n)
		}
		taken[slug] = true
		all = append(all, place{slug, abs, config.Projects[slug].Engine})
	}
	for name := range config.Projects {
		if !taken[name] {
			return nil, config.wrong("projects."+name, errors.New("there is no project with a page of that name"), "choose from "+strings.Join(slices.Sorted(maps.Keys(taken)), ", ")+", or name its directory, too")
		}
	}
	return all, nil
}

// real is the directory as builds record it: one that is reached by a link has another
// name where it lies, and the link may lead elsewhere tomorrow.
func (at place) real() string {
	if dir, err := filepath.EvalSymlinks(at.dir); err == nil {
		return dir
	}
	return at.dir
}

// project reads one; false where there is no such.
func (s *Server) project(slug string) (Project, bool) {
	i := slices.IndexFunc(s.places, func(p place) bool { return p.slug == slug })
	if i < 0 {
		return Project{}, false
	}
	return s.places[i].read(), true
}

func (s *Server) projects() []Project {
	all := make([]Project, 0, len(s.places))
	for _, p := range s.places {
		all = append(all, p.read())
	}
	return all
}

// read looks at what the directory has: lighter.toml, else bake files, else a
// Dockerfile.
func (at place) read() Project {
	p := Project{Slug: at.slug, Dir: at.real(), Engine: at.engine, Verbs: []string{}, Variants: []Variant{}, Platforms: []string{"linux/" + runtime.GOARCH}}
	path := filepath.Join(p.Dir, project.Name)
	switch _, err := os.Stat(path); {
	case err == nil:
		p.File = project.Name
		p.fromFile(path)
	case !errors.Is(err, fs.ErrNotExist):
		p.Problems = []string{err.Error()}
	default:
		p.fromOthers()
	}
	return p
}

func (p *Project) fromFile(path string) {
	file, err := project.Load(path)
	if err != nil {
		p.Problems = strings.Split(err.Error(), "\n")
		return
	}
	p.Image = file.Image
	if len(file.Platforms) > 0 {
		p.Platforms = file.Platforms
	}
	dockerfile := filepath.Join(file.Dir(), file.Context, cmp.Or(file.Dockerfile, "Dockerfile"))
	if _, err := os.Stat(dockerfile); err == nil {
		p.Verbs = append(p.Verbs, "build")
	}
	if len(p.Verbs) == 0 || file.Packs() {
		p.Verbs = append(p.Verbs, "pack")
	}
	if file.Image != "" {
		p.Verbs = append(p.Verbs, "publish")
	}
	p.Version = file.NeedsVersion()
	for _, name := range append([]string{""}, slices.Sorted(maps.Keys(file.Variants))...) {
		v, err := file.Variant(name)
		if err != nil {
			p.Problems = append(p.Problems, err.Error())
			continue
		}
		var note []string
		if v.Target != file.Target {
			note = append(note, "target "+v.Target)
		}
		if v.Base != file.Base {
			note = append(note, "base "+v.Base)
		}
		p.Variants = append(p.Variants, Variant{name, v.Names(), strings.Join(note, ", ")})
	}
}

func (p *Project) fromOthers() {
	if files := project.FindBake(p.Dir); len(files) > 0 {
		p.File, p.bake = filepath.Base(files[0]), true
		all, err := project.LoadBake(files, os.LookupEnv)
		if err != nil {
			p.Problems = strings.Split(err.Error(), "\n")
			return
		}
		p.Verbs = append(p.Verbs, "build")
		for _, name := range all.Names() {
			if _, t, err := all.Target(name); err == nil {
				p.Variants = append(p.Variants, Variant{name, t["tags"], ""})
			}
		}
		return
	}
	if _, err := os.Stat(filepath.Join(p.Dir, "Dockerfile")); err != nil {
		p.Problems = []string{fmt.Sprintf("%s has no %s, no docker-bake.hcl and no Dockerfile: make one with `lighter init`", p.Dir, project.Name)}
		return
	}
	p.File = "Dockerfile"
	p.Verbs = append(p.Verbs, "build")
	p.Variants = append(p.Variants, Variant{})
}
