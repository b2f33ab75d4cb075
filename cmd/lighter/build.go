package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/lighter-oci/lighter/internal/codec"
	"github.com/lighter-oci/lighter/internal/engine"
	"github.com/lighter-oci/lighter/internal/engine/buildkit"
	"github.com/lighter-oci/lighter/internal/image"
	"github.com/lighter-oci/lighter/internal/image/daemon"
	"github.com/lighter-oci/lighter/internal/project"
	"github.com/lighter-oci/lighter/internal/report"
	"github.com/lighter-oci/lighter/internal/term"
)

// buildCmd has docker buildx build's flags, spelled the same, and a few more.
type buildCmd struct {
	Context string `arg:"" optional:"" predictor:"dir" help:"Directory, git or http URL, tar file, or - for a tar or Dockerfile on standard input (default: what lighter.toml says)."`

	Project string `group:"What to build" predictor:"file" placeholder:"FILE|none" help:"The project's file (default: lighter.toml in the context or above; without a context also docker-bake.hcl or .json)."`
	Variant string `group:"What to build" predictor:"variant" placeholder:"NAME" help:"Variant of lighter.toml, or target of docker-bake.hcl, to build."`

	File         string   `group:"What to build" short:"f" predictor:"file" placeholder:"FILE" help:"Dockerfile; - reads it from standard input (default CONTEXT/Dockerfile)."`
	Tag          []string `group:"What to build" short:"t" sep:"none" placeholder:"NAME:TAG" help:"Name of the image; may be repeated."`
	Target       string   `group:"What to build" placeholder:"STAGE" help:"Stage to build (default: the last)."`
	BuildArg     []string `group:"What to build" sep:"none" placeholder:"KEY=VALUE" help:"Build argument; KEY alone takes it from the environment."`
	BuildContext []string `group:"What to build" sep:"none" placeholder:"NAME=PATH" help:"Named context: directory, URL, oci-layout://DIR or docker-image://REF."`
	Platform     []string `group:"What to build" predictor:"platform" placeholder:"OS/ARCH" help:"Platforms to build, separated by commas."`
	Label        []string `group:"What to build" sep:"none" placeholder:"KEY=VALUE" help:"Label of the image."`
	Annotation   []string `group:"What to build" sep:"none" placeholder:"KEY=VALUE" help:"Annotation of the manifest; prefix index: for the index."`

	Secret  []string `group:"Steps" sep:"none" placeholder:"id=ID,src=FILE" help:"Secret for RUN --mount=type=secret; from src=FILE or env=NAME."`
	SSH     []string `group:"Steps" name:"ssh" sep:"none" placeholder:"default|ID=PATH" help:"SSH agent socket or keys for RUN --mount=type=ssh."`
	Allow   []string `group:"Steps" placeholder:"ENTITLEMENT" help:"Entitlement: network.host, security.insecure or device."`
	AddHost []string `group:"Steps" sep:"none" placeholder:"NAME:IP" help:"Extra line in /etc/hosts of RUN steps."`
	Network string   `group:"Steps" placeholder:"MODE" help:"Network of RUN steps: default, none or host."`
	Ulimit  []string `group:"Steps" sep:"none" placeholder:"NAME=SOFT:HARD" help:"Limit for RUN steps."`
	ShmSize string   `group:"Steps" name:"shm-size" placeholder:"SIZE" help:"Size of /dev/shm in RUN steps, as 64m."`
	CgroupP string   `group:"Steps" name:"cgroup-parent" placeholder:"PATH" help:"Parent cgroup of RUN steps."`

	Push   bool     `group:"Output and compression" help:"Push the image (short for -o type=image,push=true)."`
	Load   bool     `group:"Output and compression" help:"Load the image into Docker, podman or containerd, whichever answers."`
	Into   string   `group:"Output and compression" placeholder:"NAME" enum:",docker,podman,containerd" default:"" help:"Where --load goes: docker, podman or containerd (default: the first that answers)."`
	Output []string `group:"Output and compression" short:"o" sep:"none" placeholder:"type=TYPE,KEY=VALUE" help:"Output: type=image, oci, docker, local or tar."`

	Compression      string   `group:"Output and compression" predictor:"compression" placeholder:"CODEC[:LEVEL]" help:"Of layers: zstd[:1-22], gzip[:1-9] or uncompressed (default ${compression})."`
	AddCompression   []string `group:"Output and compression" predictor:"compression" placeholder:"CODEC[:LEVEL]" help:"A further variant of each image in one index: gzip for clients that read nothing else."`
	ForceCompression bool     `group:"Output and compression" help:"Compress base layers that way too."`

	Cache           string   `group:"Cache" predictor:"cache" placeholder:"REF|auto[,KEY=VALUE]" help:"Cache of layers and cache mounts in one word: a name in a registry, oci:DIR, gha, or auto for IMAGE:buildcache. Always read; written by builds that push, and to a directory. Keys as of --cache-mounts-to, for the mounts."`
	CacheMountsFrom string   `group:"Cache" placeholder:"REF" help:"Where the contents of RUN --mount=type=cache come from: a name in a registry, oci:DIR or gha."`
	CacheMountsTo   string   `group:"Cache" sep:"none" placeholder:"REF[,KEY=VALUE]" help:"Where they go after the build; keys when=always (after a failed one, too), max-size=10GB, max-age=720h."`
	CacheFrom       []string `group:"Cache" sep:"none" placeholder:"type=TYPE,…" help:"Cache to import: type=registry, local, gha, s3 or azblob."`
	CacheTo         []string `group:"Cache" sep:"none" placeholder:"type=TYPE,…" help:"Cache to export: those types, and inline."`
	NoCache         bool     `group:"Cache" help:"Run every step anew."`
	NoCacheFilter   []string `group:"Cache" placeholder:"STAGE" help:"Run the steps of these stages anew."`
	Pull            bool     `group:"Cache" help:"Look for newer base images."`

	Provenance string   `group:"Attestations" placeholder:"true|mode=max" help:"Attach provenance (short for --attest type=provenance)."`
	SBOM       string   `group:"Attestations" name:"sbom" placeholder:"true|generator=REF" help:"Attach an SBOM (short for --attest type=sbom)."`
	Attest     []string `group:"Attestations" sep:"none" placeholder:"type=TYPE,…" help:"Attestation: type=provenance or type=sbom."`

	MetadataFile string `group:"What is said" predictor:"file" placeholder:"FILE" help:"Write what was built as JSON."`
	Iidfile      string `group:"What is said" name:"iidfile" predictor:"file" placeholder:"FILE" help:"Write the image ID."`
	Progress     string `group:"What is said" enum:"auto,tty,plain,rawjson,quiet" env:"BUILDKIT_PROGRESS" default:"auto" help:"Live view: auto, tty, plain, rawjson or quiet."`
	Quiet        bool   `group:"What is said" short:"q" help:"Print only the image ID, as docker does; the digest is in --metadata-file."`
	Timeline     string `group:"What is said" predictor:"file" placeholder:"FILE.svg" help:"Draw when which step ran, with the critical path in ink."`
	Format       string `group:"What is said" enum:"text,json" default:"text" help:"Summary as text on standard error or json on standard output."`
	Explain      bool   `group:"What is said" help:"Say which line to change: what missed the cache and why, and what would make the next build faster."`
	Check        bool   `group:"What is said" help:"Check the Dockerfile and build nothing."`
	Call         string `enum:"build,check" default:"build" hidden:"" help:"Method: build or check."`

	version string // of the release that this is a part of; "" is the project's
	release string // the ID of that in the history

	proj project.Project // that the flags were filled from, where there is one
	bake string          // directory of the bake files that they were filled from

	cacheDir string              // OCI layout of the cache of layers, "" for none
	savedTo  *image.LayoutTarget // of cache mounts; nil where none were saved to one
	without  []string            // what the build has to do without, a line each
}

// Help is what `lighter build --help` says below the flags.
func (buildCmd) Help() string {
	return "Exit codes: 0 done, 1 failed, 2 usage, 3 a pushed layer is not as asked, 130 interrupted."
}

// Resume is what the same command does after an interruption.
func (*buildCmd) Resume() string { return "the same command goes on from what is cached" }

// Run builds, proves what was pushed, and says what happened.
func (b *buildCmd) Run(ctx context.Context, out *term.Output, flags *engineFlags) (err error) {
	said, err := b.fromProject(ctx)
	if err != nil {
		return err
	}
	if err := b.typedCache(); err != nil {
		return usageError{err}
	}
	req, err := b.request()
	if err != nil {
		return usageError{err}
	}
	if flags.embedded() {
		if err := honoured(req); err != nil {
			return usageError{err}
		}
	}
	var target daemon.Target
	if b.Load { // before the build: nobody wants to wait for one that cannot go anywhere
		if target, err = daemon.Detect(ctx, b.Into, daemon.Options{}); err != nil {
			return err
		}
	}
	// Raw progress is for programs: people's words would spoil it.
	out.Quiet, out.JSON = b.Quiet || b.Progress == "rawjson", b.Format == "json"
	out.Explain = b.Explain && b.Progress != "rawjson"
	if said != "" && !out.Quiet {
		fmt.Fprintln(out.Err, report.Clean(said))
	}
	rec := b.record(ctx, out, flags, req.BuildArgs)
	defer func() { rec.end(ctx, err) }()
	client, err := b.registries(ctx, req)
	if err != nil {
		return err
	}
	defer client.Close()
	opt := buildkit.Options{Credentials: credentials(), Transport: transport(client), Progress: os.Stderr, ProgressMode: b.Progress}
	if b.Quiet {
		opt.ProgressMode = "quiet"
	}
	eng, err := flags.open(ctx, opt)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, eng.Close()) }()

	seen := follower{rec: rec}
	for _, short := range b.without {
		seen.warn(short)
	}
	travel, to, err := b.travel(client, seen.mount)
	if err != nil {
		return usageError{err}
	}
	if travel != nil && travel.From != nil {
		req.Mounts = travel
	}
	if travel != nil && travel.To != nil {
		req.SaveTo, req.SaveFailed = travel, to.always
	}
	caches := b.holdCaches(ctx)
	resp, err := eng.Build(ctx, req, seen.add)
	caches.sweep(ctx, out, b)
	if err != nil {
		return b.failed(ctx, out, &seen, err)
	}
	if b.Check {
		return b.checked(out, resp)
	}
	return b.finish(ctx, out, eng, client, req, resp, &seen, target)
}

// failed says how far the build came. Where no live view has shown the output
// of the step that failed, it comes here.
func (b *buildCmd) failed(ctx context.Context, out *term.Output, seen *follower, err error) error {
	if ctx.Err() != nil || b.Check {
		return err
	}
	var why *buildkit.BuildError
	if errors.As(err, &why) && b.Quiet {
		for line := range strings.Lines(why.Log) {
			fmt.Fprintln(out.Err, report.CleanLine(line))
		}
	}
	if rep := seen.fold.Report(); len(rep.Steps) > 0 { // else nothing has begun
		return errors.Join(err, out.Report(rep))
	}
	return err
}

// checked prints what the linter found.
func (b *buildCmd) checked(out *term.Output, resp *engine.Response) error {
	text := strings.TrimSpace(resp.CheckReport)
	switch {
	case b.Format == "json":
		text = strings.TrimSpace(string(resp.CheckJSON))
	case text == "":
		text = "check complete, no warnings found"
	}
	for line := range strings.Lines(text) {
		fmt.Fprintln(out.Out, report.CleanLine(line))
	}
	if resp.CheckFailed {
		return codeError{code: exitFailed}
	}
	return nil
}

// request is the command line in the engine's terms.
func (b *buildCmd) request() (engine.Request, error) {
	name := b.Compression
	if name == "" {
		name = defaultCompression
	}
	layers, _, err := compressions(codec.Parse, name, b.AddCompression)
	if err != nil {
		return engine.Request{}, err
	}
	for i, p := range b.Platform {
		if p == "local" {
			b.Platform[i] = "linux/" + runtime.GOARCH
		}
	}
	for _, a := range b.Allow {
		if !slices.Contains([]string{"network.host", "security.insecure", "device"}, a) && !strings.HasPrefix(a, "device=") {
			return engine.Request{}, fmt.Errorf("--allow %q: want network.host, security.insecure or device", a)
		}
	}
	if b.Into != "" && !b.Load {
		return engine.Request{}, errors.New("--into says where --load goes: add --load")
	}
	b.Quiet = b.Quiet || b.Progress == "quiet"
	req := engine.Request{
		Context: b.Context, Dockerfile: b.File, Stdin: os.Stdin, Target: b.Target,
		Platforms: b.Platform, NoCache: b.NoCache, NoCacheFilter: b.NoCacheFilter, Pull: b.Pull,
		AddHosts: b.AddHost, Network: b.Network, Ulimits: b.Ulimit, CgroupParent: b.CgroupP,
		Allow: b.Allow, Annotations: b.Annotation, Compression: layers.Compression, AddCompression: layers.Added, Force: b.ForceCompression,
		Check: b.Check || b.Call == "check",
	}
	b.Check = req.Check
	for _, fill := range []func(*engine.Request) error{
		b.fillMaps, b.fillMounts, b.fillAttests, b.fillCaches, b.fillOutputs,
	} {
		if err := fill(&req); err != nil {
			return req, err
		}
	}
	if err := b.checkVariants(req); err != nil {
		return req, err
	}
	if err := b.checkCaches(req); err != nil {
		return req, err
	}
	return req, b.checkPlaces(req)
}

// honoured refuses levels that an engine in this binary cannot make; another
// BuildKit has its own.
func honoured(req engine.Request) error {
	flags := engine.Layers{Compression: req.Compression, Added: req.AddCompression}
	check := func(l engine.Layers, first, added string) error {
		if err := l.Compression.Validate(); err != nil {
			return fmt.Errorf("%s: %w", first, err)
		}
		for _, c := range l.Added {
			if err := c.Validate(); err != nil {
				return fmt.Errorf("%s: %w", added, err)
			}
		}
		return nil
	}
	if err := check(flags, "--compression", "--add-compression"); err != nil {
		return err
	}
	for _, o := range req.Outputs {
		want, err := flags.With(o.Attrs)
		if err == nil {
			err = check(want, engine.AttrCompression, engine.AttrAdd)
		}
		if err != nil {
			return fmt.Errorf("output type=%s: %w", o.Type, err)
		}
	}
	return nil
}

// checkPlaces refuses two things that would be written to one place.
func (b *buildCmd) checkPlaces(req engine.Request) error {
	taken := map[string]string{}
	take := func(place, by string) error {
		if place == "" {
			return nil
		}
		if place != "-" {
			if abs, err := filepath.Abs(place); err == nil {
				place = abs
			}
		}
		if other, ok := taken[place]; ok {
			if place == "-" {
				place = "standard output"
			}
			return fmt.Errorf("%s and %s would both be written to %s", other, by, place)
		}
		taken[place] = by
		return nil
	}
	if b.Format == "json" {
		taken["-"] = "--format json"
	}
	image := false
	for _, o := range req.Outputs {
		if err := take(o.Dest, "-o type="+o.Type); err != nil {
			return err
		}
		image = image || o.Type != "local" && o.Type != "tar"
	}
	if b.Iidfile != "" && !image && !req.Check {
		return errors.New("--iidfile: no output of this build makes an image, so there is no ID to write")
	}
	if err := take(b.MetadataFile, "--metadata-file"); err != nil {
		return err
	}
	if err := take(b.Timeline, "--timeline"); err != nil {
		return err
	}
	return take(b.Iidfile, "--iidfile")
}

// writeFiles writes --metadata-file and --iidfile.
func (b *buildCmd) writeFiles(resp *engine.Response) error {
	if b.MetadataFile != "" {
		raw, err := json.MarshalIndent(resp.Metadata, "", "  ")
		if err != nil {
			return err
		}
		if err := writeFile(b.MetadataFile, append(raw, '\n')); err != nil {
			return &fileError{"--metadata-file", b.MetadataFile, err}
		}
	}
	if b.Iidfile != "" {
		id := resp.ConfigDigest
		if id == "" {
			id = resp.Digest
		}
		if id == "" {
			return errors.New("--iidfile: this output makes no image, so there is no ID to write")
		}
		if err := writeFile(b.Iidfile, []byte(id)); err != nil {
			return &fileError{"--iidfile", b.Iidfile, err}
		}
	}
	return nil
}
