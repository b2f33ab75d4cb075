package event_test

import (
	"strings"
	"testing"
	"unicode"

	"github.com/google/go-cmp/cmp"

	"github.com/lighter-oci/lighter/internal/event"
)

// Names as BuildKit 0.33 writes them.
func TestParseStepName(t *testing.T) {
	for name, want := range map[string]event.StepName{
		"[builder 2/5] RUN make":                  {Kind: event.StepInstruction, Stage: "builder", Index: 2, Total: 5, Text: "RUN make"},
		"[linux/amd64 builder 2/5] RUN make":      {Kind: event.StepInstruction, Platform: "linux/amd64", Stage: "builder", Index: 2, Total: 5, Text: "RUN make"},
		"[linux/amd64->arm/v7 builder 2/5] RUN x": {Kind: event.StepInstruction, Platform: "linux/amd64->arm/v7", Stage: "builder", Index: 2, Total: 5, Text: "RUN x"},
		"[linux/arm64 2/5] COPY . .":              {Kind: event.StepInstruction, Platform: "linux/arm64", Index: 2, Total: 5, Text: "COPY . ."},
		"[stage-1  3/12] COPY --link a b":         {Kind: event.StepInstruction, Stage: "stage-1", Index: 3, Total: 12, Text: "COPY --link a b"},
		"[ 3/12] RUN a\nb":                        {Kind: event.StepInstruction, Index: 3, Total: 12, Text: "RUN a\nb"},
		"[internal 1/1] FROM scratch":             {Kind: event.StepSource, Stage: "internal", Index: 1, Total: 1, Text: "FROM scratch"},
		"[b 2/2] RUN echo ] [x] y":                {Kind: event.StepInstruction, Stage: "b", Index: 2, Total: 2, Text: "RUN echo ] [x] y"},

		"[internal] load build definition from Dockerfile":         {Kind: event.StepInternal, Group: "internal", Text: "load build definition from Dockerfile"},
		"[auth] library/rust:pull token for registry-1.docker.io":  {Kind: event.StepInternal, Group: "auth", Text: "library/rust:pull token for registry-1.docker.io"},
		"[context base::linux/amd64] load from client":             {Kind: event.StepSource, Group: "context base::linux/amd64", Text: "load from client"},
		"[linux/amd64] generating sbom using docker.io/x/y:stable": {Kind: event.StepInternal, Group: "linux/amd64", Text: "generating sbom using docker.io/x/y:stable"},

		"exporting to image":                       {Kind: event.StepExport, Text: "exporting to image"},
		"exporting cache to registry":              {Kind: event.StepExport, Text: "exporting cache to registry"},
		"importing cache manifest from reg/x:c":    {Kind: event.StepImport, Text: "importing cache manifest from reg/x:c"},
		"resolve image config for docker-image://": {Kind: event.StepInternal, Text: "resolve image config for docker-image://"},
		"docker-image://docker.io/docker/df:1":     {Kind: event.StepSource, Text: "docker-image://docker.io/docker/df:1"},
		"sh -c make":                               {Kind: event.StepInstruction, Text: "sh -c make"},

		"":                        {Kind: event.StepInstruction},
		"[a b 1/2] x":             {Kind: event.StepInternal, Group: "a b 1/2", Text: "x"},
		"[linux/a linux/b 1/2] x": {Kind: event.StepInternal, Group: "linux/a linux/b 1/2", Text: "x"},
		"[p/q s t 1/2] x":         {Kind: event.StepInternal, Group: "p/q s t 1/2", Text: "x"},
		"[b 3/2] x":               {Kind: event.StepInternal, Group: "b 3/2", Text: "x"},
		"[b 0/2] x":               {Kind: event.StepInternal, Group: "b 0/2", Text: "x"},
		"[] x":                    {Kind: event.StepInstruction, Text: "[] x"},
		"[[b 1/2] x":              {Kind: event.StepInstruction, Text: "[[b 1/2] x"},
		"[b 1/2]":                 {Kind: event.StepInstruction, Text: "[b 1/2]"},
	} {
		if diff := cmp.Diff(want, event.ParseStepName(name)); diff != "" {
			t.Errorf("%q (-want +got):\n%s", name, diff)
		}
	}
}

// Whatever the name: the parts come from it, a place is whole or absent, and
// the parts put together again say the same.
func FuzzParseStepName(f *testing.F) {
	for _, s := range []string{"[builder 2/5] RUN make", "[linux/amd64->arm64 b  2/15] RUN x", "[internal] load", "[ 1/2] x", "plain", "[a/b 1/2] \x00", "[1/2\u00a0] x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, name string) {
		n := event.ParseStepName(name)
		if n.Kind == "" {
			t.Errorf("%q has no kind", name)
		}
		for _, part := range []string{n.Stage, n.Platform, n.Group, n.Text} {
			if !strings.Contains(name, part) {
				t.Errorf("%q: %q is not in it", name, part)
			}
		}
		if strings.ContainsFunc(n.Stage+n.Platform, unicode.IsSpace) || strings.ContainsAny(n.Stage+n.Platform, "[]") {
			t.Errorf("%q: stage %q, platform %q", name, n.Stage, n.Platform)
		}
		if strings.Contains(n.Stage, "/") || n.Platform != "" && !strings.Contains(n.Platform, "/") {
			t.Errorf("%q: stage %q, platform %q", name, n.Stage, n.Platform)
		}
		if placed := n.Total > 0; placed != (n.Index > 0) || n.Index > n.Total || !placed && n.Stage+n.Platform != "" || placed && n.Group != "" {
			t.Errorf("%q: half a place: %+v", name, n)
		}
	})
}
