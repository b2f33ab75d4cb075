package buildkit

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/exporter/containerimage/exptypes"
	gateway "github.com/moby/buildkit/frontend/gateway/client"
	"github.com/moby/buildkit/frontend/subrequests/lint"
	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/lighter-oci/lighter/internal/engine"
	"github.com/lighter-oci/lighter/internal/image"
)

// response reads what the exporters answered to outs.
func response(attrs map[string]string, outs []engine.Output) (*engine.Response, error) {
	out := &engine.Response{
		Digest:       attrs[exptypes.ExporterImageDigestKey],
		ConfigDigest: attrs[exptypes.ExporterImageConfigDigestKey],
		Digests:      make([]string, len(outs)),
		Metadata:     map[string]any{},
	}
	last := true
	for i, o := range slices.Backward(outs) {
		out.Digests[i] = attrs[respDigest(i)]
		if out.Digests[i] == "" && last && makesImage(o.Type) {
			out.Digests[i] = out.Digest
		}
		last = last && !makesImage(o.Type)
	}
	if names := attrs[exptypes.ExporterImageNameKey]; names != "" {
		out.Names = strings.Split(names, ",")
	}
	for k, v := range attrs {
		if !strings.HasPrefix(k, respPrefix) {
			out.Metadata[k] = decoded(v)
		}
	}
	if raw := attrs[respBaseLayers]; raw != "" {
		if err := json.Unmarshal([]byte(raw), &out.BaseDiffIDs); err != nil {
			return nil, fmt.Errorf("engine response %s: %w", respBaseLayers, err)
		}
	}
	return out, nil
}

// Keys of what lighter's engine answers besides.
const (
	respPrefix     = "lighter."
	respBaseLayers = respPrefix + "base-layers" // the diffIDs of base images
)

// respDigest is where lighter's engine answers the digest of one output. The
// answers of all become one map, and of BuildKit's own keys the last one's stays.
func respDigest(output int) string { return respPrefix + "digest." + strconv.Itoa(output) }

// makesImage tells the kinds of outputs that have a digest.
func makesImage(kind string) bool {
	return kind == client.ExporterImage || kind == client.ExporterOCI || kind == client.ExporterDocker
}

// decoded opens values that are JSON behind base64, as descriptors and
// provenance are; --metadata-file shows those as objects.
func decoded(v string) any {
	raw, err := base64.StdEncoding.DecodeString(v)
	if err != nil {
		return v
	}
	var obj map[string]any
	if json.Unmarshal(raw, &obj) != nil || len(obj) == 0 {
		return v
	}
	return obj
}

// lint asks the Dockerfile frontend to check and returns its result metadata.
func (c *Client) lint(ctx context.Context, opt client.SolveOpt, statuses chan *client.SolveStatus) (map[string][]byte, error) {
	attrs := maps.Clone(opt.FrontendAttrs)
	attrs["requestid"] = "frontend.lint"
	frontend := opt.Frontend
	var meta map[string][]byte
	_, err := c.bk.Build(ctx, opt, "lighter", func(ctx context.Context, gw gateway.Client) (*gateway.Result, error) {
		res, err := gw.Solve(ctx, gateway.SolveRequest{Frontend: frontend, FrontendOpt: attrs})
		if err != nil {
			return nil, err
		}
		meta = res.Metadata
		return gateway.NewResult(), nil
	}, statuses)
	if err != nil {
		return nil, err
	}
	if meta["result.txt"] == nil {
		return nil, fmt.Errorf("the engine's Dockerfile frontend cannot check")
	}
	return meta, nil
}

// Root is the descriptor of a manifest or index in the engine's content store.
func (c *Client) Root(ctx context.Context, dgst digest.Digest) (ocispecs.Descriptor, error) {
	desc := ocispecs.Descriptor{Digest: dgst}
	raw, err := content.ReadBlob(ctx, c.Content(), desc)
	if err != nil {
		return desc, fmt.Errorf("read %s from the engine: %w", dgst, err)
	}
	desc.MediaType, desc.Size = image.ManifestType(raw), int64(len(raw))
	return desc, image.CheckContent(desc, raw)
}

// lintError is the error that ended a check, such as a Dockerfile that cannot
// be read as one; the frontend answers it beside the warnings.
func lintError(raw []byte) error {
	var results lint.LintResults
	if len(raw) == 0 {
		return nil
	}
	if err := json.Unmarshal(raw, &results); err != nil {
		return fmt.Errorf("result of the check: %w", err)
	}
	if results.Error == nil {
		return nil
	}
	out := &BuildError{What: results.Error.Message}
	loc := &results.Error.Location
	if i := int(loc.GetSourceIndex()); i >= 0 && i < len(results.Sources) && len(loc.Ranges) > 0 {
		out.Where = fmt.Sprintf("%s:%d", results.Sources[i].Filename, loc.Ranges[0].Start.Line)
	}
	out.explain()
	return out
}
