package buildkit

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/containerd/containerd/v2/core/content"
	contentlocal "github.com/containerd/containerd/v2/plugins/content/local"
	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/client/ociindex"
	"github.com/moby/buildkit/frontend/dockerui"
	"github.com/moby/buildkit/identity"
	digest "github.com/opencontainers/go-digest"
	"github.com/tonistiigi/fsutil"

	"github.com/lighter-oci/lighter/internal/engine"
)

// Names of the local directories in the session, as the Dockerfile frontend
// asks for them.
const (
	localContext    = "context"
	localDockerfile = "dockerfile"
)

// inputs fills in where the build reads from: context, Dockerfile, named
// contexts. The returned function removes temporary files.
func inputs(ctx context.Context, req engine.Request, opt *client.SolveOpt) (cleanup func(), err error) {
	if req.Stdin != nil {
		req.Stdin = &cancellable{ctx: ctx, from: req.Stdin}
	}
	tmp := ""
	cleanup = func() {
		if tmp != "" {
			os.RemoveAll(tmp)
		}
	}
	defer func() {
		if err != nil {
			cleanup()
		}
	}()
	stdin := func(name string) (string, error) {
		if tmp == "" {
			if tmp, err = os.MkdirTemp("", "lighter-stdin-"); err != nil {
				return "", err
			}
		}
		return filepath.Join(tmp, name), nil
	}
	if req.Context == "-" && req.Dockerfile == "-" {
		return cleanup, errors.New("context and Dockerfile cannot both be read from standard input")
	}
	if err := mainContext(req, opt, stdin); err != nil {
		return cleanup, err
	}
	if err := findDockerfile(req, opt, stdin); err != nil {
		return cleanup, err
	}
	for name, value := range req.NamedContexts {
		if err := namedContext(name, value, opt); err != nil {
			return cleanup, err
		}
	}
	return cleanup, nil
}

// tempFile names a file in a directory that lives as long as the build.
type tempFile func(name string) (string, error)

func mainContext(req engine.Request, opt *client.SolveOpt, stdin tempFile) error {
	if req.Context == "-" {
		return stdinContext(req.Stdin, opt, stdin)
	}
	if isURL(req.Context) {
		opt.FrontendAttrs["context"] = req.Context
		return nil
	}
	info, err := os.Stat(req.Context)
	if scheme, _, ok := strings.Cut(req.Context, "://"); ok && errors.Is(err, os.ErrNotExist) {
		return &hintError{
			err:  fmt.Errorf("context %q: %s:// cannot be read", req.Context, scheme),
			hint: "use a directory, a tar file, http(s):// or git://",
		}
	}
	if errors.Is(err, os.ErrNotExist) {
		return &hintError{
			err:  fmt.Errorf("context %q does not exist", req.Context),
			hint: "the last argument is the directory to build, often a dot",
		}
	}
	if err != nil {
		return fmt.Errorf("context: %w", err)
	}
	if info.Mode().IsRegular() { // a tar, packed or not
		f, err := os.Open(req.Context)
		if err != nil {
			return fmt.Errorf("context: %w", err)
		}
		uploadContext(f, opt)
		return nil
	}
	return localDir(localContext, req.Context, opt)
}

func writeFile(path string, r io.Reader) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if _, err := io.Copy(f, r); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}

func isURL(s string) bool {
	if _, ok, _ := dockerui.DetectGitContext(s, nil); ok {
		if _, err := os.Stat(s); err != nil { // a directory named like a URL wins
			return true
		}
	}
	return strings.HasPrefix(s, "https://") || strings.HasPrefix(s, "http://")
}

// findDockerfile finds the Dockerfile, so that a missing one is told before the
// engine is asked.
func findDockerfile(req engine.Request, opt *client.SolveOpt, stdin tempFile) error {
	if _, done := opt.LocalMounts[localDockerfile]; done {
		return nil
	}
	_, remote := opt.FrontendAttrs["context"]
	switch {
	case req.Dockerfile == "-":
		if req.Stdin == nil {
			return errors.New("-f - needs a Dockerfile on standard input")
		}
		path, err := stdin("Dockerfile")
		if err != nil {
			return err
		}
		if err := writeFile(path, req.Stdin); err != nil {
			return fmt.Errorf("read Dockerfile from standard input: %w", err)
		}
		return dockerfileAt(path, opt)
	case remote && req.Dockerfile == "":
		return nil // the frontend looks for it in what it fetches
	case remote && !filepath.IsAbs(req.Dockerfile):
		opt.FrontendAttrs["filename"] = req.Dockerfile
		return nil
	case isURL(req.Dockerfile):
		return errors.New("-f takes a file: fetch the Dockerfile first and pipe it in with -f -")
	}
	path := req.Dockerfile
	if path == "" {
		path = defaultDockerfile(req.Context)
	}
	return dockerfileAt(path, opt)
}

// defaultDockerfile is DIR/Dockerfile, or DIR/dockerfile where only that exists.
func defaultDockerfile(dir string) string {
	path := filepath.Join(dir, "Dockerfile")
	lower := filepath.Join(dir, "dockerfile")
	if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
		if _, err := os.Stat(lower); err == nil {
			return lower
		}
	}
	return path
}

func dockerfileAt(path string, opt *client.SolveOpt) error {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, os.ErrNotExist) && path == "Dockerfile":
		return &hintError{err: errors.New("no Dockerfile in this directory"), hint: "name it with -f FILE, or pipe it in with -f -"}
	case errors.Is(err, os.ErrNotExist):
		return &hintError{
			err:  fmt.Errorf("no Dockerfile at %s", path),
			hint: "name it with -f FILE, or pipe it in with -f -",
		}
	case err != nil:
		return fmt.Errorf("dockerfile: %w", err)
	case info.IsDir():
		return &hintError{err: fmt.Errorf("%s is a directory", path), hint: "-f takes the Dockerfile itself"}
	}
	opt.FrontendAttrs["filename"] = filepath.Base(path)
	// Without this key the frontend looks in a git or http context first.
	opt.FrontendAttrs["dockerfilekey"] = localDockerfile
	return localDir(localDockerfile, filepath.Dir(path), opt)
}

// localDir offers a directory to the engine under a name of the session.
func localDir(name, dir string, opt *client.SolveOpt) error {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	info, err := os.Stat(abs)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return fmt.Errorf("%s is not a directory", dir)
	}
	fs, err := fsutil.NewFS(abs)
	if err != nil {
		return err
	}
	opt.LocalMounts[name] = fs
	return nil
}

// namedContext adds one --build-context NAME=VALUE.
func namedContext(name, value string, opt *client.SolveOpt) error {
	key := "context:" + name
	if layout, ok := strings.CutPrefix(value, "oci-layout://"); ok {
		ref, store, err := openLayout(layout)
		if err != nil {
			return fmt.Errorf("build context %s: %w", name, err)
		}
		id := identity.NewID()
		opt.OCIStores[id] = store
		opt.FrontendAttrs[key] = "oci-layout://" + id + ref
		return nil
	}
	if strings.HasPrefix(value, "docker-image://") || strings.HasPrefix(value, "target:") || isURL(value) {
		opt.FrontendAttrs[key] = value
		return nil
	}
	if scheme, _, found := strings.Cut(value, "://"); found {
		return fmt.Errorf("build context %s: scheme %q: want docker-image://, oci-layout://, target:, a URL or a directory", name, scheme)
	}
	local := "named-" + name
	if err := localDir(local, value, opt); err != nil {
		return fmt.Errorf("build context %s: %w", name, err)
	}
	opt.FrontendAttrs[key] = "local:" + local
	return nil
}

// openLayout resolves DIR, DIR:TAG or DIR@DIGEST to a store and the reference
// inside it, ":tag@digest".
func openLayout(layout string) (ref string, store content.Store, err error) {
	dir, dgst, _ := strings.Cut(layout, "@")
	tag := ""
	if i := strings.LastIndexByte(dir, ':'); i > strings.LastIndexByte(dir, filepath.Separator) {
		dir, tag = dir[:i], dir[i+1:]
	}
	if _, err := os.Stat(filepath.Join(dir, "index.json")); err != nil {
		return "", nil, &hintError{
			err:  fmt.Errorf("%s is no OCI layout: no index.json in it", dir),
			hint: "an OCI archive must be unpacked first (tar -xf)",
		}
	}
	if dgst == "" {
		if dgst, tag, err = layoutDigest(dir, tag); err != nil {
			return "", nil, err
		}
	}
	if _, err := digest.Parse(dgst); err != nil {
		return "", nil, fmt.Errorf("%q: %w", layout, err)
	}
	if tag == "" {
		tag = "latest"
	}
	store, err = contentlocal.NewStore(dir)
	if err != nil {
		return "", nil, err
	}
	return ":" + tag + "@" + dgst, store, nil
}

// layoutDigest looks a tag up; without one it takes "latest" or the only image.
func layoutDigest(dir, tag string) (dgst, foundTag string, err error) {
	idx := ociindex.NewStoreIndex(dir)
	want := tag
	if want == "" {
		want = "latest"
	}
	desc, err := idx.Get(want)
	if err != nil {
		return "", "", err
	}
	if desc == nil && tag == "" {
		if desc, err = idx.GetSingle(); err != nil {
			return "", "", err
		}
	}
	if desc == nil {
		return "", "", fmt.Errorf("OCI layout %s has no image tagged %q", dir, want)
	}
	return desc.Digest.String(), want, nil
}

// sharedKey names the directory to the engine, so that a second build of it
// sends only what changed, and two projects do not undo each other's transfer.
func sharedKey(dir string) string {
	abs, err := filepath.Abs(dir)
	if err != nil {
		abs = dir
	}
	host, _ := os.Hostname()
	sum := sha256.Sum256([]byte(host + "\x00" + abs))
	return hex.EncodeToString(sum[:8])
}
