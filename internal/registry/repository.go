package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"
	"sync/atomic"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/lighter-oci/lighter/internal/image"
)

// acceptManifests is sent with every request for a manifest: a registry
// converts, or answers 404, where the kind it has is not accepted.
var acceptManifests = strings.Join([]string{
	ocispec.MediaTypeImageIndex, ocispec.MediaTypeImageManifest, image.DockerIndex, image.DockerManifest, "*/*;q=0.1",
}, ", ")

// Repository is one repository of a registry. It implements image.Source and
// image.Target.
type Repository struct {
	client   *Client
	ref      image.Reference // host and repository only
	mirrorOf string          // host that it is asked instead of, "" for none
	attempts int
	remote   name.Repository
	out      http.RoundTripper // without a credential
	down     atomic.Bool       // a mirror that is not asked any more

	connecting  chan struct{}              // held while the fields below are used
	connections map[string]*http.Client    // by the scopes that they have asked for
	cred        atomic.Pointer[Credential] // nil before the first handshake
	piece       atomic.Int64               // bytes that a PATCH brings, and says so; 0 where it need not say
}

// Piece is how many bytes a request of an upload brings, and says so, at most: 0
// while it need not say, which is found out by the first blob of more than Small.
func (r *Repository) Piece() int64 { return r.piece.Load() }

// Resolve implements image.Source for tags and digests; Data holds the content.
func (r *Repository) Resolve(ctx context.Context, ref string) (ocispec.Descriptor, error) {
	named, err := r.names(ref)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	return r.resolve(ctx, named)
}

// names is the whole name of a tag or digest.
func (r *Repository) names(ref string) (image.Reference, error) {
	named := r.ref
	if d, err := digest.Parse(ref); err == nil {
		named.Digest = d
	} else {
		named.Tag = ref
	}
	if parsed, err := image.ParseReference(named.String()); err != nil || parsed != named {
		return named, fmt.Errorf("%s: %.200q is neither a tag nor a digest", r.ref.Name(), ref)
	}
	return named, nil
}

func (r *Repository) resolve(ctx context.Context, named image.Reference) (ocispec.Descriptor, error) {
	for attempt := 1; ; attempt++ {
		desc, err := r.getManifest(ctx, named)
		if err == nil || ctx.Err() != nil {
			return desc, err
		}
		if attempt == r.attempts || !again(err) {
			return ocispec.Descriptor{}, r.explain(named.String(), err)
		}
		if err := sleep(ctx, backoff(r.client.opts.Backoff, attempt)); err != nil {
			return ocispec.Descriptor{}, err
		}
	}
}

// getManifest fetches a manifest whose size, and for a tag digest, nobody knows
// yet. Errors that do not come from get are not explained yet.
func (r *Repository) getManifest(ctx context.Context, ref image.Reference) (ocispec.Descriptor, error) {
	var desc ocispec.Descriptor
	resp, err := r.get(ctx, ref.String(), "/manifests/"+ref.Identifier(), http.Header{"Accept": {acceptManifests}})
	if err != nil {
		return desc, err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return desc, fmt.Errorf("status %s instead of a manifest", resp.Status)
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, image.MaxJSON+1))
	switch {
	case ctx.Err() != nil:
		return desc, ctx.Err()
	case err != nil:
		return desc, err
	case len(b) > image.MaxJSON:
		return desc, fmt.Errorf("the manifest has more than %d bytes", image.MaxJSON)
	}
	desc = ocispec.Descriptor{Digest: digest.FromBytes(b), Size: int64(len(b)), Data: b}
	want := ref.Digest
	if want == "" {
		if d, err := digest.Parse(resp.Header.Get("Docker-Content-Digest")); err == nil {
			want = d
		}
	}
	if want != "" {
		desc.Digest = want.Algorithm().FromBytes(b)
	}
	if want != "" && desc.Digest != want {
		return desc, fmt.Errorf("%s: %w: the manifest is %s, not %s", ref, image.ErrCorrupt, desc.Digest, want)
	}
	desc.MediaType, _, _ = mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if !image.IsIndex(desc.MediaType) && !image.IsManifest(desc.MediaType) {
		if t := image.ManifestType(b); t != "" {
			desc.MediaType = t
		}
	}
	return desc, nil
}

// Fetch implements image.Source. A download that breaks goes on where it broke.
func (r *Repository) Fetch(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
	return fetch(ctx, []*Repository{r}, desc)
}

// FetchRange implements image.Source. From a registry that ignores ranges it
// reads from the start where that is cheap, else the error is ErrNoRange.
func (r *Repository) FetchRange(ctx context.Context, desc ocispec.Descriptor, offset, length int64) (io.ReadCloser, error) {
	return fetchRange(ctx, []*Repository{r}, desc, offset, length)
}

// get sends a GET for a path below the repository and answers what is no
// error: a 2xx, or a 416. The body holds the request's place in the host's
// limit until it is closed. what names the thing in messages.
func (r *Repository) get(ctx context.Context, what, path string, header http.Header) (*http.Response, error) {
	release, err := r.client.acquire(ctx, r.ref.Host)
	if err != nil {
		return nil, err
	}
	resp, err := r.do(ctx, request{access: r.pull(), method: http.MethodGet, url: r.url(path), what: what, header: header},
		http.StatusOK, http.StatusPartialContent, http.StatusRequestedRangeNotSatisfiable)
	if err == nil {
		resp.Body = &placed{resp.Body, release}
		return resp, nil
	}
	release()
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	return nil, r.explain(what, err)
}

// placed is a body that gives its place in a limit back when it is closed.
type placed struct {
	io.ReadCloser
	release func()
}

func (p *placed) Close() error {
	err := p.ReadCloser.Close()
	p.release()
	return err
}

var _ image.Source = (*Repository)(nil)

var errBadRange = errors.New("the registry answers another range than it was asked for")
