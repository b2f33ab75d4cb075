package buildkit

import (
	"archive/tar"
	"encoding/json"
	"io"
	"strings"

	"github.com/containerd/containerd/v2/core/content"
	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/lighter-oci/lighter/internal/codec"
	"github.com/lighter-oci/lighter/internal/engine"
	"github.com/lighter-oci/lighter/internal/event"
)

// manifest reads a manifest that the engine made, from its content store.
func (e *testEngine) manifest(dgst string) ocispecs.Manifest {
	e.t.Helper()
	var m ocispecs.Manifest
	e.json(dgst, &m)
	return m
}

func (e *testEngine) json(dgst string, into any) {
	e.t.Helper()
	raw, err := content.ReadBlob(e.t.Context(), e.Content(), ocispecs.Descriptor{Digest: digest.Digest(dgst)})
	if err != nil {
		e.t.Fatal(err)
	}
	if err := json.Unmarshal(raw, into); err != nil {
		e.t.Fatal(err)
	}
}

// files unpacks the layers of an image, later ones over earlier ones, without
// regard for whiteouts: name → content.
func (e *testEngine) files(dgst string) map[string]string {
	e.t.Helper()
	pool := codec.NewPool(1)
	defer pool.Close()
	out := map[string]string{}
	for _, l := range e.manifest(dgst).Layers {
		ra, err := e.Content().ReaderAt(e.t.Context(), l)
		if err != nil {
			e.t.Fatal(err)
		}
		r, err := pool.NewReader(content.NewReader(ra))
		if err != nil {
			e.t.Fatal(err)
		}
		tr := tar.NewReader(r)
		for {
			h, err := tr.Next()
			if err == io.EOF {
				break
			}
			if err != nil {
				e.t.Fatal(err)
			}
			data, err := io.ReadAll(tr)
			if err != nil {
				e.t.Fatal(err)
			}
			out[h.Name] = string(data)
		}
		r.Close()
		ra.Close()
	}
	return out
}

// toImage is an output that stays in the engine.
func toImage(attrs ...string) []engine.Output {
	out := pushTo("", attrs...)
	delete(out[0].Attrs, "name")
	delete(out[0].Attrs, "push")
	return out
}

func logs(events []event.Event) string {
	var b strings.Builder
	for _, e := range events {
		if e.Log != nil {
			b.Write(e.Log.Data)
		}
	}
	return b.String()
}

func steps(events []event.Event) map[string]event.Step {
	out := map[string]event.Step{}
	for _, e := range events {
		if e.Step != nil {
			out[e.Step.Name] = *e.Step
		}
	}
	return out
}
