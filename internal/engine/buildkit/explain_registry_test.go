package buildkit

import (
	"strings"
	"testing"
)

// What BuildKit says of registries in trouble, and what users read.
func TestExplainRegistry(t *testing.T) {
	const upload = "https://r.example/v2/app/blobs/uploads/3a95?_state=SECRET&digest=sha256%3Af33f"
	for _, c := range []struct{ in, what, next string }{
		{"failed to push r.example/app:1: unexpected status from PUT request to " + upload + ": 503 Service Unavailable",
			"push r.example/app:1: the registry answers 503 Service Unavailable", "try again later"},
		{"failed to push r.example/app:1: unexpected status from PUT request to " + upload + ": 413 Request Entity Too Large: <html>",
			"push r.example/app:1: the registry answers 413 Request Entity Too Large: <html>", "limit"},
		{"failed to push r.example/app:1: unexpected status from PUT request to " + upload + ": 429 Too Many Requests: toomanyrequests: slow down",
			"push r.example/app:1: the registry answers 429 Too Many Requests: toomanyrequests: slow down", "docker login r.example"},
		{`failed to push r.example/app:1: failed commit on ref "layer-sha256:4de0": failed to do request: Put "` + upload + `": write tcp 1.2.3.4:5->1.2.3.4:6: write: connection reset by peer`,
			"push r.example/app:1: r.example: connection reset by peer", "try again"},
		{`failed to push r.example/app:1: failed commit on ref "layer-sha256:4de0": failed to do request: Put "` + upload + `": readfrom tcp 1.2.3.4:5->1.2.3.4:6: write tcp 1.2.3.4:5->1.2.3.4:6: use of closed network connection`,
			"push r.example/app:1: r.example: connection reset by peer", "try again"},
		{`failed to push 127.0.0.1:1/x:1: failed to do request: Head "http://127.0.0.1:1/v2/x/blobs/sha256:884a": dial tcp 127.0.0.1:1: connect: connection refused`,
			"push 127.0.0.1:1/x:1: 127.0.0.1:1: connection refused", "is the registry running"},
		{`nosuch.invalid/base:1: failed to resolve source metadata for nosuch.invalid/base:1: failed to do request: Head "https://nosuch.invalid/v2/base/manifests/1": dial tcp: lookup nosuch.invalid on 10.0.0.1:53: no such host`,
			"base image nosuch.invalid/base:1: nosuch.invalid: no such host", "DNS"},
		{`failed to push r.example/app:1: failed commit on ref "layer-sha256:4de0": failed to do request: Put "` + upload + `": r.example has not answered for 5m0s`,
			"push r.example/app:1: r.example has not answered for 5m0s", "LIGHTER_REGISTRY_TIMEOUT"},
		{`failed to push r.example/app:1: failed to do request: Head "https://r.example/v2/": tls: failed to verify certificate: x509: certificate signed by unknown authority`,
			"push r.example/app:1: r.example: tls: failed to verify certificate: x509: certificate signed by unknown authority", "authority"},
		{`failed to push r.example/app:1: failed to do request: Head "https://r.example/v2/": http: server gave HTTP response to HTTPS client`,
			"push r.example/app:1: r.example: server gave HTTP response to HTTPS client", `put http = true below [registry."HOST"]`},
		{`failed to push r.example/app:1: failed to authorize: fetch a token: Get "http://auth.example/token?scope=x": auth.example would be spoken to in plain HTTP`,
			"push r.example/app:1: auth.example would be spoken to in plain HTTP", `put http = true below [registry."HOST"]`},
		{`fetch a token: Post "https://auth.example/token": tls: failed to verify certificate: x509: certificate signed by unknown authority`,
			"log in: auth.example: tls: failed to verify certificate: x509: certificate signed by unknown authority", "authority"},
		{"failed to push me/app:1: push access denied, repository does not exist or may require authorization: server message: insufficient_scope: authorization failed",
			"push me/app:1: push access denied, repository does not exist or may require authorization: server message: insufficient_scope: authorization failed", "docker login docker.io"},
		{`failed to resolve source metadata for docker.io/docker/dockerfile:1-labs: failed to do request: Head "https://registry-1.docker.io/v2/": dial tcp: lookup registry-1.docker.io: no such host`,
			"Dockerfile frontend docker.io/docker/dockerfile:1-labs: registry-1.docker.io: no such host", "docker/dockerfile:1 is inside"},
		{`failed to resolve source metadata for docker.io/docker/buildkit-syft-scanner:stable-1: failed to do request: Head "https://registry-1.docker.io/v2/": dial tcp: lookup registry-1.docker.io: no such host`,
			"SBOM generator docker.io/docker/buildkit-syft-scanner:stable-1: registry-1.docker.io: no such host", "--sbom=generator=REF"},
		{`error writing layer blob: failed to do request: Head "http://127.0.0.1:1/v2/c/blobs/sha256:884a": dial tcp 127.0.0.1:1: connect: connection refused`,
			"write the cache: 127.0.0.1:1: connection refused", "is the registry running"},
		{`failed to push r.example/app:1: failed to do request: Put "` + upload + `": something new`,
			"push r.example/app:1: r.example: something new", "try again"},
	} {
		e := &BuildError{What: c.in}
		if !e.registry() || e.What != c.what || !strings.Contains(e.Next, c.next) {
			t.Errorf("%s\n got %q → %q\nwant %q → …%s…", c.in, e.What, e.Next, c.what, c.next)
		}
		if strings.Contains(e.What, "SECRET") {
			t.Errorf("the signature of a URL is told: %q", e.What)
		}
	}
	e := &BuildError{What: "process \"/bin/sh -c curl\" did not complete successfully: exit code: 6"}
	if e.registry() {
		t.Errorf("no registry's: %q", e.What)
	}
}
