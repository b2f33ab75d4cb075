package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
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
func (b *buildCmd) finish(ctx context.Context, out *term.Output, eng *openEngine, client *registry.Client, req engine.Request, resp *engine.Response, seen *follower, target daemon.Target) error {
	fold := &seen.fold
	if err := b.writeFiles(resp); err != nil {
		return err
	}
	proofs, err := b.prove(ctx, client, req, resp)
	if err != nil {
		return err
	}
	mismatch := false
	for _, of := range proofs {
		wrong := slices.ContainsFunc(of, func(p report.Proof) bool { return !p.OK() })
		// The first place that is not as asked is the one to show.
		if fold.Proofs == nil || wrong && !mismatch {
			fold.Proofs = of
		}
		mismatch = mismatch || wrong
	}
	fold.Stages = resp.Outline.StageNames()
	rep := fold.Report()
	var all []report.Finding
	rep.Findings, all = b.findings(eng.cache, req, resp, rep)
	seen.rec.told(fold.Stages, fold.Proofs, all)
	if b.Timeline != "" {
		if err := writeFile(b.Timeline, []byte(report.Timeline{Standalone: true}.SVG(&rep))); err != nil {
			return &fileError{"--timeline", b.Timeline, err}
		}
	}
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
	if err := out.Report(rep); err != nil {
		return err
	}
	if b.Quiet && b.Format != "json" {
		id := resp.ConfigDigest
		if id == "" {
			id = resp.Digest
		}
		if id != "" {
			_, err := fmt.Fprintln(out.Out, id)
			return err
		}
	}
	if len(req.Outputs) == 0 && len(b.Output) == 0 && len(req.CacheTo) == 0 && b.Progress != "rawjson" && b.Format != "json" {
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
		return err // which names the daemon
	}
	if out.Quiet {
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
// asked for: for each place a proof for each variant.
func (b *buildCmd) prove(ctx context.Context, client *registry.Client, req engine.Request, resp *engine.Response) ([][]report.Proof, error) {
	var proofs [][]report.Proof
	for i, o := range req.Outputs {
		levelAsked := strings.Contains(cmp.Or(o.Attrs[engine.AttrCompression], b.Compression), ":") || o.Attrs[engine.AttrLevel] != ""
		if !isTrue(o.Attrs, "push") {
			continue
		}
		want, err := engine.Layers{Compression: req.Compression, Added: req.AddCompression, Force: req.Force}.With(o.Attrs)
		if err != nil {
			return nil, err
		}
		if resp.Digests[i] == "" && isTrue(o.Attrs, "push-by-digest") {
			return nil, fmt.Errorf("%s: pushed by digest, but this BuildKit names the digest of the last output only: push it in a build of its own", o.Attrs["name"])
		}
		for n := range strings.SplitSeq(o.Attrs["name"], ",") {
			p, err := proveOne(ctx, client, n, resp.Digests[i], want, levelAsked, resp)
			if err != nil {
				return nil, fmt.Errorf("pushed, but reading it back failed: %w", err)
			}
			proofs = append(proofs, p)
		}
	}
	return proofs, nil
}

func proveOne(ctx context.Context, client *registry.Client, name, dgst string, want engine.Layers, levelAsked bool, resp *engine.Response) ([]report.Proof, error) {
	variants, err := want.Variants()
	if err != nil {
		return nil, err
	}
	ref, err := image.ParseReference(name)
	if err != nil {
		return nil, err
	}
	repo, err := client.Repository(ref)
	if err != nil {
		return nil, err
	}
	// By digest: the tag may be somebody else's by now, and what was pushed is
	// what has to be proven. A BuildKit that is not lighter's names the last
	// output's only, and the others are what their tags say.
	img, err := image.Read(ctx, repo, cmp.Or(dgst, ref.Identifier()), image.ReadOptions{})
	if err != nil {
		return nil, err
	}
	opts := image.VerifyOptions{ForceBase: want.Force}
	// A BuildKit that is not lighter's records no level. Where none was asked
	// for, its codec is all there is to prove.
	opts.AnyLevel = resp.BaseDiffIDs == nil && !levelAsked
	for _, d := range resp.BaseDiffIDs {
		opts.BaseDiffIDs = append(opts.BaseDiffIDs, digest.Digest(d))
	}
	return proofsOf(img, name, variants, func(_ *image.Image, want codec.Compression) image.VerifyOptions {
		opts.OldClients = len(variants) > 1 && want.Codec == codec.Gzip
		return opts
	}), nil
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

// registries is the way to all that a build pushes to. A configuration that
// cannot be read, or a helper that is not there, is better told before the build.
func (b *buildCmd) registries(ctx context.Context, req engine.Request) (*registry.Client, error) {
	if _, err := (registry.Hosts{}).Read(); err != nil {
		return nil, err
	}
	var hosts, insecure []string
	for _, o := range req.Outputs {
		if !isTrue(o.Attrs, "push") {
			continue
		}
		for n := range strings.SplitSeq(o.Attrs["name"], ",") {
			ref, err := image.ParseReference(n)
			if err != nil {
				return nil, usageError{err}
			}
			if _, err := (registry.Credentials{}).Lookup(ctx, ref.Name()); err != nil {
				return nil, err
			}
			hosts = append(hosts, ref.Host)
			if isTrue(o.Attrs, "registry.insecure") {
				insecure = append(insecure, ref.Host)
			}
		}
	}
	client := registry.New(registry.Options{Insecure: insecure, UserAgent: "lighter/" + version()})
	for _, host := range hosts {
		if _, _, err := client.Registry(host); err != nil {
			return nil, errors.Join(err, client.Close())
		}
	}
	return client, nil
}

// transport is the way to a host of a client, without credentials.
func transport(client *registry.Client) func(host string) (http.RoundTripper, error) {
	return func(host string) (http.RoundTripper, error) {
		_, way, err := client.Registry(host)
		return way, err
	}
}

// stdoutFile is dest=-.
func stdoutFile(map[string]string) (io.WriteCloser, error) { return os.Stdout, nil }
