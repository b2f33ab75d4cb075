package buildkit

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/exporter/containerimage/exptypes"

	"github.com/lighter-oci/lighter/internal/codec"
	"github.com/lighter-oci/lighter/internal/engine"
)

// labelVariants tells clients that a worker knows add-compression. Another
// BuildKit takes it for metadata and says nothing.
const labelVariants = "lighter.variants"

// outward is where an image goes, which is not for those to know who make its
// variants.
type outward struct {
	push, byDigest, insecure bool
	dir                      bool // an OCI layout, not a tar of one
}

// parseOutward splits the attributes into these and the others.
func parseOutward(attrs map[string]string) (outward, map[string]string, error) {
	out, rest := outward{}, maps.Clone(attrs)
	tar := true
	for key, flag := range map[string]*bool{
		string(exptypes.OptKeyPush): &out.push, string(exptypes.OptKeyPushByDigest): &out.byDigest,
		string(exptypes.OptKeyInsecure): &out.insecure, attrTar: &tar,
	} {
		if _, ok := attrs[key]; !ok {
			continue
		}
		var err error
		if *flag, err = engine.Flag(attrs, key, false); err != nil {
			return out, nil, err
		}
		delete(rest, key)
	}
	out.dir = !tar
	return out, rest, nil
}

// setVariants writes what lighter's engine reads, unless the attributes already
// say.
func setVariants(attrs map[string]string, added []codec.Compression) {
	if len(added) == 0 || attrs[engine.AttrAdd] != "" {
		return
	}
	names := make([]string, len(added))
	for i, c := range added {
		names[i] = c.String()
	}
	attrs[engine.AttrAdd] = strings.Join(names, ",")
}

// checkVariants refuses several variants where one image is taken.
func checkVariants(kind string, attrs map[string]string) error {
	switch {
	case attrs[engine.AttrAdd] == "":
	case kind != client.ExporterImage && kind != client.ExporterOCI:
		return &hintError{
			err:  fmt.Errorf("output type=%s takes one variant of an image", kind),
			hint: "drop --add-compression, or write -o type=oci,dest=FILE",
		}
	case attrs[string(exptypes.OptKeyDanglingPrefix)] != "":
		return fmt.Errorf("output type=%s: %s names one variant of an image: drop it, or %s", kind, exptypes.OptKeyDanglingPrefix, engine.AttrAdd)
	}
	return nil
}

// makesVariants refuses what this engine would not do, silently.
func (c *Client) makesVariants(ctx context.Context, opt client.SolveOpt) error {
	at := slices.IndexFunc(opt.Exports, func(e client.ExportEntry) bool { return e.Attrs[engine.AttrAdd] != "" })
	if at < 0 {
		return nil
	}
	workers, err := c.bk.ListWorkers(ctx)
	if err != nil {
		return err
	}
	if slices.ContainsFunc(workers, func(w *client.WorkerInfo) bool { return w.Labels[labelVariants] != "" }) {
		return nil
	}
	added := strings.ReplaceAll(opt.Exports[at].Attrs[engine.AttrAdd], ",", " --add-compression ")
	return &hintError{
		err:  fmt.Errorf("--add-compression: the BuildKit at %s makes one variant of an image", c.addr),
		hint: "push without it, then run `lighter convert --add-compression " + added + " NAME NAME`",
	}
}
