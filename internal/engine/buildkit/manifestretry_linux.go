package buildkit

import (
	"bytes"
	"io"
	"net/http"
	"regexp"
	"time"
)

// manifestTransport sends a manifest again that a registry refuses for want of
// a blob. distribution keeps a file for each blob of a repository, and empties
// it before it writes it anew; image and cache of one build go to one repository
// at the same time, each with the layers they share, and so the manifest of one
// meets the empty file of the other: a blob unknown, or of an invalid digest, that
// is there a moment later.
// (distribution 2.8.2 on disk, one build of about seventy on a busy machine.)
type manifestTransport struct {
	next  http.RoundTripper
	waits []time.Duration // before each further attempt
}

// manifestWaits are long against the writing of a file, and short for whoever
// waits for the refusal of a manifest that is wrong.
var manifestWaits = []time.Duration{100 * time.Millisecond, 400 * time.Millisecond, 1600 * time.Millisecond}

var (
	manifestPath = regexp.MustCompile(`^/v2/.+/manifests/[^/]+$`)
	blobUnknown  = regexp.MustCompile(`"((MANIFEST_)?BLOB_UNKNOWN|DIGEST_INVALID)"`)
)

// manifestLimit is what registries take; errors are shorter.
const manifestLimit = 4 << 20

func (m *manifestTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.Method != http.MethodPut || !manifestPath.MatchString(req.URL.Path) || req.Body == nil || req.ContentLength > manifestLimit {
		return m.next.RoundTrip(req)
	}
	// BuildKit's own body cannot be asked for twice while it is being written.
	manifest, err := io.ReadAll(req.Body)
	req.Body.Close()
	if err != nil {
		return nil, err
	}
	for i := 0; ; i++ {
		again := req.Clone(req.Context())
		again.Body = io.NopCloser(bytes.NewReader(manifest))
		resp, err := m.next.RoundTrip(again)
		if err != nil || i == len(m.waits) || resp.StatusCode/100 != 4 {
			return resp, err
		}
		answer, err := io.ReadAll(io.LimitReader(resp.Body, manifestLimit))
		resp.Body.Close()
		if err != nil {
			return nil, err
		}
		resp.Body = io.NopCloser(bytes.NewReader(answer))
		if !blobUnknown.Match(answer) {
			return resp, nil
		}
		select {
		case <-time.After(m.waits[i]):
		case <-req.Context().Done():
			return resp, nil // the refusal says more than the end
		}
	}
}
