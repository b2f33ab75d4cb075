package registrytest

import (
	"bytes"
	"io"
	"net/http"
	"path/filepath"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/lighter-oci/lighter/internal/image"
	"github.com/lighter-oci/lighter/internal/image/imagetest"
)

// Push puts a fixture into a repository of an open registry without TLS, under
// the fixture's tag where it has one, and answers its reference.
func (s *Server) Push(t testing.TB, repository string, f *imagetest.Fixture) string {
	t.Helper()
	base := s.URL() + "/v2/" + repository
	for _, desc := range f.Descriptors {
		content := f.Blob(desc.Digest)
		if image.IsManifest(desc.MediaType) || image.IsIndex(desc.MediaType) {
			s.send(t, http.MethodPut, base+"/manifests/"+desc.Digest.String(), desc.MediaType, content)
			continue
		}
		location := s.send(t, http.MethodPost, base+"/blobs/uploads/", "", nil)
		s.send(t, http.MethodPut, location+"&digest="+desc.Digest.String(), "application/octet-stream", content)
	}
	if f.Tag == "" {
		return s.Ref(repository + "@" + f.Root.Digest.String())
	}
	s.send(t, http.MethodPut, base+"/manifests/"+f.Tag, f.Root.MediaType, f.Blob(f.Root.Digest))
	return s.Ref(repository + ":" + f.Tag)
}

// send fails the test where the answer is no 2xx; it answers the Location.
func (s *Server) send(t testing.TB, method, url, contentType string, body []byte) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", contentType)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode/100 != 2 {
		t.Fatalf("%s %s: %s: %s", method, url, resp.Status, answer)
	}
	return resp.Header.Get("Location")
}

// BlobFile is where the registry keeps the content of desc, to damage it.
func (s *Server) BlobFile(d digest.Digest) string {
	return filepath.Join(s.Dir, "docker/registry/v2/blobs", d.Algorithm().String(), d.Encoded()[:2], d.Encoded(), "data")
}
