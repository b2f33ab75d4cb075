package project_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lighter-oci/lighter/internal/project"
)

// Every key of the file, read into what it stands for.
func TestParseWhole(t *testing.T) {
	p, err := project.Load("testdata/whole.toml")
	if err != nil {
		t.Fatal(err)
	}
	if !filepath.IsAbs(p.Path) {
		t.Errorf("path %q, want an absolute one", p.Path)
	}
	want := project.Project{
		Path:             p.Path,
		Image:            "registry.example.com/team/app",
		Tags:             []string{"{version}", "{major}.{minor}", "latest"},
		Platforms:        []string{"linux/amd64", "linux/arm64"},
		Version:          "Cargo.toml",
		Compression:      "zstd:9",
		AddCompression:   []string{"gzip"},
		ForceCompression: true,
		Cache:            project.Cache{Layers: "auto", Mounts: "registry.example.com/team/app:mounts", When: "always", MaxSize: "10GB", MaxAge: "720h"},
		Context:          "src",
		Dockerfile:       "src/Dockerfile.release",
		Target:           "release",
		Args:             map[string]string{"VERSION": "{version}", "JSON": `{"a": 1}`},
		Contexts:         map[string]string{"base": "oci-layout://../base:v1"},
		Secrets:          map[string]project.Secret{"npm": {Env: "NPM_TOKEN"}, "netrc": {File: "~/.netrc"}},
		Base:             "gcr.io/distroless/static",
		Toolchain: project.Toolchain{
			Command: project.Command{"make", "app"}, Output: "out/app", Env: map[string]string{"CC": "musl-gcc"},
		},
		Features:   []string{"tls"},
		NoDefaults: true,
		Binaries:   []string{"app"},
		Files: []project.File{
			{From: "etc/app.conf", To: "/etc/app/", Mode: "0640", Owner: "1000:1000"},
			{From: "www", To: "/srv/www", Mode: "0o755", Owner: "33"},
		},
		Entrypoint:  []string{"/app", "/app"},
		Cmd:         []string{"serve", ""},
		Env:         map[string]string{"TZ": "UTC"},
		User:        "65532",
		Workdir:     "/srv",
		Expose:      []string{"8080", "53/udp"},
		Labels:      map[string]string{"org.opencontainers.image.version": "{version}"},
		Annotations: map[string]string{"a": "b"},
		Checks:      map[string]project.Command{"test": {"cargo", "test"}, "lint": {"sh", "-c", "cargo clippy && echo ok"}},
		Variants: map[string]project.Variant{
			"slim":            {Tags: []string{"slim"}, Features: []string{}, NoDefaults: true, Binaries: []string{"slim"}, Target: "slim", Base: "scratch", Args: map[string]string{"X": "1"}, Contexts: map[string]string{"base": "../slim"}},
			"pg-mimalloc":     {Features: []string{"pg", "mimalloc"}, Args: map[string]string{"DB": "pg"}},
			"pg-system":       {Features: []string{"pg", "system"}, Args: map[string]string{"DB": "pg"}},
			"sqlite-mimalloc": {Features: []string{"sqlite", "mimalloc"}, Args: map[string]string{"DB": "sqlite"}},
			"sqlite-system":   {Features: []string{"sqlite", "system"}, Args: map[string]string{"DB": "sqlite"}},
		},
	}
	if diff := cmp.Diff(want, p); diff != "" {
		t.Error(diff)
	}
}

func TestShorthands(t *testing.T) {
	p := parse(t, "image = 'app'\ncache = 'auto'\ntoolchain = 'cargo-zigbuild'\n")
	if want := (project.Cache{Layers: "auto", Mounts: "auto"}); p.Cache != want {
		t.Errorf("cache %v, want %v", p.Cache, want)
	}
	if p.Toolchain.Use != "cargo-zigbuild" {
		t.Errorf("toolchain %v", p.Toolchain)
	}
	if p := parse(t, "[toolchain]\nuse = 'cargo-zigbuild'\nincremental = true\n"); !p.Toolchain.Incremental {
		t.Errorf("toolchain %v", p.Toolchain)
	}
	if got := p.CacheRef(p.Cache.Layers); got != "app:buildcache" {
		t.Errorf("auto is %s", got)
	}
}

func TestErrors(t *testing.T) {
	for _, tt := range []struct{ text, want string }{
		// What TOML itself refuses.
		{"image = \n", `lighter.toml:1:9: unexpected character U+000A at start of value`},
		{"image = \"a\"\nimage = \"b\"\n", `lighter.toml:2:1: image: key image is already defined`},
		{"# ä ö ü\n[labels]\n\"ä\" = 'ö' x\n", `lighter.toml:3:11: expected newline but got U+0078 'x'`},
		// Keys.
		{"platform = ['linux/amd64']\n", `lighter.toml:1:1: platform: unknown key; did you mean platforms?`},
		{"force_compression = true\n", `lighter.toml:1:1: force_compression: unknown key; did you mean force-compression?`},
		{"[cache]\nlayer = 'x'\n", `lighter.toml:2:1: cache.layer: unknown key; did you mean layers?`},
		{"[cache]\nsomewhere = 'x'\n", `lighter.toml:2:1: cache.somewhere: unknown key; known are layers, mounts, when, max-size, max-age`},
		{"[variants.slim]\nfeature = ['x']\n", `lighter.toml:2:1: variants.slim.feature: unknown key; did you mean features?`},
		{"[[files]]\nfrom = 'a'\nto = '/a'\nmod = '0644'\n", `lighter.toml:4:1: files[0].mod: unknown key; did you mean mode?`},
		{"files = [{ from = 'a' }]\n", `lighter.toml:1:10: files[0].to: missing; want an absolute path in the image, as /etc/app/`},
		{"[labels]\na = 'b'\nplatforms = ['linux/amd64']\n", `lighter.toml:3:1: labels.platforms: want a string, not an array; platforms is a key of the file, not of labels: write it above the first [table]`},
		{"[toolchain]\nuse = 'go'\nexpose = [1]\n", `lighter.toml:3:1: toolchain.expose: expose is a key of the file, not of toolchain: write it above the first [table]`},
		{"[args]\n\"A=B\" = 'x'\n", `lighter.toml:2:1: args."A=B": want a name for the key`},
		// Kinds.
		{"image = 1\n", `lighter.toml:1:9: image: want an image name, as registry.example.com/team/app, not an integer`},
		{"platforms = 'linux/amd64'\n", `lighter.toml:1:13: platforms: want an array, each of it OS/ARCH, as linux/arm64, not a string`},
		{"platforms = [\n  'linux/amd64',\n  true,\n]\n", `lighter.toml:3:3: platforms[1]: want OS/ARCH, as linux/arm64, not true or false`},
		{"force-compression = 'yes'\n", `lighter.toml:1:21: force-compression: want true or false, not a string`},
		{"args = ['A=B']\n", `lighter.toml:1:1: args: want a table, not an array`},
		{"[args]\nA = 1\n", `lighter.toml:2:5: args.A: want a string, not an integer`},
		{"cache = true\n", `lighter.toml:1:9: cache: want auto, a name in a registry, oci:DIR or gha, or a table, not true or false`},
		{"toolchain = 1.5\n", `lighter.toml:1:13: toolchain: want one of go, cargo, cargo-zigbuild, rust, zig, c, c++, or a table, not a date or a fraction`},
		{"[files]\nfrom = 'a'\n", `lighter.toml:1:2: files: want an array of tables, each below [[files]], not a table`},
		{"[checks]\ntest = []\n", `lighter.toml:2:1: checks.test: empty; want a command line, or an array of program and arguments`},
		{"[checks]\ntest = ['']\n", `lighter.toml:2:1: checks.test: empty; want a command line, or an array of program and arguments`},
		{"[checks]\ntest = 1\n", `lighter.toml:2:8: checks.test: want a command line, or an array of program and arguments, not an integer`},
		// Values.
		{"image = 'Team/App'\n", `lighter.toml:1:9: image: "Team/App": the repository must be lowercase`},
		{"image = 'app@sha256:" + strings.Repeat("0", 64) + "'\n", `lighter.toml:1:9: image: "app@sha256:` + strings.Repeat("0", 64) + `": a build decides its digest itself: name a tag only`},
		{"image = 'a'\ntags = ['latest', 'a b']\n", `lighter.toml:2:19: tags[1]: "a b": want a tag, as {version} or latest: letters, digits, _ . -`},
		{"image = 'a'\ntags = ['{vers}']\n", `lighter.toml:2:9: tags[0]: "{vers}": {vers} is no placeholder; did you mean version?`},
		{"image = 'a'\ntags = ['{version']\n", `lighter.toml:2:9: tags[0]: "{version": a brace is left open`},
		{"image = 'a'\ntags = ['1', '1']\n", `lighter.toml:2:14: tags[1]: "1" is there twice`},
		{"platforms = ['linux']\n", `lighter.toml:1:14: platforms[0]: "linux": want OS/ARCH, as linux/arm64`},
		{"compression = 'zstd:99'\n", `lighter.toml:1:15: compression: "zstd:99": no such level; use zstd:1 to zstd:22`},
		{"compression = 'brotli'\n", `lighter.toml:1:15: compression: "brotli": unknown codec; use zstd[:1-22], gzip[:1-9] or uncompressed`},
		{"image = 'a'\n[cache]\nmounts = 'auto'\nmax-size = 'huge'\n", `lighter.toml:4:12: cache.max-size: "huge": want a size such as 10GB`},
		{"image = 'a'\n[cache]\nmounts = 'auto'\nmax-size = '0GB'\n", `lighter.toml:4:12: cache.max-size: "0GB": want a size such as 10GB`},
		{"image = 'a'\n[cache]\nmounts = 'auto'\nmax-age = '30d'\n", `lighter.toml:4:11: cache.max-age: "30d": want a duration such as 720h`},
		{"image = 'a'\n[cache]\nmounts = 'auto'\nwhen = 'alway'\n", `lighter.toml:4:8: cache.when: "alway": want success or always; did you mean always?`},
		{"image = 'a'\n[cache]\nlayers = 'auto'\nwhen = 'always'\n", `lighter.toml:4:8: cache.when: is about cache mounts: add mounts = "auto", or where they are kept`},
		{"cache = 'oci:'\n", `lighter.toml:1:9: cache: "oci:": want oci:DIR`},
		{"toolchain = 'cargo-zig'\n", `lighter.toml:1:13: toolchain: "cargo-zig": want one of go, cargo, cargo-zigbuild, rust, zig, c, c++; did you mean cargo-zigbuild?`},
		{"toolchain = 'carg'\n", `lighter.toml:1:13: toolchain: "carg": want one of go, cargo, cargo-zigbuild, rust, zig, c, c++; did you mean cargo?`},
		{"user = 4294967295\n", `lighter.toml:1:8: user: "4294967295": no such ID: they end at 4294967294`},
		{"user = 'app:99999999999'\n", `lighter.toml:1:8: user: "app:99999999999": no such ID: they end at 4294967294`},
		{"expose = [80, 70000]\n", `lighter.toml:1:15: expose[1]: "70000": want a port from 1 to 65535`},
		{"expose = ['80/tpc']\n", `lighter.toml:1:11: expose[0]: "80/tpc": want a port, as 8080 or 53/udp`},
		{"files = [{ from = 'a', to = 'etc', mode = 644, owner = 'root' }]\n", `lighter.toml:1:29: files[0].to: "etc": want an absolute path in the image, as /etc/app/
lighter.toml:1:43: files[0].mode: "644": want permissions in octal, as "0644" or 0o644
lighter.toml:1:56: files[0].owner: "root": want UID or UID:GID, as 1000:1000`},
		{"files = [{ from = 'a', to = '/a/../b' }]\n", `lighter.toml:1:29: files[0].to: "/a/../b": want it without detours: /b`},
		// What several keys have wrong together.
		{"image = 'a:1'\ntags = ['2']\n", `lighter.toml:2:1: tags: image has the tag 1 already: drop one of the two`},
		{"tags = ['2']\n", `lighter.toml:1:1: tags: wants to know the image: add image = "REGISTRY/NAME"`},
		{"compression = 'gzip'\nadd-compression = ['gzip:9']\n", `lighter.toml:2:1: add-compression: gzip:9: there is a gzip:6 variant already`},
		{"cache = 'auto'\n", `lighter.toml:1:9: cache: wants to know the image: add image = "REGISTRY/NAME"`},
		{"[secrets.a]\n[secrets.b]\nenv = 'B'\nfile = 'b'\n", `lighter.toml:1:10: secrets.a: want one source: { env = "NAME" } or { file = "PATH" }
lighter.toml:2:10: secrets.b: want one source: { env = "NAME" } or { file = "PATH" }`},
		{"[toolchain]\ncommand = ['make']\n", `lighter.toml:1:2: toolchain.output: missing; want the path of what the command makes`},
		{"[toolchain]\nuse = 'go'\ncommand = ['make']\noutput = 'a'\n", `lighter.toml:3:1: toolchain.command: there is use = "go" already: want one of the two`},
		{"[toolchain]\nuse = 'go'\noutput = 'a'\n", `lighter.toml:3:10: toolchain.output: only a command = … has one: a known toolchain says itself where its output is`},
		{"[toolchain]\nuse = 'go'\nincremental = true\n", `lighter.toml:3:15: toolchain.incremental: only cargo takes it, and what compiles here is go: leave it out`},
		{"[toolchain]\ncommand = 'make'\noutput = 'a'\nincremental = true\n", `lighter.toml:4:15: toolchain.incremental: only cargo takes it: write what your command has of that kind into command or env`},
		{"[toolchain]\nincremental = 'yes'\n", `lighter.toml:2:15: toolchain.incremental: want true or false, not a string`},
		{"[toolchain]\nincremental = 1\n", `lighter.toml:2:15: toolchain.incremental: want true or false, not an integer`},
		{"[variants.a]\nmatrix = { db = ['x'] }\n", `lighter.toml:1:11: variants.a: want {db} in the name, as [variants."a-{db}"]: each combination is a variant of its own`},
		{"[variants.'{db}']\nmatrix = { db = [] }\n", `lighter.toml:2:12: variants."{db}".matrix.db: want at least one value`},
		{"[variants.'{version}']\nmatrix = { version = ['1'] }\n", `lighter.toml:2:12: variants."{version}".matrix.version: want another name for the axis, of letters and digits; version, major, minor, patch, variant are taken`},
		{"[variants.'{db}']\nmatrix = { db = ['x'] }\n[variants.x]\n", `lighter.toml:1:11: variants."{db}": x is a variant already`},
		{"[variants.'a b']\n", `lighter.toml:1:11: variants."a b": "a b": want a name that can begin a tag: letters, digits, _ . -`},
		{"[variants.a]\ntags = ['{nope}']\n", `lighter.toml:2:9: variants.a.tags[0]: "{nope}": {nope} is no placeholder; known are version, major, minor, patch, variant`},
		{"[variants.a]\ntags = ['x']\n[variants.b]\ntags = ['y', 'x']\n", `lighter.toml:4:14: variants.b.tags[1]: x is a tag of the variant a already`},
		{"[variants.a]\nbase = 'A:{}'\n", `lighter.toml:2:8: variants.a.base: "A:{}": the repository must be lowercase`},
		// All at once, in the order of the file, and not without end.
		{strings.Repeat("[[files]]\n", 6), `lighter.toml:1:3: files[0].from: missing; want a path
lighter.toml:1:3: files[0].to: missing; want an absolute path in the image, as /etc/app/
lighter.toml:2:3: files[1].from: missing; want a path
lighter.toml:2:3: files[1].to: missing; want an absolute path in the image, as /etc/app/
lighter.toml:3:3: files[2].from: missing; want a path
lighter.toml:3:3: files[2].to: missing; want an absolute path in the image, as /etc/app/
lighter.toml:4:3: files[3].from: missing; want a path
lighter.toml:4:3: files[3].to: missing; want an absolute path in the image, as /etc/app/
lighter.toml:5:3: files[4].from: missing; want a path
lighter.toml:5:3: files[4].to: missing; want an absolute path in the image, as /etc/app/
and 2 more`},
	} {
		_, err := project.Parse("lighter.toml", []byte(tt.text))
		if err == nil {
			t.Errorf("%s\nparses, want\n%s", tt.text, tt.want)
			continue
		}
		if diff := cmp.Diff(tt.want, err.Error()); diff != "" {
			t.Errorf("%s\n%s", tt.text, diff)
		}
		var p *project.Problem
		if !errors.As(err, &p) || p.Line == 0 || p.Column == 0 {
			t.Errorf("%s\n%v is no problem with a place", tt.text, err)
		}
	}
}

// Windows' line ends and byte order mark change nothing, places included.
func TestWindows(t *testing.T) {
	_, err := project.Parse("lighter.toml", []byte("\xef\xbb\xbfimage = 'app'\r\ntag = 1\r\n"))
	if want := "lighter.toml:2:1: tag: unknown key; did you mean tags?"; err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
}

func TestLoadSays(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	if err := os.WriteFile("lighter.toml", []byte(strings.Repeat("#", 1<<20+1)), 0o644); err != nil {
		t.Fatal(err)
	}
	_, err := project.Load(filepath.Join(dir, "lighter.toml"))
	if want := "lighter.toml: over 1 MiB: nobody has written that by hand"; err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
}

func FuzzParse(f *testing.F) {
	whole, err := os.ReadFile("testdata/whole.toml")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	f.Add([]byte("a.b.c = [[{x = [1, {y.z = 2}]}]]\n[d.'e f']\n[[g]]\n[g.h]\n[[g]]\n"))
	f.Add([]byte("[variants.'{a}{b}']\nmatrix = {a=['1','2'],b=['3']}\ntags=['{a}-{version}']"))
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := project.Parse("f", data)
		if err != nil {
			for line := range strings.Lines(err.Error()) {
				if !strings.HasPrefix(line, "f:") && !strings.HasPrefix(line, "and ") {
					t.Errorf("an error without a place: %q", line)
				}
			}
			return
		}
		for name := range p.Variants {
			v, err := p.Variant(name)
			if err != nil {
				t.Fatal(err)
			}
			for _, n := range v.At("1.2.3").Names() {
				if strings.ContainsAny(n, "{} ") {
					t.Errorf("variant %s would be named %q", name, n)
				}
			}
		}
	})
}

func parse(t *testing.T, text string) project.Project {
	t.Helper()
	p, err := project.Parse("lighter.toml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return p
}
