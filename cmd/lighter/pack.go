package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/lighter-oci/lighter/internal/codec"
	"github.com/lighter-oci/lighter/internal/event"
	"github.com/lighter-oci/lighter/internal/history"
	"github.com/lighter-oci/lighter/internal/image"
	"github.com/lighter-oci/lighter/internal/pack"
	"github.com/lighter-oci/lighter/internal/project"
	"github.com/lighter-oci/lighter/internal/report"
	"github.com/lighter-oci/lighter/internal/term"
	"github.com/lighter-oci/lighter/internal/toolchain"
)

// packCmd compiles with what is on this machine. Flags that build has, too, are
// spelled as there.
type packCmd struct {
	Dir string `arg:"" optional:"" predictor:"dir" help:"Directory of the project (default: that of lighter.toml, or this one)."`

	Project    string   `group:"What to pack" predictor:"file" placeholder:"FILE|none" help:"The project's file (default: lighter.toml in the directory or above)."`
	Variant    string   `group:"What to pack" predictor:"variant" placeholder:"NAME" help:"Variant of lighter.toml to pack."`
	Tag        []string `group:"What to pack" short:"t" sep:"none" placeholder:"NAME:TAG" help:"Name of the image; may be repeated."`
	Platform   []string `group:"What to pack" predictor:"platform" placeholder:"OS/ARCH" help:"Platforms to compile for, separated by commas (default: this machine's architecture on Linux)."`
	Label      []string `group:"What to pack" sep:"none" placeholder:"KEY=VALUE" help:"Label of the image."`
	Annotation []string `group:"What to pack" sep:"none" placeholder:"KEY=VALUE" help:"Annotation of the manifests."`

	Push   bool     `group:"Output and compression" help:"Push the image (short for -o type=image,push=true)."`
	Load   bool     `group:"Output and compression" help:"Load the image into Docker, podman or containerd, whichever answers."`
	Into   string   `group:"Output and compression" placeholder:"NAME" enum:",docker,podman,containerd" default:"" help:"Where --load goes: docker, podman or containerd (default: the first that answers)."`
	Output []string `group:"Output and compression" short:"o" sep:"none" placeholder:"type=TYPE,KEY=VALUE" help:"Output: type=image, oci or docker."`

	Compression      string   `group:"Output and compression" predictor:"compression" placeholder:"CODEC[:LEVEL]" help:"Of layers: zstd[:1-22], gzip[:1-9] or uncompressed (default ${compression})."`
	AddCompression   []string `group:"Output and compression" predictor:"compression" placeholder:"CODEC[:LEVEL]" help:"A further variant of each image in one index: gzip for clients that read nothing else."`
	ForceCompression bool     `group:"Output and compression" help:"Compress base layers that way too."`

	DebugInfo string `group:"Binaries" predictor:"dir" placeholder:"DIR" help:"Keep debug information there, as NAME-PLATFORM.debug."`
	UPX       bool   `group:"Binaries" name:"upx" help:"Compress binaries with UPX, and say what that saves and costs."`

	SBOM string `group:"Attestations" name:"sbom" placeholder:"true" help:"Attach what the binaries say that they were made of, as SPDX."`

	MetadataFile string `group:"What is said" predictor:"file" placeholder:"FILE" help:"Write what was packed as JSON."`
	Progress     string `group:"What is said" enum:"auto,tty,plain,rawjson,quiet" env:"BUILDKIT_PROGRESS" default:"auto" help:"Live view: auto, tty, plain, rawjson or quiet."`
	Quiet        bool   `group:"What is said" short:"q" help:"Print only the digest."`
	Format       string `group:"What is said" enum:"text,json" default:"text" help:"Summary as text on standard error or json on standard output."`

	release partOfRelease
}

// partOfRelease is what a pack has from a release that it is a part of; the zero
// value is none.
type partOfRelease struct {
	version  string      // "" is the project's
	id       string      // of the release in the history
	pool     *codec.Pool // nil is one of its own
	sending  *turn       // whose it is to send; nil is one of its own
	compiled func()      // called when nothing is left to compile; nil is nothing
}

// turn is had by one at a time. Images that share a layer would send it twice if
// they were sent at the same time; one image's layers fill a line by themselves.
type turn chan struct{}

func newTurn() *turn {
	t := make(turn, 1)
	return &t
}

// take waits for the turn; done gives it back.
func (t *turn) take(ctx context.Context) (done func(), err error) {
	select {
	case *t <- struct{}{}:
		return func() { <-*t }, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// Help is what `lighter pack --help` says below the flags.
func (packCmd) Help() string {
	return "Compiles with the toolchain of this machine (Go, Rust, zig, C, or a command that lighter.toml names) and puts the binary into an image: " +
		"no Dockerfile, no engine, no root. The base is scratch, with certificates and a user that is not root, unless lighter.toml says otherwise.\n\n" +
		"Exit codes: 0 done, 1 failed, 2 usage, 3 a pushed layer is not as asked, 130 interrupted."
}

// Resume is what the same command does after an interruption.
func (*packCmd) Resume() string {
	return "the same command goes on from what is compiled, and from the layers that are there"
}

// Run compiles, packs, sends, proves, and says what happened.
func (p *packCmd) Run(ctx context.Context, out *term.Output) error {
	_, err := p.run(ctx, out)
	return err
}

// run is Run, and answers the image that the first place has.
func (p *packCmd) run(ctx context.Context, out *term.Output) (root digest.Digest, err error) {
	proj, said, err := p.fromProject(ctx)
	if err != nil {
		return "", err
	}
	to, err := p.deliveries()
	if err != nil {
		return "", usageError{err}
	}
	if p.Quiet = p.Quiet || p.Progress == "quiet"; p.Quiet {
		p.Progress = "quiet"
	}
	out.Quiet, out.JSON = p.Quiet || p.Progress == "rawjson", p.Format == "json"
	if said != "" && !out.Quiet {
		fmt.Fprintln(out.Err, report.Clean(said))
	}
	rec := p.record(ctx, out, proj)
	defer func() { rec.end(ctx, err) }()
	builds, err := p.plan(ctx, proj)
	if err != nil {
		return "", err
	}
	places := placesFor(to)
	defer func() { err = errors.Join(err, places.Close()) }()
	pool := p.release.pool
	if pool == nil {
		pool = codec.NewPool(0)
		defer pool.Close()
	}
	sending := p.release.sending
	if sending == nil {
		sending = newTurn()
	}
	for i := range to { // before compiling: nobody wants to wait for what cannot go anywhere
		if err := to[i].open(ctx, places); err != nil {
			return "", err
		}
		defer to[i].discard()
	}
	spec, lies, err := p.spec(ctx, places, proj)
	if err != nil {
		return "", err
	}
	spec.Compression = to[0].layers.Compression
	if spec.SBOM, err = p.sbom(to, proj.SBOM); err != nil {
		return "", usageError{err}
	}
	view := out.NewPacking(p.Progress)
	defer view.Close()
	run := packing{packCmd: p, pool: pool, sending: sending, places: places, base: spec.Base, lies: lies, report: view.Add, rec: rec, hide: hidden(proj)}
	for i := range to {
		run.to = append(run.to, &to[i])
		to[i].report = pack.Sent(to[i].where(), to[i].sent, spec.Base.DiffIDs(), run.add)
	}
	hiding := &hiding{hide: run.hide, part: map[string][]byte{}, to: run.add}
	img, err := pack.Make(ctx, pack.Options{Builds: builds, Spec: spec, Pool: pool, Ahead: run.ahead, Compiled: p.release.compiled, Report: hiding.add})
	if err != nil {
		view.Close()
		return "", run.failed(ctx, out, err)
	}
	defer func() { err = errors.Join(err, img.Close()) }()
	if err := run.deliver(ctx, img); err != nil {
		view.Close()
		return "", run.failed(ctx, out, err)
	}
	view.Close()
	return to[0].copied.Root.Digest, run.finish(ctx, out)
}

// record begins the pack's record in the history.
func (p *packCmd) record(ctx context.Context, out *term.Output, proj project.Project) *recording {
	begun := history.Begun{
		Parent: p.release.id, Verb: "pack", Variant: p.Variant, Platforms: p.Platform, Version: p.release.version, Names: p.Tag, Engine: thisMachine,
	}
	begun.Project, begun.Dir = place(p.Dir)
	rec := startRecording(ctx, out, begun, p.Dir)
	if rec != nil {
		rec.secrets = hidden(proj)
	}
	return rec
}

// packing is one run.
type packing struct {
	*packCmd
	pool    *codec.Pool
	sending *turn
	places  *places
	base    *pack.Base
	lies    image.Reference // of the base, where that is a registry
	to      []*delivery
	report  func(event.Event)
	rec     *recording
	notes   []string
	hide    *strings.Replacer // of the project's secrets

	mu   sync.Mutex
	fold report.Build
}

func (r *packing) add(e event.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if e.Time.IsZero() {
		e.Time = time.Now()
	}
	r.fold.Add(e)
	r.rec.add(e)
	r.report(e)
}

// ahead sends one platform while others still compile, to where an image can grow.
func (r *packing) ahead(ctx context.Context, src image.Source, ref string) (became []digest.Digest, err error) {
	done, err := r.sending.take(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	for _, d := range r.to {
		for _, v := range d.variants { // each alone: an index of both is made at the end
			got, err := image.Copy(ctx, src, ref, d.Target, nil, r.options(d, v))
			if err != nil {
				return nil, err
			}
			if !slices.Contains(became, got.Root.Digest) {
				became = append(became, got.Root.Digest)
			}
		}
	}
	return became, nil
}

func (r *packing) options(d *delivery, variants ...codec.Compression) image.CopyOptions {
	return image.CopyOptions{Variants: variants, Force: d.layers.Force, Base: r.base.DiffIDs(), Pool: r.pool, Journal: journal(), From: r.lies, Report: d.report}
}

// deliver brings the whole image to all places, and sets the tags.
func (r *packing) deliver(ctx context.Context, img *pack.Image) error {
	sent, err := r.sending.take(ctx)
	if err != nil {
		return err
	}
	defer sent()
	for _, d := range r.to {
		started := time.Now()
		step := event.Step{ID: d.where(), Name: "exporting to " + d.where(), Started: &started}
		if d.location.Transport == image.InRegistry {
			step.Name = "pushing " + d.where()
		}
		r.add(event.Event{Step: &step})
		src := &readable{Source: img, ref: img.Root.Digest.String(), lies: r.lies}
		if d.variants == nil { // a daemon's
			src.ref = img.Plain.Digest.String()
		}
		got, notes, err := copyImage(ctx, src, &d.writable, r.options(d, d.variants...))
		done, ended := step, time.Now()
		done.Completed = &ended
		if err != nil {
			done.Error = err.Error()
		}
		r.add(event.Event{Step: &done})
		if err != nil {
			return err
		}
		d.copied = got
		r.notes = append(r.notes, notes...)
	}
	return nil
}

// failed says how far it came.
func (r *packing) failed(ctx context.Context, out *term.Output, err error) error {
	if ctx.Err() != nil {
		return err
	}
	var compiler *toolchain.FailedError
	if errors.As(err, &compiler) && r.Quiet {
		for line := range strings.Lines(r.hide.Replace(string(compiler.Output))) {
			fmt.Fprintln(out.Err, report.CleanLine(line))
		}
	}
	r.add(event.Event{Result: &event.Result{Error: err.Error()}})
	if rep := r.fold.Report(); len(rep.Steps) > 0 {
		return errors.Join(err, out.Report(rep))
	}
	return err
}

// finish proves and reports.
func (r *packing) finish(ctx context.Context, out *term.Output) error {
	root := r.to[0].copied.Root.Digest.String()
	names := []string{}
	mismatch := false
	for _, d := range r.to {
		names = append(names, d.said...)
		if d.location.Transport == "" {
			continue // a daemon, which is not read back
		}
		want := image.VerifyOptions{ForceBase: d.layers.Force, BaseDiffIDs: r.base.DiffIDs()}
		proofs, err := r.places.prove(ctx, d.location, d.copied, d.variants, want)
		if err == nil && len(proofs) == 0 {
			continue // an archive for Docker, which is not, either
		}
		if err != nil {
			return fmt.Errorf("packed, but reading it back failed: %w", err)
		}
		wrong := slices.ContainsFunc(proofs, func(p report.Proof) bool { return !p.OK() })
		if r.fold.Proofs == nil || wrong && !mismatch {
			r.fold.Proofs = proofs
		}
		mismatch = mismatch || wrong
	}
	r.add(event.Event{Result: &event.Result{Digest: root, Names: names}})
	if err := r.writeFiles(root, names); err != nil {
		return err
	}
	r.rec.told(nil, r.fold.Proofs, nil)
	if err := out.Report(r.fold.Report()); err != nil {
		return err
	}
	if r.Quiet && !out.JSON {
		if _, err := fmt.Fprintln(out.Out, root); err != nil {
			return err
		}
	}
	for _, n := range r.notes {
		if !out.Quiet {
			fmt.Fprintln(out.Err, "note: "+report.Clean(n))
		}
	}
	if mismatch {
		return codeError{code: exitMismatch}
	}
	return nil
}
