package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	digest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/lighter-oci/lighter/internal/codec"
	"github.com/lighter-oci/lighter/internal/engine"
	"github.com/lighter-oci/lighter/internal/engine/buildkit"
	"github.com/lighter-oci/lighter/internal/image"
	"github.com/lighter-oci/lighter/internal/image/daemon"
	"github.com/lighter-oci/lighter/internal/registry"
	"github.com/lighter-oci/lighter/internal/report"
	"github.com/lighter-oci/lighter/internal/term"
)

// finish loads, proves and reports what a successful build made.
func (b *buildCmd) finish(ctx context.Context, out *term.Output, eng *openEngine, req engine.Request, resp *engine.Response, fold *report.Build, target daemon.Target) error {
	if err := b.writeFiles(resp); err != nil {
		return err
	}
	proofs, err := b.prove(ctx, req, resp)
	if err != nil {
		return err
	}
	mismatch := false
	for i := range proofs {
		// The first that is not as asked is the one to show.
		if fold.Proof == nil || (fold.Proof.OK() && !proofs[i].OK()) {
			fold.Proof = &proofs[i]
		}
		mismatch = mismatch || !proofs[i].OK()
	}
	fold.Stages = resp.Stages
	rep := fold.Report()
	if err := b.print(out, req, resp, rep); err != nil {
		return err
	}
	if target != nil {
		if err := b.load(ctx, out, target, eng, resp); err != nil {
			return err
		}
	}
	if mismatch {
		return codeError{code: exitMismatch}
	}
	return nil
}

// print says what happened, in the form that was asked for.
func (b *buildCmd) print(out *term.Output, req engine.Request, resp *engine.Response, rep report.Report) error {
	// Raw progress is for programs: people's words would spoil it.
	out.Quiet, out.JSON = b.Quiet || b.Progress == "rawjson", b.Format == "json"
	if err := out.Report(rep); err != nil {
		return err
	}
	if b.Quiet {
		id := resp.ConfigDigest
		if id == "" {
			id = resp.Digest
		}
		if id != "" {
			fmt.Fprintln(out.Out, id)
		}
		return nil
	}
	if len(req.Outputs) == 0 && len(b.Output) == 0 && len(req.CacheTo) == 0 && !out.Quiet {
		fmt.Fprintln(out.Err, "note: the result is in the build cache only; add --push, --load or -o to get it out")
	}
	return nil
}

// load gives the image to a daemon on this machine.
func (b *buildCmd) load(ctx context.Context, out *term.Output, target daemon.Target, eng *openEngine, resp *engine.Response) error {
	root, err := rootDescriptor(ctx, eng, resp.Digest)
	if err != nil {
		return err
	}
	loaded, err := target.Load(ctx, eng.Content(), root, b.Tag, nil)
	if err != nil {
		return fmt.Errorf("load into %s: %w", target.Name(), err)
	}
	if b.Quiet {
		return nil
	}
	fmt.Fprintf(out.Err, "loaded into %s: %s sent\n", target.Name(), report.Bytes(loaded.Sent))
	if len(loaded.Left) > 0 {
		fmt.Fprintf(out.Err, "note: it takes one platform, %s; left behind: %s\n", loaded.Platform, strings.Join(loaded.Left, ", "))
	}
	return nil
}

// rootDescriptor finds the media type of what the engine calls by digest only.
func rootDescriptor(ctx context.Context, eng *openEngine, dgst string) (ocispec.Descriptor, error) {
	if dgst == "" {
		return ocispec.Descriptor{}, errors.New("--load needs an image: the outputs of this build make none")
	}
	return eng.Root(ctx, digest.Digest(dgst))
}

// prove reads every pushed image back and compares its layers with what was
// asked for.
func (b *buildCmd) prove(ctx context.Context, req engine.Request, resp *engine.Response) ([]report.Proof, error) {
	client := registry.New(registry.Options{})
	defer client.Close()
	var proofs []report.Proof
	for _, o := range req.Outputs {
		levelAsked := strings.Contains(b.Compression, ":") || o.Attrs["compression-level"] != ""
		want, force, ok := asked(req, o)
		if !ok || !isTrue(o.Attrs, "push") {
			continue
		}
		for n := range strings.SplitSeq(o.Attrs["name"], ",") {
			p, err := proveOne(ctx, client, n, want, force, levelAsked, o, resp)
			if err != nil {
				return nil, fmt.Errorf("pushed, but reading it back failed: %w", err)
			}
			proofs = append(proofs, p)
		}
	}
	return proofs, nil
}

// asked is what the layers of an output shall be; false where lighter does not
// make them.
func asked(req engine.Request, o engine.Output) (want codec.Compression, force, ok bool) {
	want = req.Compression
	if c := o.Attrs["compression"]; c != "" {
		if level := o.Attrs["compression-level"]; level != "" {
			c += ":" + level
		}
		parsed, err := codec.Parse(c)
		if err != nil {
			return want, false, false // estargz, which is BuildKit's own
		}
		want = parsed
	}
	return want, req.Force || isTrue(o.Attrs, "force-compression"), true
}

func proveOne(ctx context.Context, client *registry.Client, name string, want codec.Compression, force, levelAsked bool, o engine.Output, resp *engine.Response) (report.Proof, error) {
	proof := report.Proof{Ref: name, Want: want.String()}
	ref, err := image.ParseReference(name)
	if err != nil {
		return proof, err
	}
	if isTrue(o.Attrs, "registry.insecure") {
		client = registry.New(registry.Options{Insecure: []string{ref.Host}})
		defer client.Close()
	}
	repo, err := client.Repository(ref)
	if err != nil {
		return proof, err
	}
	// By digest: the tag may be somebody else's by now, and what was pushed is
	// what has to be proven.
	img, err := image.Read(ctx, repo, resp.Digest, image.ReadOptions{})
	if err != nil {
		return proof, err
	}
	opts := image.VerifyOptions{ForceBase: force}
	// A BuildKit that is not lighter's records no level. Where none was asked
	// for, its codec is all there is to prove.
	if opts.AnyLevel = resp.BaseDiffIDs == nil && !levelAsked; opts.AnyLevel {
		proof.Want = string(want.Codec)
	}
	for _, d := range resp.BaseDiffIDs {
		opts.BaseDiffIDs = append(opts.BaseDiffIDs, digest.Digest(d))
	}
	mismatches := image.Verify(img, want, opts)
	proof.Layers = provenImage(img, mismatches)
	return proof, nil
}

// provenImage are the rows of all platforms.
func provenImage(img *image.Image, mismatches []image.Mismatch) []report.Proven {
	images := 0
	for _, m := range img.Manifests {
		if m.IsImage() {
			images++
		}
	}
	var rows []report.Proven
	for _, m := range img.Manifests {
		if m.IsImage() {
			rows = append(rows, proven(m, images > 1, mismatches)...)
		}
	}
	return rows
}

// proven are the rows of one platform.
func proven(m *image.Manifest, several bool, mismatches []image.Mismatch) []report.Proven {
	var rows []report.Proven
	names := layerNames(m.Config)
	for i, l := range m.Layers {
		row := report.Proven{
			Digest: l.Descriptor.Digest.String(), Codec: string(l.Codec), Out: l.Descriptor.Size,
			Verdict: report.Verdict{OK: true},
		}
		if several {
			row.Platform = m.Platform
		}
		if i < len(names) {
			row.Name = names[i]
		}
		if l.Record != nil {
			row.Codec = l.Record.Compression.String()
		}
		at := slices.IndexFunc(mismatches, func(mm image.Mismatch) bool {
			return mm.Digest == l.Descriptor.Digest && mm.Platform == m.Platform && mm.Layer == i+1
		})
		if at >= 0 {
			mm := mismatches[at]
			row.Verdict = report.Verdict{OK: mm.Note, Reason: mm.Why}
			if !mm.Note {
				row.Fix = mm.Flag
			}
		}
		rows = append(rows, row)
	}
	return rows
}

// layerNames are the instructions that made the layers, bottom first.
func layerNames(cfg ocispec.Image) []string {
	var names []string
	for _, h := range cfg.History {
		if !h.EmptyLayer {
			names = append(names, h.CreatedBy)
		}
	}
	return names
}

// credentials answers the engine with what the user's other tools know.
func credentials() buildkit.Credentials {
	return func(ctx context.Context, host string) (buildkit.Credential, error) {
		cred, err := registry.Credentials{}.Lookup(ctx, host)
		if err != nil {
			return buildkit.Credential{}, err
		}
		user, password, token := cred.Reveal()
		return buildkit.Credential{Username: user, Password: password, IdentityToken: token}, nil
	}
}

// stdoutFile is dest=-.
func stdoutFile(map[string]string) (io.WriteCloser, error) { return os.Stdout, nil }
