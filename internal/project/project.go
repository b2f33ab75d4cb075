// Package project owns lighter.toml: where it is found, what may stand in it,
// which variants it describes, how its tags and its version come about, and
// what a first one looks like for a project that has none. It also reads the
// files of docker buildx bake.
//
// It reads files of the project, asks git for a tag and a remote, and writes
// nothing but first files where there are none. It never builds, never reaches a
// registry, and knows no flag: what a verb makes of a project is the verb's.
package project

import (
	"path/filepath"
	"reflect"
)

// Name is the file's.
const Name = "lighter.toml"

// Project is what a file says. Every key is optional: the zero value is a
// project that says nothing. Paths are as written, relative to Dir.
//
// The tags are the documentation: toml names a key, is the shape of each string
// (see shapes), help what the schema tells editors, only the verb that it is for.
type Project struct {
	Path string `toml:"-"` // of the file; absolute where Load read it
	Name string `toml:"-"` // of the variant that this is, "" for the project itself
	// Fixed are those of the tags that name one version, once there is one (see At).
	Fixed []string `toml:"-"`

	Image     string   `toml:"image" is:"image" help:"Name of the image, as registry.example.com/team/app. A tag in it is the only tag."`
	Tags      []string `toml:"tags" is:"tag" help:"Tags; {version}, {major}, {minor}, {patch} and {variant} are filled in. Default: latest, and for a variant its name."`
	Platforms []string `toml:"platforms" is:"platform" help:"Platforms to make the image for. Default: this machine's, on Linux."`
	Version   string   `toml:"version" is:"version" help:"Where {version} comes from: a file (Cargo.toml, package.json, pyproject.toml, or one that holds nothing else), git for the last tag, or the version itself. Default: the first of Cargo.toml, package.json, pyproject.toml, VERSION and git that has one."`

	Compression      string   `toml:"compression" is:"compression" help:"Of layers: zstd[:1-22], gzip[:1-9] or uncompressed. Default: zstd:3."`
	AddCompression   []string `toml:"add-compression" is:"compression" help:"Further compressions of each image in one index, for builds that push or write an OCI layout: gzip for clients that read nothing else."`
	ForceCompression bool     `toml:"force-compression" help:"Compress base layers that way too."`
	Cache            Cache    `toml:"cache" is:"cache" help:"Where the build cache is kept between machines: auto for IMAGE:buildcache, a name in a registry, oci:DIR, gha in GitHub Actions; or a table that says it for layers and cache mounts separately, and what is kept of the latter."`

	Context    string            `toml:"context" is:"path" help:"Directory that is sent to the build. Default: the one of this file."`
	Dockerfile string            `toml:"dockerfile" is:"path" help:"Default: Dockerfile in the context."`
	Target     string            `toml:"target" is:"word" help:"Stage of the Dockerfile to build. Default: the last."`
	Args       map[string]string `toml:"args" help:"Build arguments of the Dockerfile; {version} and {variant} are filled in."`
	Contexts   map[string]string `toml:"contexts" is:"context" help:"Named contexts of the Dockerfile, for FROM, COPY --from and mounts: a directory, oci-layout://DIR[:TAG], docker-image://REF or a URL; {version} and {variant} are filled in."`
	Secrets    map[string]Secret `toml:"secrets" help:"Secrets for RUN --mount=type=secret, by id. One that is not there is left out."`

	Base       string    `toml:"base" only:"pack" is:"base" help:"Image that a packed one stands on. Default: scratch."`
	Toolchain  Toolchain `toml:"toolchain" only:"pack" is:"toolchain" help:"What compiles on this machine: a name, or a table. Default: what the project looks like."`
	Features   []string  `toml:"features" only:"pack" is:"feature" help:"Features to compile with: cargo's, or Go's build tags."`
	NoDefaults bool      `toml:"no-default-features" only:"pack" help:"Compile without the default features."`
	Binaries   []string  `toml:"binaries" only:"pack" is:"binary" help:"Binaries that go into the image. Default: the project's only one."`
	Files      []File    `toml:"files" only:"pack" help:"Files that go into a packed image."`

	Include   []string `toml:"include" only:"pack" is:"include" help:"What a packed image on scratch has besides: certificates, tzdata (this machine's time zones), tmp (an empty /tmp). Default: certificates."`
	UPX       bool     `toml:"upx" only:"pack" help:"Compress packed binaries with UPX: less to pull, slower to start."`
	SBOM      bool     `toml:"sbom" only:"pack" help:"Attach to a packed image what its binaries say that they were made of."`
	DebugInfo string   `toml:"debug-info" only:"pack" is:"path" help:"Directory where the debug information of packed binaries is kept; it never goes into the image."`

	Entrypoint []string          `toml:"entrypoint" only:"pack" is:"word" help:"Of a packed image. Default: the first binary."`
	Cmd        []string          `toml:"cmd" only:"pack" help:"Arguments of the entrypoint, of a packed image."`
	Env        map[string]string `toml:"env" only:"pack" help:"Environment of a packed image."`
	User       string            `toml:"user" only:"pack" is:"user" help:"User of a packed image: a name or number, with :GROUP where wanted. Default: one that is not root."`
	Workdir    string            `toml:"workdir" only:"pack" is:"absolute" help:"Working directory of a packed image."`
	Expose     []string          `toml:"expose" only:"pack" is:"port" help:"Ports that a packed image listens on."`

	Labels      map[string]string `toml:"labels" help:"Labels of the image; {version} and {variant} are filled in."`
	Annotations map[string]string `toml:"annotations" help:"Annotations of the manifest; {version} and {variant} are filled in."`

	Checks   map[string]Command `toml:"checks" is:"command" help:"Commands that must succeed before anything is published, by name; a string is run by sh."`
	Variants map[string]Variant `toml:"variants" help:"Other images of the same project, by name."`
}

// PackKeys are the keys that the file sets and that only a packed image has.
func (p Project) PackKeys() (keys []string) {
	v := reflect.ValueOf(p)
	for _, f := range fields(v.Type()) {
		if v.Type().Field(f.index).Tag.Get("only") == "pack" && !v.Field(f.index).IsZero() {
			keys = append(keys, f.name)
		}
	}
	return keys
}

// Packs tells whether the file says something that only packed images have, of the
// project or of a variant.
func (p Project) Packs() bool {
	for name := range p.Variants {
		if v, err := p.Variant(name); err == nil && len(v.PackKeys()) > 0 {
			return true
		}
	}
	return len(p.PackKeys()) > 0
}

// Dir is where the project lies.
func (p Project) Dir() string { return filepath.Dir(p.Path) }

// Cache says where caches are kept; a string in the file means both. "" is
// nowhere.
type Cache struct {
	Layers string `toml:"layers" is:"cache" help:"Cache of the layers that steps made."`
	Mounts string `toml:"mounts" is:"cache" help:"Contents of RUN --mount=type=cache."`

	When    string `toml:"when" is:"outcome" help:"Builds after which cache mounts are kept: success, or always for failed ones, too. Default: success."`
	MaxSize string `toml:"max-size" is:"size" help:"What is kept of cache mounts at most, as 10GB: what was of use longest ago goes first. Default: all."`
	MaxAge  string `toml:"max-age" is:"age" help:"Files of cache mounts go that were of no use for so long, as 720h. Default: only mounts that no build has sent for 30 days."`
}

// Keys are what is kept of cache mounts, as the command line has it: KEY=VALUE.
func (c Cache) Keys() (keys []string) {
	for _, k := range [][2]string{{"when", c.When}, {"max-size", c.MaxSize}, {"max-age", c.MaxAge}} {
		if k[1] != "" {
			keys = append(keys, k[0]+"="+k[1])
		}
	}
	return keys
}

func (c *Cache) short(s string) { c.Layers, c.Mounts = s, s }

// Secret has exactly one source.
type Secret struct {
	File string `toml:"file" is:"path" help:"File that holds it; ~/ is the home directory."`
	Env  string `toml:"env" is:"variable" help:"Environment variable that holds it."`
}

// Toolchain is a known one by name, or a command with what it makes.
type Toolchain struct {
	Use         string            `toml:"use" is:"toolchain" help:"go, cargo, cargo-zigbuild, zig, c or c++; rust is cargo."`
	Command     Command           `toml:"command" is:"command" help:"Command that compiles, instead of a known toolchain; a string is run by sh. {platform}, {os}, {arch}, {variant}, {features}, {version} and {output} are filled in."`
	Output      string            `toml:"output" is:"path" help:"What the command makes."`
	Flags       []string          `toml:"flags" help:"Further arguments of the known toolchain."`
	Incremental bool              `toml:"incremental" help:"Cargo's: compile again only what changed of the project's own crates, for pack; publish compiles them whole. Default: false."`
	Env         map[string]string `toml:"env" help:"Environment to compile in."`
}

func (t *Toolchain) short(s string) { t.Use = s }

// Command is a program and its arguments.
type Command []string

func (c *Command) short(s string) { *c = Command{"sh", "-c", s} }

// File goes from the project into an image.
type File struct {
	From  string `toml:"from,required" is:"path" help:"File or directory of the project, or of the git work tree that it is in; with a path from the root, of this machine."`
	To    string `toml:"to,required" is:"absolute" help:"Path in the image; with / at its end the directory."`
	Mode  string `toml:"mode" is:"mode" help:"Permissions, as \"0644\" or 0o644. Default: those of the file."`
	Owner string `toml:"owner" is:"owner" help:"UID or UID:GID. Default: 0:0."`
}

// Variant is what an image of the project has differently. What it does not
// say is the project's; args and contexts are added to the project's.
type Variant struct {
	Tags       []string            `toml:"tags" is:"template" help:"Default: the project's with {variant} in them; else its others behind the variant's name, which stands for latest."`
	Target     string              `toml:"target" is:"word" help:"Stage of the Dockerfile to build."`
	Base       string              `toml:"base" is:"word" help:"Image that this variant stands on."`
	Args       map[string]string   `toml:"args" help:"Build arguments, besides the project's."`
	Contexts   map[string]string   `toml:"contexts" is:"context" help:"Named contexts, besides the project's."`
	Features   []string            `toml:"features" is:"feature" help:"Features, instead of the project's."`
	NoDefaults bool                `toml:"no-default-features" help:"Compile without the default features."`
	Binaries   []string            `toml:"binaries" is:"binary" help:"Binaries, instead of the project's."`
	Matrix     map[string][]string `toml:"matrix" is:"axis" help:"Axes: the variant stands for each combination of their values, which are filled in for {AXIS} in its name and in all it says."`
}
