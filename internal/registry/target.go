package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/lighter-oci/lighter/internal/image"
)

var _ image.Target = (*Repository)(nil)

// path is that of a blob or manifest below the repository.
func path(desc ocispec.Descriptor) string {
	if image.IsManifest(desc.MediaType) || image.IsIndex(desc.MediaType) {
		return "/manifests/" + desc.Digest.String()
	}
	return "/blobs/" + desc.Digest.String()
}

// named is how messages name a blob or manifest.
func (r *Repository) named(d digest.Digest) string { return r.ref.Name() + "@" + d.String() }

// ask is do within the host's limit, for answers without a body of interest.
// Errors are explained.
func (r *Repository) ask(ctx context.Context, q request, want ...int) (*http.Response, error) {
	release, err := r.client.acquire(ctx, r.ref.Host)
	if err != nil {
		return nil, err
	}
	defer release()
	resp, err := r.do(ctx, q, want...)
	if ctx.Err() != nil {
		if err == nil {
			_ = resp.Body.Close()
		}
		return nil, ctx.Err()
	}
	if err != nil {
		return nil, r.explain(q.what, err)
	}
	drain(resp)
	return resp, nil
}

// drain reads a short body, so that the connection can be used again.
func drain(resp *http.Response) {
	_, _ = io.CopyN(io.Discard, resp.Body, 64<<10)
	_ = resp.Body.Close()
}

// Has implements image.Target. What has another size is not there whole.
func (r *Repository) Has(ctx context.Context, desc ocispec.Descriptor) (bool, error) {
	if err := image.CheckDescriptor(desc); err != nil {
		return false, err
	}
	resp, err := r.ask(ctx, r.head(desc), http.StatusOK) //nolint:bodyclose // ask closes it
	return has(resp, err, desc)
}

// Reach tells, before there is anything to send, whether the registry answers
// and lets this user in. A push may still be refused.
func (r *Repository) Reach(ctx context.Context) error {
	desc := ocispec.DescriptorEmptyJSON
	q := r.head(desc)
	q.what = r.ref.Name()
	resp, err := r.ask(ctx, q, http.StatusOK) //nolint:bodyclose // ask closes it
	_, err = has(resp, err, desc)
	return err
}

func (r *Repository) head(desc ocispec.Descriptor) request {
	return request{access: r.push(), method: http.MethodHead, url: r.url(path(desc)), what: r.named(desc.Digest),
		header: http.Header{"Accept": {acceptManifests}}}
}

// has reads the answer to head.
func has(resp *http.Response, err error, desc ocispec.Descriptor) (bool, error) {
	switch {
	case errors.Is(err, image.ErrNotFound), refused(err) == http.StatusNotFound:
		return false, nil
	case err != nil:
		return false, err
	case resp.ContentLength >= 0 && resp.ContentLength != desc.Size:
		return false, nil
	}
	return sameDigest(resp, desc.Digest) == nil, nil
}

// sameDigest holds a registry's answer against what was sent.
func sameDigest(resp *http.Response, want digest.Digest) error {
	got, err := digest.Parse(resp.Header.Get("Docker-Content-Digest"))
	if err != nil || got.Algorithm() != want.Algorithm() || got == want {
		return nil //nolint:nilerr // a registry need not say
	}
	return fmt.Errorf("%w: the registry made it %s", image.ErrCorrupt, got)
}

// Mount implements image.Target. Without a repository in from, the registry
// looks for the blob in all that it has; few do.
func (r *Repository) Mount(ctx context.Context, desc ocispec.Descriptor, from image.Reference) (bool, error) {
	if err := image.CheckDescriptor(desc); err != nil {
		return false, err
	}
	if from.Repository != "" && from.Host != r.ref.Host {
		return false, nil
	}
	query := url.Values{"mount": {desc.Digest.String()}}
	access := r.push()
	if from.Repository != "" {
		query.Set("from", from.Repository)
		access = r.mount(from.Repository)
	}
	q := request{access: access, method: http.MethodPost, url: r.url("/blobs/uploads/?" + query.Encode()), what: r.named(desc.Digest), idempotent: true}
	resp, err := r.ask(ctx, q, http.StatusCreated, http.StatusAccepted) //nolint:bodyclose // ask closes it
	var failed *Error
	switch {
	case errors.As(err, &failed) && failed.Status/100 == 4 && failed.Status != http.StatusTooManyRequests:
		// Not this blob, not that repository, or not at all: the upload will tell
		// what is wrong where it is wrong for that, too.
		return false, nil
	case err != nil:
		return false, err
	case resp.StatusCode == http.StatusCreated:
		if err := sameDigest(resp, desc.Digest); err != nil {
			return false, fmt.Errorf("%s: mounted from %s: %w", q.what, from.Name(), err)
		}
		return true, nil
	}
	if session, err := follow(resp); err == nil {
		r.cancel(ctx, session)
	}
	return false, nil
}

// cancelPatience bounds the wait for a registry to forget an upload.
const cancelPatience = 5 * time.Second

// cancel lets the registry forget an upload, cancelled ctx or not. Where that
// fails, the registry forgets it by itself some day.
func (r *Repository) cancel(ctx context.Context, session *url.URL) {
	ctx, stop := context.WithTimeout(context.WithoutCancel(ctx), cancelPatience)
	defer stop()
	resp, err := r.do(ctx, request{access: r.delete(), method: http.MethodDelete, url: session.String(), what: r.ref.Name()},
		http.StatusNoContent, http.StatusOK, http.StatusAccepted)
	if err == nil {
		drain(resp)
	}
}

// follow answers the Location of a response, absolute. A registry may send an
// upload elsewhere, which gets no credential there, but not into this machine.
func follow(resp *http.Response) (*url.URL, error) {
	location := resp.Header.Get("Location")
	if location == "" {
		return nil, errors.New("the registry does not say where to upload to")
	}
	base := resp.Request.URL
	u, err := base.Parse(location)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.User != nil ||
		image.LoopbackHost(u.Host) && !image.LoopbackHost(base.Host) {
		return nil, errors.New("the registry wants the upload to go to where none can go")
	}
	u.Fragment = ""
	return u, nil
}

// PutManifest implements image.Target.
func (r *Repository) PutManifest(ctx context.Context, desc ocispec.Descriptor, b []byte) error {
	return r.putManifest(ctx, desc, b, desc.Digest.String(), r.named(desc.Digest))
}

// Tag implements image.Target.
func (r *Repository) Tag(ctx context.Context, desc ocispec.Descriptor, b []byte, name string) error {
	named := r.ref
	named.Tag = name
	if parsed, err := image.ParseReference(named.String()); err != nil || parsed != named || name == "" {
		return fmt.Errorf("%s: %.200q is no tag", r.ref.Name(), name)
	}
	err := r.putManifest(ctx, desc, b, name, named.String())
	var failed *Error
	if errors.As(err, &failed) && failed.Status/100 == 4 && r.stands(ctx, desc, name) {
		// A tag that cannot be changed, and an answer to the first attempt that
		// got lost.
		return nil
	}
	return err
}

// stands tells whether a tag is known to name desc.
func (r *Repository) stands(ctx context.Context, desc ocispec.Descriptor, tag string) bool {
	q := r.head(desc)
	q.url = r.url("/manifests/" + tag)
	resp, err := r.ask(ctx, q, http.StatusOK) //nolint:bodyclose // ask closes it
	return err == nil && resp.Header.Get("Docker-Content-Digest") == desc.Digest.String()
}

func (r *Repository) putManifest(ctx context.Context, desc ocispec.Descriptor, b []byte, identifier, what string) error {
	if err := image.CheckContent(desc, b); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	q := request{access: r.push(), method: http.MethodPut, url: r.url("/manifests/" + identifier), what: what, idempotent: true,
		header: http.Header{"Content-Type": {desc.MediaType}}, body: content(b), length: desc.Size}
	for attempt := 0; ; attempt++ {
		resp, err := r.ask(ctx, q, http.StatusCreated, http.StatusOK, http.StatusAccepted) //nolint:bodyclose // ask closes it
		if err == nil {
			if err := sameDigest(resp, desc.Digest); err != nil {
				return fmt.Errorf("%s: %w", what, err)
			}
			return nil
		}
		if attempt == len(linkWaits) || !linking(err) {
			return err
		}
		if err := sleep(ctx, linkWaits[attempt]); err != nil {
			return err
		}
	}
}

// linkWaits come before further attempts at a manifest: long against the writing
// of a small file, and short for whoever waits for the refusal of one that is wrong.
var linkWaits = []time.Duration{100 * time.Millisecond, 400 * time.Millisecond, 1600 * time.Millisecond}

// linking tells refusals of a manifest that may only be about the moment.
// distribution keeps a file for each blob of a repository, and empties it before it
// writes it anew: what another request links right now is a blob unknown,
// or one of an invalid digest.
func linking(err error) bool {
	var answer *transport.Error
	return errors.As(err, &answer) && slices.ContainsFunc(answer.Errors, func(d transport.Diagnostic) bool {
		return d.Code == transport.ManifestBlobUnknownErrorCode || d.Code == transport.BlobUnknownErrorCode || d.Code == transport.DigestInvalidErrorCode
	})
}

// Delete takes a blob or manifest away, with all tags of the manifest. What is
// not there is no error.
func (r *Repository) Delete(ctx context.Context, desc ocispec.Descriptor) error {
	if err := image.CheckDescriptor(desc); err != nil {
		return err
	}
	q := request{access: r.delete(), method: http.MethodDelete, url: r.url(path(desc)), what: r.named(desc.Digest), idempotent: true}
	_, err := r.ask(ctx, q, http.StatusAccepted, http.StatusOK, http.StatusNoContent) //nolint:bodyclose // ask closes it
	if errors.Is(err, image.ErrNotFound) {
		return nil
	}
	return err
}

// maxTags bounds how many tags a list may have.
const maxTags = 100_000

// Tags lists the repository's tags in the registry's order.
func (r *Repository) Tags(ctx context.Context) ([]string, error) {
	var all []string
	for path := "/tags/list?n=1000"; path != ""; {
		var page struct {
			Tags []string `json:"tags"`
		}
		resp, err := r.get(ctx, r.ref.Name(), path, nil)
		if err != nil {
			return nil, err
		}
		err = json.NewDecoder(io.LimitReader(resp.Body, image.MaxJSON)).Decode(&page)
		_ = resp.Body.Close()
		if err != nil {
			return nil, fmt.Errorf("%s: list of tags: %w", r.ref.Name(), r.explain(r.ref.Name(), err))
		}
		if all = append(all, page.Tags...); len(all) > maxTags || len(page.Tags) == 0 {
			break
		}
		path = nextPage(resp.Header.Get("Link"))
	}
	return all, nil
}

// nextPage reads <…/tags/list?last=x&n=1000>; rel="next". Only its query is
// followed.
func nextPage(link string) string {
	target, rel, ok := strings.Cut(link, ">")
	u, err := url.Parse(strings.TrimPrefix(target, "<"))
	if !ok || err != nil || !strings.Contains(rel, "next") || u.RawQuery == "" {
		return ""
	}
	return "/tags/list?" + u.RawQuery
}
