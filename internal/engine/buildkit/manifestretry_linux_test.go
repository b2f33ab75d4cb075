package buildkit

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// A manifest is sent again, whole, where the registry says that it has not a
// blob; the last refusal comes through, and others at once.
func TestManifestIsSentAgain(t *testing.T) {
	for _, tt := range []struct {
		name, path, code string
		refusals         int // before it is taken
		sent, status     int
	}{
		{"taken", "/v2/a/b/manifests/1", "", 0, 1, 201},
		{"settles", "/v2/a/b/manifests/1", "MANIFEST_BLOB_UNKNOWN", 2, 3, 201},
		{"invalid digest", "/v2/a/b/manifests/1", "DIGEST_INVALID", 2, 3, 201},
		{"never", "/v2/a/b/manifests/1", "BLOB_UNKNOWN", 9, 3, 400},
		{"other refusal", "/v2/a/b/manifests/1", "MANIFEST_INVALID", 9, 1, 400},
		{"a blob", "/v2/a/b/blobs/uploads/1", "BLOB_UNKNOWN", 9, 1, 400},
	} {
		t.Run(tt.name, func(t *testing.T) {
			sent := 0
			patient, url := patientClient(t, func(w http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				if string(body) != "manifest" || r.ContentLength != int64(len(body)) {
					t.Errorf("got %q of %d bytes", body, r.ContentLength)
				}
				if sent++; sent <= tt.refusals {
					w.WriteHeader(http.StatusBadRequest)
					fmt.Fprintf(w, `{"errors":[{"code":"%s"}]}`, tt.code)
					return
				}
				w.WriteHeader(http.StatusCreated)
			})
			client := &http.Client{Transport: &manifestTransport{next: patient.Transport, waits: []time.Duration{1, 1}}}
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, url+tt.path, strings.NewReader("manifest"))
			if err != nil {
				t.Fatal(err)
			}
			resp, err := client.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			answer, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if err != nil || sent != tt.sent || resp.StatusCode != tt.status || tt.status == 400 && !strings.Contains(string(answer), tt.code) {
				t.Errorf("sent %d times, then %d %q, %v; want %d times, then %d", sent, resp.StatusCode, answer, err, tt.sent, tt.status)
			}
		})
	}
}

// Who gives up waiting gets the refusal.
func TestManifestWaitEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	m := &manifestTransport{waits: []time.Duration{time.Hour}, next: roundTrip(func(*http.Request) (*http.Response, error) {
		cancel()
		return &http.Response{StatusCode: http.StatusNotFound, Body: io.NopCloser(strings.NewReader(`"BLOB_UNKNOWN"`))}, nil
	})}
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, "http://r/v2/a/manifests/1", strings.NewReader("manifest"))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := m.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if answer, err := io.ReadAll(resp.Body); err != nil || string(answer) != `"BLOB_UNKNOWN"` {
		t.Errorf("%q, %v", answer, err)
	}
}

type roundTrip func(*http.Request) (*http.Response, error)

func (r roundTrip) RoundTrip(req *http.Request) (*http.Response, error) { return r(req) }
