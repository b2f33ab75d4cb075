package explain

import (
	"path"
	"slices"
	"strings"

	"github.com/lighter-oci/lighter/internal/engine"
)

// manager is a package manager: which commands download, and where what they
// download can stay.
type manager struct {
	name string
	// downloads tells whether a command of one of the names brings packages.
	names     []string
	downloads func(words []string) bool
	// caches are the directories to mount, by where the step runs.
	caches func(surroundings) []string
	locked bool     // one user at a time
	marks  []string // in a mount's target or id: it is this manager's
	// off is what turns the cache off or empties it, the longest first, and what
	// stands in its place.
	off  []replacement
	note string
}

type replacement struct{ old, by string }

// surroundings are what a step runs in, as far as the Dockerfile says.
type surroundings struct {
	env  map[string]string
	home string // "" where it cannot be known
	uid  string // of a user who is not root, for the mount
	base string // the last part of the base image's name: "golang"
}

// orHome is the value of a variable, or a directory below HOME; "" where
// neither is known.
func (s surroundings) orHome(variable, dir string) string {
	if v := s.env[variable]; v != "" && !strings.Contains(v, "$") {
		return v
	}
	if s.home == "" {
		return ""
	}
	return path.Join(s.home, dir)
}

// verb tells whether the first word that is no flag is one of those.
func verb(words []string, verbs ...string) bool {
	p := plain(words, "-o", "-t", "-c", "-C", "--prefix", "--cwd", "--dir", "--filter", "-p", "--project")
	return len(p) > 0 && slices.Contains(verbs, p[0])
}

func always(dirs ...string) func(surroundings) []string {
	return func(surroundings) []string { return dirs }
}

var managers = []manager{
	{
		name: "apt", names: []string{"apt-get", "apt", "aptitude"},
		downloads: func(w []string) bool {
			return verb(w, "install", "upgrade", "dist-upgrade", "full-upgrade", "build-dep") && !hasFlag(w, "--no-download")
		},
		caches: always("/var/cache/apt", "/var/lib/apt"), locked: true, marks: []string{"apt"},
		off:  []replacement{{" && rm -rf /var/lib/apt/lists/*", ""}, {"; rm -rf /var/lib/apt/lists/*", ""}, {"rm -rf /var/lib/apt/lists/*", ""}, {" && apt-get clean", ""}, {"apt-get clean", ""}},
		note: "Debian's and Ubuntu's images delete what apt downloads: RUN rm -f /etc/apt/apt.conf.d/docker-clean once, above",
	},
	{
		name: "apk", names: []string{"apk"},
		downloads: func(w []string) bool { return verb(w, "add", "upgrade") && !hasFlag(w, "--no-network") },
		caches:    always("/etc/apk/cache"), locked: true, marks: []string{"apk"},
		off: []replacement{{"--no-cache", "-U"}},
	},
	{
		name: "dnf", names: []string{"dnf", "dnf5", "microdnf", "yum"},
		downloads: func(w []string) bool {
			return verb(w, "install", "update", "upgrade", "groupinstall", "builddep", "reinstall") && !hasFlag(w, "-C", "--cacheonly")
		},
		caches: always("/var/cache/dnf"), locked: true, marks: []string{"dnf", "yum"},
		off:  []replacement{{" && microdnf clean all", ""}, {" && dnf clean all", ""}, {" && yum clean all", ""}, {"clean all", ""}},
		note: "add --setopt=keepcache=1 to the command: it deletes what it downloads otherwise",
	},
	{
		name: "pip", names: []string{"pip", "pip3"},
		downloads: func(w []string) bool { return verb(w, "install", "download", "wheel") && !hasFlag(w, "--no-index") },
		caches:    func(s surroundings) []string { return []string{s.orHome("PIP_CACHE_DIR", ".cache/pip")} },
		marks:     []string{"pip"}, off: []replacement{{"--no-cache-dir ", ""}, {"--no-cache-dir", ""}},
	},
	{
		name: "npm", names: []string{"npm"},
		downloads: func(w []string) bool {
			return verb(w, "ci", "install", "i", "add", "clean-install", "install-clean") && !hasFlag(w, "--offline")
		},
		caches: func(s surroundings) []string { return []string{s.orHome("npm_config_cache", ".npm")} },
		marks:  []string{"npm"}, off: []replacement{{" && npm cache clean --force", ""}, {"npm cache clean", ""}},
	},
	{
		name: "yarn", names: []string{"yarn"},
		downloads: func(w []string) bool {
			return (len(plain(w)) == 0 && !hasFlag(w, "--version", "-v", "--help") || verb(w, "install", "add")) && !hasFlag(w, "--offline")
		},
		caches: func(s surroundings) []string {
			if s.home == "/root" && s.env["YARN_CACHE_FOLDER"] == "" {
				return []string{"/usr/local/share/.cache/yarn"} // where yarn 1 keeps root's
			}
			return []string{s.orHome("YARN_CACHE_FOLDER", ".cache/yarn")}
		},
		marks: []string{"yarn"}, off: []replacement{{" && yarn cache clean", ""}, {"yarn cache clean", ""}},
	},
	{
		name: "pnpm", names: []string{"pnpm"},
		downloads: func(w []string) bool { return verb(w, "install", "i", "add", "fetch") && !hasFlag(w, "--offline") },
		caches: func(s surroundings) []string {
			if dir := s.env["PNPM_HOME"]; dir != "" && !strings.Contains(dir, "$") {
				return []string{path.Join(dir, "store")}
			}
			return []string{s.orHome("", ".local/share/pnpm/store")}
		},
		marks: []string{"pnpm"},
	},
	{
		name: "cargo", names: []string{"cargo"},
		downloads: func(w []string) bool {
			p := plain(w)
			if len(p) > 1 && p[0] == "chef" {
				return p[1] == "cook"
			}
			return verb(w, "build", "install", "test", "fetch", "check", "run", "clippy", "bench", "vendor") && !hasFlag(w, "--offline", "--frozen")
		},
		caches: func(s surroundings) []string {
			if s.base == "rust" && s.env["CARGO_HOME"] == "" {
				return []string{"/usr/local/cargo/registry", "/usr/local/cargo/git"} // as rust's images set it
			}
			home := s.orHome("CARGO_HOME", ".cargo")
			if home == "" {
				return []string{""}
			}
			return []string{path.Join(home, "registry"), path.Join(home, "git")}
		},
		marks: []string{"cargo", "target", "registry"},
	},
	{
		name: "go", names: []string{"go"},
		downloads: func(w []string) bool {
			p := plain(w)
			if len(p) > 1 && p[0] == "mod" {
				return p[1] == "download"
			}
			return verb(w, "build", "install", "test", "run", "get", "vet")
		},
		caches: func(s surroundings) []string {
			mod := s.env["GOMODCACHE"]
			if gopath := s.env["GOPATH"]; mod == "" && gopath != "" {
				mod = path.Join(gopath, "pkg/mod")
			}
			if mod == "" && s.base == "golang" {
				mod = "/go/pkg/mod" // as golang's images set it
			}
			if mod == "" {
				mod = s.orHome("", "go/pkg/mod")
			}
			return []string{mod, s.orHome("GOCACHE", ".cache/go-build")}
		},
		marks: []string{"go-build", "gocache", "go/pkg", "gomod", "go-mod"},
		off:   []replacement{{" && go clean -cache", ""}, {"go clean", ""}},
	},
	{
		name: "maven", names: []string{"mvn", "mvnw"},
		downloads: func(w []string) bool { return len(plain(w)) > 0 && !hasFlag(w, "-o", "--offline", "--version", "-v") },
		caches:    func(s surroundings) []string { return []string{s.orHome("", ".m2")} },
		marks:     []string{".m2", "maven", "m2"},
	},
	{
		name: "gradle", names: []string{"gradle", "gradlew"},
		downloads: func(w []string) bool { return !hasFlag(w, "--offline", "--version", "-v") },
		caches:    func(s surroundings) []string { return []string{s.orHome("GRADLE_USER_HOME", ".gradle")} },
		marks:     []string{"gradle"},
	},
}

// managerOf is the package manager that a command downloads with, nil where it
// does not.
func managerOf(words []string) *manager {
	words = module(words)
	for i := range managers {
		m := &managers[i]
		if slices.Contains(m.names, words[0]) && m.downloads(words) {
			return m
		}
	}
	return nil
}

// module makes "python3 -m pip install", "/usr/bin/pip3.12 install" and
// "./mvnw" the plain name with its arguments.
func module(words []string) []string {
	name := path.Base(words[0])
	if strings.HasPrefix(name, "python") && len(words) > 2 && words[1] == "-m" {
		words = words[2:]
		name = words[0]
	}
	if strings.HasPrefix(name, "pip3.") {
		name = "pip3"
	}
	return append([]string{name}, words[1:]...)
}

// mine tells whether a mount is a manager's cache.
func (m *manager) mine(mount engine.Mount, dirs []string) bool {
	for _, d := range dirs {
		if d != "" && (within(d, mount.Target) || within(mount.Target, d)) {
			return true
		}
	}
	return slices.ContainsFunc(m.marks, func(mark string) bool {
		return strings.Contains(mount.Target, mark) || strings.Contains(mount.ID, mark)
	})
}

// within tells whether a path is a directory or lies in it.
func within(p, dir string) bool {
	p, dir = path.Clean(p), path.Clean(dir)
	return p == dir || strings.HasPrefix(p, strings.TrimSuffix(dir, "/")+"/")
}
