// Package daemon owns the way of an image into a container daemon on this or
// another machine and out of one: Docker, podman or containerd, and the archives
// that `docker load` reads. It asks the daemon what it has, so that only the
// layers it lacks travel.
//
// It never builds or changes an image, never starts a daemon, and never speaks
// to a registry. The one thing it decodes are zstd layers for a Docker that
// cannot read them.
package daemon

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/lighter-oci/lighter/internal/codec"
	"github.com/lighter-oci/lighter/internal/event"
)

// Target is a daemon that answered and takes images.
type Target interface {
	// Name tells people which daemon it is: "docker 28.5.2 (unix:///var/run/docker.sock)".
	Name() string

	// Platform is the one that the daemon takes of an index, and true; false
	// where it takes the index as it is.
	Platform() (ocispec.Platform, bool)

	// Load puts the image that root, a manifest or an index, describes into the
	// daemon and gives it names. Blobs are read from src, and of the layers only
	// those that the daemon lacks.
	//
	// report, which may be nil, is called for every layer, from one goroutine:
	// LayerLoaded (of a file LayerWritten) when it has travelled, LayerExists when it did not have to.
	// Where the daemon turns out to miss a layer that it seemed to have,
	// everything is sent again, and reported again.
	//
	// The names are set when everything has arrived: after an error, Ctrl-C
	// included, each of them stands for what it stood for before, or for the
	// whole new image.
	Load(ctx context.Context, src content.Provider, root ocispec.Descriptor, names []string, report func(event.Layer)) (*Loaded, error)
}

// Loaded is what a daemon has taken.
type Loaded struct {
	Digest   digest.Digest // of the manifest or index that was loaded: root's, or that of the one manifest chosen from it
	Platform string        // "linux/amd64" where one manifest of an index was chosen, "" where everything was loaded
	Left     []string      // platforms of the index that stayed behind then
	Names    []string      // as the daemon has them: "docker.io/library/app:latest"
	Sent     int64         // bytes that went to the daemon
	Decoded  int           // zstd layers that went as plain tars, because the reader may know no zstd
}

// Options say where to look. The zero value looks where the daemons' own
// clients look.
type Options struct {
	Getenv    func(string) string // nil is os.Getenv
	Namespace string              // of containerd; "" is $CONTAINERD_NAMESPACE, then "default"
	Pool      *codec.Pool         // decodes zstd for Docker before 23; nil is one of its own
}

// detectTimeout bounds the question whether a daemon answers. A socket answers
// in milliseconds; over ssh a login comes first.
const detectTimeout = 15 * time.Second

// finder looks for one kind of daemon. Its error says where it looked and why
// each of these places failed, without the kind's name.
type finder struct {
	kind string
	env  string // the variable that names its address
	find func(context.Context, Options) (Target, error)
}

// Detect returns the first daemon that answers, in the order docker, podman,
// containerd; or the one that want names. It changes nothing in the daemon.
//
//	docker      $DOCKER_HOST; or the current context's host; or
//	            /var/run/docker.sock, $XDG_RUNTIME_DIR/docker.sock
//	podman      $CONTAINER_HOST; or the podman command
//	containerd  $CONTAINERD_ADDRESS; or /run/containerd/containerd.sock
//
// Where the environment names places, nothing is looked for elsewhere, unless
// want says so: nobody who set DOCKER_HOST wants the image in podman. The error lists what was tried and has a Hint() string with the next step.
func Detect(ctx context.Context, want string, opts Options) (Target, error) {
	if opts.Getenv == nil {
		opts.Getenv = os.Getenv
	}
	var failed []string
	known := false
	finders := []finder{
		{"docker", "DOCKER_HOST", findDocker}, {"podman", "CONTAINER_HOST", findPodman}, {"containerd", "CONTAINERD_ADDRESS", findContainerd},
	}
	named := slices.ContainsFunc(finders, func(f finder) bool { return opts.Getenv(f.env) != "" })
	for _, f := range finders {
		if want != "" && want != f.kind || want == "" && named && opts.Getenv(f.env) == "" {
			continue
		}
		known = true
		t, err := f.detect(ctx, opts)
		if err == nil {
			return t, nil
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		failed = append(failed, f.kind+": "+err.Error())
	}
	if !known {
		return nil, &hinted{fmt.Errorf("unknown daemon %q", want), "it is docker, podman or containerd"}
	}
	what := "no Docker, podman or containerd answers"
	if want != "" {
		what = want + " does not answer"
		failed[0] = strings.TrimPrefix(failed[0], want+": ")
	}
	return nil, &hinted{fmt.Errorf("%s: %s", what, strings.Join(failed, "; ")),
		"start one, or say where it is with DOCKER_HOST, CONTAINER_HOST or CONTAINERD_ADDRESS; an OCI archive needs none"}
}

func (f finder) detect(ctx context.Context, opts Options) (Target, error) {
	ctx, cancel := context.WithTimeout(ctx, detectTimeout)
	defer cancel()
	t, err := f.find(ctx, opts)
	if err != nil && ctx.Err() != nil {
		return nil, fmt.Errorf("%w after %s", err, detectTimeout)
	}
	return t, err
}

// hinted is an error with the next step for whoever reads it.
type hinted struct {
	err  error
	hint string
}

func (h *hinted) Error() string { return h.err.Error() }
func (h *hinted) Unwrap() error { return h.err }
func (h *hinted) Hint() string  { return h.hint }

// fullNames returns names with their registry and tag, each once.
func fullNames(names []string) ([]string, error) {
	var full []string
	seen := map[string]bool{}
	for _, name := range names {
		if _, err := digest.Parse(name); err == nil {
			return nil, &hinted{fmt.Errorf("image name %q is an ID", name), "a daemon names images by tag: write NAME:TAG"}
		}
		ref, err := reference.ParseNormalizedNamed(name)
		if err != nil {
			return nil, fmt.Errorf("image name %q: %w", name, err)
		}
		if _, ok := ref.(reference.Digested); ok {
			return nil, &hinted{fmt.Errorf("image name %q has a digest", name), "a daemon names images by tag: write NAME:TAG"}
		}
		s := reference.TagNameOnly(ref).String()
		if !seen[s] {
			seen[s] = true
			full = append(full, s)
		}
	}
	return full, nil
}

// oneLine makes what a daemon said fit into a line. podman tries four formats
// one after the other and tells of each, a line each; the line that counts is
// that of the format we send.
func oneLine(s string) string {
	for line := range strings.Lines(s) {
		if reason, ok := strings.CutPrefix(strings.TrimSpace(line), "* oci-archive: "); ok {
			s = reason
		}
	}
	return strings.Join(strings.Fields(s), " ")
}
