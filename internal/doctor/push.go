package doctor

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/lighter-oci/lighter/internal/codec"
)

// put stores a blob in one request.
func (p *probe) put(ctx context.Context, b blob) error {
	location, err := p.begin(ctx)
	if err != nil {
		return err
	}
	return p.commit(ctx, location, b, b.content)
}

// commit ends an upload with what is left of its content.
func (p *probe) commit(ctx context.Context, location string, b blob, rest []byte) error {
	a, err := p.send(ctx, request{scopes: p.scopes(), method: http.MethodPut, path: withDigest(location, b.desc.Digest.String()),
		header: map[string]string{"Content-Type": "application/octet-stream"}, body: rest})
	if err != nil {
		return err
	}
	if a.status != http.StatusCreated {
		return p.refused("a blob", a)
	}
	p.stored = append(p.stored, stored{p.ref.Repository, "blobs", b.desc.Digest.String(), ""})
	return nil
}

// putManifest stores a manifest or index, by a tag where there is one.
func (p *probe) putManifest(ctx context.Context, b blob, tag string) error {
	as := tag
	if as == "" {
		as = b.desc.Digest.String()
	}
	a, err := p.send(ctx, request{scopes: p.scopes(), method: http.MethodPut, path: p.ref.Repository + "/manifests/" + as,
		header: map[string]string{"Content-Type": b.desc.MediaType}, body: b.content})
	if err != nil {
		return err
	}
	if a.status/100 != 2 {
		return p.refused("it", a)
	}
	p.stored = append(p.stored, stored{p.ref.Repository, "manifests", b.desc.Digest.String(), tag})
	return nil
}

// refused is a no to something that was sent.
func (p *probe) refused(what string, a *answer) error {
	if a.status == http.StatusUnauthorized || a.status == http.StatusForbidden {
		return p.denied(a.says())
	}
	no := errNo{found: what + " is refused: " + a.says()}
	if a.status == http.StatusMethodNotAllowed {
		no.fix = "is it read-only, or a cache of another registry?"
	}
	return no
}

// push asks for what lighter needs: an OCI image with a zstd layer goes in and
// comes out as it was.
func (p *probe) push(ctx context.Context) (string, error) {
	var err error
	if p.sample, err = newSample(nonce()); err != nil {
		return "", err
	}
	s := p.sample
	for _, b := range []blob{s.config, s.zstd} {
		if err := p.put(ctx, b); err != nil {
			return "", err
		}
	}
	if err := p.putManifest(ctx, s.oci, probeTag); err != nil {
		return "", err
	}
	for _, part := range []struct {
		path string
		blob blob
	}{{"/manifests/" + probeTag, s.oci}, {"/blobs/" + s.zstd.desc.Digest.String(), s.zstd}} {
		a, err := p.send(ctx, request{scopes: p.scopes(), method: http.MethodGet, path: p.ref.Repository + part.path,
			header: map[string]string{"Accept": ocispec.MediaTypeImageManifest + ", */*;q=0.1"}})
		if err != nil {
			return "", err
		}
		if a.status != http.StatusOK {
			return "", errNo{found: "what was pushed cannot be read back: " + a.says()}
		}
		if !bytes.Equal(a.body, part.blob.content) {
			return "", errNo{found: "what was pushed comes back changed"}
		}
	}
	return "an OCI image with a zstd layer, read back", nil
}

func (p *probe) ociIndex(ctx context.Context) (string, error) {
	return "an index of OCI images", p.putManifest(ctx, p.sample.index, "")
}

// mixedIndex is how one tag serves clients that want gzip by Docker's media
// types and others; Quay refuses it.
func (p *probe) mixedIndex(ctx context.Context) (string, error) {
	if err := p.put(ctx, p.sample.gzip); err != nil {
		return "", err
	}
	if err := p.putManifest(ctx, p.sample.docker, ""); err != nil {
		return "", err
	}
	return "a Docker manifest and an OCI manifest in one index", p.putManifest(ctx, p.sample.mixed, "")
}

// mount asks for the layer to appear in a second repository.
func (p *probe) mount(ctx context.Context) (string, error) {
	digest := p.sample.zstd.desc.Digest.String()
	scopes := append(p.scopes(), "repository:"+p.second+":pull,push")
	a, err := p.send(ctx, request{scopes: scopes, method: http.MethodPost,
		path: fmt.Sprintf("%s/blobs/uploads/?mount=%s&from=%s", p.second, digest, p.ref.Repository)})
	switch {
	case err != nil:
		return "", errUnknown{fmt.Sprintf("a second repository, %s, cannot be written to: %v", p.second, err)}
	case a.status == http.StatusCreated:
		p.stored = append(p.stored, stored{p.second, "blobs", digest, ""})
		return "a layer from another repository, without an upload", nil
	case a.status == http.StatusAccepted:
		if location, err := a.location(); err == nil {
			p.cancel(ctx, scopes, location)
		}
		return "", errNo{found: "layers of other repositories have to be uploaded again"}
	case a.status == http.StatusUnauthorized, a.status == http.StatusForbidden, a.status == http.StatusNotFound:
		return "", errUnknown{fmt.Sprintf("a second repository, %s, cannot be written to: %s", p.second, a.says())}
	}
	return "", p.refused("it", a)
}

// ranges asks for the first bytes of the layer only.
func (p *probe) ranges(ctx context.Context) (string, error) {
	a, err := p.send(ctx, request{scopes: p.scopes(), method: http.MethodGet,
		path: p.ref.Repository + "/blobs/" + p.sample.zstd.desc.Digest.String(), header: map[string]string{"Range": "bytes=0-3"}})
	switch {
	case err != nil:
		return "", err
	case a.status == http.StatusPartialContent && codec.Sniff(a.body) == codec.Zstd && len(a.body) == 4:
		return "a part of a layer, without the rest", nil
	case a.status == http.StatusOK:
		return "", errNo{found: "it sends whole layers only"}
	}
	return "", p.refused("it", a)
}

// referrers asks for what is attached to the image.
func (p *probe) referrers(ctx context.Context) (string, error) {
	a, err := p.send(ctx, request{scopes: p.scopes(), method: http.MethodGet, path: p.ref.Repository + "/referrers/" + p.sample.oci.desc.Digest.String()})
	if err != nil {
		return "", err
	}
	var index ocispec.Index
	if a.status == http.StatusOK && json.Unmarshal(a.body, &index) == nil && index.SchemaVersion == 2 {
		return "signatures and SBOMs are found by what they are about", nil
	}
	if a.status == http.StatusNotFound {
		return "", errNo{found: "not there: signatures and SBOMs are found by tags instead"}
	}
	return "", p.refused("it", a)
}
