package explain

import (
	"path"
	"slices"
	"strings"
)

// ecosystem is how a language's dependencies are installed from a few files
// that change less often than the sources do.
type ecosystem struct {
	manager string
	// installs tells whether a command needs the manifests only.
	installs func(words []string) bool
	// builds tells whether a command installs dependencies on its way.
	builds func(words []string) bool
	// instead is what to run before the sources come, where the command found
	// is no install; "" repeats the command.
	instead string
	wrapper bool // instead follows the command itself, which may be ./mvnw
	// main are the manifests of which one must be there, lock what comes along,
	// dirs directories that do.
	main, lock, dirs []string
	// ready are files that make it needless: nothing would be downloaded.
	ready []string
	// source is a file that a project has for instead to be right.
	source string
	// project are the manifests of which each project has one. Several in one
	// context are a workspace, which needs more files than lighter can name.
	project []string
	// A cache mount keeps downloads as well as an early step would; what npm and
	// pip do behind it takes its time, too.
	mountWillDo bool
}

// packages is the ecosystem's manager.
func (e ecosystem) packages() *manager {
	return &managers[slices.IndexFunc(managers, func(m manager) bool { return m.name == e.manager })]
}

// usedBy tells whether a command installs dependencies, alone or on its way.
func (e ecosystem) usedBy(words []string) bool {
	return slices.Contains(e.packages().names, words[0]) && (e.installs(words) || e.builds(words))
}

func no([]string) bool { return false }

// bareInstall is npm's install of what package.json says, of no other package.
func bareInstall(words []string) bool {
	p := plain(words)
	return len(p) == 1 && slices.Contains([]string{"ci", "install", "i", "clean-install"}, p[0]) && !hasFlag(words, "-g", "--global", "--offline")
}

var ecosystems = []ecosystem{
	{
		manager: "npm", installs: bareInstall, builds: no, project: []string{"package.json"},
		main: []string{"package.json"}, lock: []string{"package-lock.json", "npm-shrinkwrap.json", ".npmrc"}, dirs: []string{"patches"},
	},
	{
		manager: "yarn", builds: no, project: []string{"package.json"},
		installs: func(w []string) bool {
			return (len(plain(w)) == 0 || bareInstall(w)) && !hasFlag(w, "--version", "--offline")
		},
		main: []string{"package.json"}, lock: []string{"yarn.lock", ".yarnrc", ".yarnrc.yml", ".npmrc"}, dirs: []string{".yarn", "patches"},
	},
	{
		manager: "pnpm", installs: bareInstall, builds: no, project: []string{"package.json"},
		main: []string{"package.json"}, lock: []string{"pnpm-lock.yaml", "pnpm-workspace.yaml", ".npmrc", ".pnpmfile.cjs"}, dirs: []string{"patches"},
	},
	{
		manager: "pip", builds: no,
		installs: func(w []string) bool {
			return len(plain(w, "-r", "--requirement", "-c", "--constraint", "-i", "--index-url", "--extra-index-url", "-f", "--find-links", "-t", "--target", "--prefix", "--progress-bar", "--timeout", "--trusted-host")) == 1 &&
				len(requirements(w)) > 0 && !hasFlag(w, "-e", "--editable", "--no-index", "-f", "--find-links")
		},
	},
	{
		manager: "go", project: []string{"go.mod"}, mountWillDo: true, instead: "go mod download",
		installs: func(w []string) bool { return strings.Join(plain(w), " ") == "mod download" },
		builds:   func(w []string) bool { return verb(w, "build", "install", "test") && !hasFlag(w, "-mod=vendor") },
		main:     []string{"go.sum"}, lock: []string{"go.mod"}, ready: []string{"vendor/modules.txt", "go.work"},
	},
	{
		manager: "cargo", project: []string{"Cargo.toml"}, mountWillDo: true,
		instead:  "mkdir src && echo 'fn main() {}' > src/main.rs && cargo fetch", // which wants a target
		installs: no,
		builds: func(w []string) bool {
			return verb(w, "build", "install", "test", "fetch", "check") && !hasFlag(w, "--offline", "--frozen")
		},
		main: []string{"Cargo.lock"}, lock: []string{"Cargo.toml", "rust-toolchain", "rust-toolchain.toml"}, dirs: []string{".cargo"},
		ready: []string{"vendor"}, source: "src/main.rs",
	},
	{
		manager: "maven", project: []string{"pom.xml"}, mountWillDo: true, instead: "-B dependency:go-offline", wrapper: true,
		installs: func(w []string) bool { p := plain(w); return len(p) > 0 && strings.HasPrefix(p[0], "dependency:") },
		builds:   func(w []string) bool { return slices.ContainsFunc(plain(w), isMavenPhase) },
		main:     []string{"pom.xml"}, lock: []string{"mvnw"}, dirs: []string{".mvn"},
	},
	{
		manager: "gradle", project: []string{"build.gradle", "build.gradle.kts"}, mountWillDo: true, instead: "dependencies", wrapper: true,
		installs: func(w []string) bool { return verb(w, "dependencies") },
		builds: func(w []string) bool {
			return verb(w, "build", "assemble", "bootJar", "jar", "shadowJar", "installDist", "test")
		},
		main: []string{"build.gradle", "build.gradle.kts"},
		lock: []string{"settings.gradle", "settings.gradle.kts", "gradle.properties", "gradle.lockfile", "gradlew"}, dirs: []string{"gradle"},
		ready: []string{"buildSrc"},
	},
}

func isMavenPhase(word string) bool {
	return slices.Contains([]string{"compile", "test", "package", "verify", "install", "deploy"}, word)
}

// requirements are the files that pip reads its packages from.
func requirements(words []string) []string {
	var files []string
	for i, w := range words {
		switch name, value, has := strings.Cut(w, "="); {
		case slices.Contains([]string{"-r", "--requirement", "-c", "--constraint"}, w) && i+1 < len(words):
			files = append(files, words[i+1])
		case has && (name == "--requirement" || name == "--constraint"):
			files = append(files, value)
		case strings.HasPrefix(w, "-r") && len(w) > 2:
			files = append(files, w[2:])
		}
	}
	return files
}

// elsewhere tells whether a command works in another directory than its step,
// or reads another manifest than its own.
func elsewhere(script string, words []string) bool {
	for _, c := range commands(script) {
		if c[0] == "cd" || c[0] == "pushd" {
			return true
		}
	}
	return hasFlag(words, "-C", "--prefix", "--cwd", "--dir", "--manifest-path", "-f", "--file", "-p", "--project-dir", "-w", "--workspace", "--filter")
}

// projectAt are the manifests of a project in a directory of the context, its
// files beside them and its directories; main is empty where there is none.
func (g *graph) projectAt(e ecosystem, dir string, words []string) (main, lock, dirs []string) {
	at := func(names []string) []string {
		var list []string
		for _, n := range names {
			if g.has(path.Join(dir, n)) {
				list = append(list, n)
			}
		}
		return list
	}
	if e.manager == "pip" {
		main = at(requirements(words))
		if len(main) < len(requirements(words)) {
			return nil, nil, nil
		}
		return main, g.beside(dir, main), nil
	}
	if len(at(e.ready)) > 0 || e.source != "" && !g.has(path.Join(dir, e.source)) {
		return nil, nil, nil
	}
	return at(e.main), at(e.lock), at(e.dirs)
}

// beside are requirement files in the directories of others, which those may
// include.
func (g *graph) beside(dir string, main []string) []string {
	var list []string
	for _, f := range g.Context {
		rel, ok := strings.CutPrefix(f.Path, strings.TrimPrefix(path.Clean(dir)+"/", "./"))
		if !ok || slices.Contains(main, rel) {
			continue
		}
		for _, m := range main {
			base := path.Base(rel)
			if path.Dir(rel) == path.Dir(m) && strings.HasSuffix(base, ".txt") &&
				(path.Dir(m) != "." || strings.HasPrefix(base, "requirements") || strings.HasPrefix(base, "constraints")) {
				list = append(list, rel)
				break
			}
		}
	}
	return list
}

// has tells whether the context has a file or directory.
func (g *graph) has(p string) bool {
	if g.paths == nil {
		g.paths = make(map[string]bool, len(g.Context))
		for _, f := range g.Context {
			g.paths[f.Path] = true
		}
	}
	return g.paths[path.Clean(p)]
}

// workspace tells whether the context has several of an ecosystem's projects,
// apart from installed packages and tests.
func (g *graph) workspace(e ecosystem) bool {
	n := 0
	for _, f := range g.Context {
		if dir, base := path.Split(f.Path); slices.Contains(e.project, base) && !foreign(dir) {
			n++
		}
	}
	return n > 1
}

// foreign tells directories whose manifests are no part of the project.
func foreign(dir string) bool {
	return slices.ContainsFunc(strings.Split(dir, "/"), func(part string) bool {
		return slices.Contains([]string{"node_modules", "testdata", "fixtures", "examples", "vendor", "target", ".yarn"}, part)
	})
}
