package daemon

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/lighter-oci/lighter/internal/event"
)

// podmanGrace is how long podman may take to remove its temporary files when
// a load ends early.
const podmanGrace = 5 * time.Second

// podman speaks through the podman command, which finds its own store, be it
// root's, a user's or one on another machine.
type podman struct {
	command string
	name    string
	runs    ocispec.Platform
	store   string // directory of the layers; "" where podman is on another machine
}

func findPodman(ctx context.Context, opts Options) (Target, error) {
	host := opts.Getenv("CONTAINER_HOST")
	if strings.HasPrefix(host, "unix://") || strings.HasPrefix(host, "tcp://") {
		t, err := dialDocker(ctx, endpoint{host: host}, opts)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", host, err)
		}
		return t, nil
	}
	command, err := exec.LookPath("podman")
	if err != nil {
		return nil, errors.New("no podman command in PATH")
	}
	p := &podman{command: command}
	out, err := p.run(ctx, nil, "info", "--format", "json")
	if err != nil {
		return nil, err
	}
	var info struct {
		Host struct {
			OS, Arch, Variant string
			ServiceIsRemote   bool
		}
		Store   struct{ GraphRoot, GraphDriverName string }
		Version struct{ Version string }
	}
	if err := json.Unmarshal(out, &info); err != nil {
		return nil, fmt.Errorf("answer of podman info: %w", err)
	}
	p.runs = ocispec.Platform{OS: info.Host.OS, Architecture: info.Host.Arch, Variant: info.Host.Variant}
	p.name = fmt.Sprintf("podman %s (%s)", info.Version.Version, info.Store.GraphRoot)
	if info.Host.ServiceIsRemote {
		p.name = fmt.Sprintf("podman %s (remote)", info.Version.Version)
		return p, nil
	}
	p.store = filepath.Join(info.Store.GraphRoot, info.Store.GraphDriverName+"-layers")
	return p, nil
}

func (p *podman) Name() string { return p.name }

func (p *podman) Platform() (ocispec.Platform, bool) { return p.runs, true }

func (p *podman) Load(ctx context.Context, src content.Provider, root ocispec.Descriptor, names []string, report func(event.Layer)) (*Loaded, error) {
	full, err := fullNames(names)
	if err != nil {
		return nil, err
	}
	c, err := choose(ctx, src, root, p.runs)
	if err != nil {
		return nil, err
	}
	blobs, err := graph(ctx, src, c.desc)
	if err != nil {
		return nil, err
	}
	a := &archive{src: src, where: p.name, report: report}
	if a.files, err = ociArchive(blobs, c.desc, full[:min(1, len(full))]); err != nil {
		return nil, err
	}
	loaded := &Loaded{Digest: c.desc.Digest, Platform: c.platform, Left: c.left, Names: full}
	loaded.Sent, err = a.load(ctx, p.has(ctx, blobs), p.send)
	if err == nil && len(full) > 1 {
		_, err = p.run(ctx, nil, append([]string{"tag"}, full...)...)
	}
	return loaded.orError(p.name, err)
}

// has are the layers that podman will not look for in the archive: those whose
// blob it unpacked before. It is a hint: what podman then misses it names, and
// all layers are sent. So whatever goes wrong here means no layer.
func (p *podman) has(ctx context.Context, blobs []blob) map[digest.Digest]bool {
	if p.store == "" {
		return p.guess(ctx, blobs)
	}
	// containers/storage, layers.go: the list of all layers. podman itself has
	// no command that tells the digests of blobs.
	var layers []struct {
		Compressed digest.Digest `json:"compressed-diff-digest"`
		Diff       digest.Digest `json:"diff-digest"`
	}
	raw, err := os.ReadFile(filepath.Join(p.store, "layers.json"))
	if err != nil || json.Unmarshal(raw, &layers) != nil {
		return nil
	}
	known := map[digest.Digest]bool{}
	for _, l := range layers {
		known[l.Compressed], known[l.Diff] = true, true
	}
	has := map[digest.Digest]bool{}
	for _, b := range blobs {
		if b.layer && known[b.desc.Digest] {
			has[b.desc.Digest] = true
		}
	}
	return has
}

// guess goes by diffIDs, as loadPodman does.
func (p *podman) guess(ctx context.Context, blobs []blob) map[digest.Digest]bool {
	ids, err := p.run(ctx, nil, "images", "--all", "--quiet", "--no-trunc")
	if err != nil || len(bytes.Fields(ids)) == 0 {
		return nil
	}
	out, err := p.run(ctx, nil, append([]string{"image", "inspect"}, strings.Fields(string(ids))...)...)
	if err != nil {
		return nil
	}
	var list []struct {
		RootFS struct{ Layers []digest.Digest }
	}
	if json.Unmarshal(out, &list) != nil {
		return nil
	}
	var images [][]digest.Digest
	for _, img := range list {
		images = append(images, img.RootFS.Layers)
	}
	return hasDiffIDs(blobs, images)
}

// send is the sender of podman load.
func (p *podman) send(ctx context.Context, write func(io.Writer) error) error {
	_, err := p.run(ctx, write, "load", "--quiet")
	return err
}

// run runs podman with what stdin writes, if anything, and returns its stdout.
// When ctx ends, stdin does too: podman then finds a tar without an end and
// removes its copy of it, which it leaves behind when it is killed.
func (p *podman) run(ctx context.Context, stdin func(io.Writer) error, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, p.command, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	cmd.WaitDelay = podmanGrace
	detach(cmd)
	if stdin == nil {
		return p.answer(ctx, &stdout, &stderr, cmd.Run())
	}
	pipe, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	cmd.Cancel = pipe.Close
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	werr := stdin(pipe)
	pipe.Close() // twice, where ctx ended
	out, err := p.answer(ctx, &stdout, &stderr, cmd.Wait())
	if werr != nil && !errors.Is(werr, errSink) {
		return nil, werr
	}
	return out, err
}

func (p *podman) answer(ctx context.Context, stdout, stderr *bytes.Buffer, err error) ([]byte, error) {
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case err != nil && stderr.Len() > 0:
		return nil, errors.New(podmanError(stderr.String()))
	case err != nil:
		return nil, err
	}
	return stdout.Bytes(), nil
}

// podmanError makes a line of what podman prints when it fails: warnings, then
// "Error: " and a message.
func podmanError(stderr string) string {
	_, msg, found := strings.Cut("\n"+stderr, "\nError: ")
	if !found {
		msg = stderr
	}
	return oneLine(msg)
}
