package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"syscall"

	"github.com/lighter-oci/lighter/internal/image"
)

// Source is one image of a daemon, open for reading.
type Source struct {
	image.Source
	Ref    string // what the image is resolved by
	Daemon string // for people, as Target's Name
	close  func() error
}

// Close ends the connection and removes what was kept for it.
func (s *Source) Close() error { return s.close() }

// OpenDocker reads the image name, a NAME:TAG or an image ID, from Docker, or
// from a podman at $DOCKER_HOST. Docker gives out whole images only: the image
// lies in a temporary file until Close, in $TMPDIR or what the system has, with
// its layers uncompressed.
func OpenDocker(ctx context.Context, name string, opts Options) (*Source, error) {
	t, err := Detect(ctx, "docker", opts)
	if err != nil {
		return nil, err
	}
	d, ok := t.(*docker)
	if !ok {
		return nil, fmt.Errorf("%s is no Docker", t.Name())
	}
	defer d.http.CloseIdleConnections()
	archive, err := d.save(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("read %s from %s: %w", name, d.name, err)
	}
	return &Source{Source: archive, Daemon: d.name, close: archive.Close}, nil
}

// save is `docker save` into a file that has no name by the time it is written,
// where the system allows that: no end of this process leaves it behind.
func (d *docker) save(ctx context.Context, name string) (*image.DockerArchive, error) {
	f, err := os.CreateTemp("", ".lighter-*.tar")
	if err != nil {
		return nil, fmt.Errorf("temporary file: %w", err)
	}
	release := f.Close
	if os.Remove(f.Name()) != nil { // Windows: it is open
		release = func() error { return errors.Join(f.Close(), os.Remove(f.Name())) }
	}
	n, err := d.saveTo(ctx, f, name)
	if err != nil {
		return nil, errors.Join(err, release())
	}
	return image.ReadDockerArchive(name, f, n, release)
}

func (d *docker) saveTo(ctx context.Context, w io.Writer, name string) (int64, error) {
	resp, err := d.do(ctx, http.MethodGet, "/images/"+url.PathEscape(name)+"/get", nil)
	var status *statusError
	if errors.As(err, &status) && status.status != http.StatusNotFound && d.kind == storePodman {
		resp, err = d.saveOCI(ctx, name)
	}
	if errors.As(err, &status) && status.status == http.StatusNotFound {
		return 0, &hinted{fmt.Errorf("%w: it has no such image", image.ErrNotFound), "`docker images` lists those that it has"}
	}
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	to := &keepsError{w: w}
	n, err := io.CopyBuffer(struct{ io.Writer }{to}, resp.Body, make([]byte, 1<<20))
	switch {
	case errors.Is(to.err, syscall.ENOSPC):
		return n, &hinted{fmt.Errorf("temporary file: %w after %d bytes", to.err, n), "the image needs room for its uncompressed layers there; TMPDIR names another place"}
	case to.err != nil:
		return n, fmt.Errorf("temporary file: %w", to.err)
	case ctx.Err() != nil:
		return n, ctx.Err()
	case err != nil:
		return n, fmt.Errorf("it stopped sending after %d bytes: %w", n, err)
	}
	return n, nil
}

// saveOCI asks podman in its own API for an OCI archive. In Docker's it writes
// Docker archives, and fails for an image whose manifest says zstd: "zstd
// compression is not supported for docker" (4.3).
func (d *docker) saveOCI(ctx context.Context, name string) (*http.Response, error) {
	own := *d
	own.base = d.base[:strings.LastIndex(d.base, "/v")] + "/v4.0.0/libpod"
	return own.do(ctx, http.MethodGet, "/images/"+url.PathEscape(name)+"/get?format=oci-archive", nil)
}
