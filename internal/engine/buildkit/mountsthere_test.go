package buildkit

import (
	"errors"
	"testing"
	"time"

	"github.com/moby/buildkit/solver/pb"

	"github.com/lighter-oci/lighter/internal/engine"
)

// A directory is taken for a step's only where nothing else can be.
func TestMountProof(t *testing.T) {
	const at = "/mounts/nonce/"
	step := time.Unix(100, 0)
	before, after := step.Add(-time.Minute), step.Add(time.Second)
	mount := func(record string, used time.Time, held bool) mountThere {
		return mountThere{record: record, id: "//c", what: "cached mount /c from exec make", used: used, inUse: held}
	}
	twin := mountThere{record: "twin", id: "//c", what: "cached mount /mounts/nonce/0 from container x with id \"//c\"", inUse: true}
	counted := mountThere{record: "count", id: "//c", what: "cached mount /c from exec make", inUse: true, counted: true}
	based := func(m mountThere, base string) mountThere { m.base = base; return m }
	from := &pb.Definition{}
	for name, c := range map[string]struct {
		there   mountsThere
		from    *pb.Definition
		private bool
		push    bool // no step is known
		want    error
	}{
		"the only one":                   {there: mountsThere{mount("a", after, true)}},
		"in use since before":            {there: mountsThere{mount("a", before, true)}},
		"of another ID":                  {there: mountsThere{mount("a", after, true), {record: "o", id: "//c2", what: twin.what, inUse: true}}, want: nil},
		"made for the save":              {there: mountsThere{mount("a", after, false), twin}, want: errInUse},
		"made for it while counted":      {there: mountsThere{counted, twin}, want: errInUse},
		"pruned, and made for it":        {there: mountsThere{twin}, want: errInUse},
		"made for one of another base":   {there: mountsThere{mount("a", after, true), based(twin, "b")}},
		"gone":                           {want: errInUse},
		"an old one beside it":           {there: mountsThere{mount("a", after, true), mount("b", before, false)}},
		"the old one":                    {there: mountsThere{mount("a", after, false), mount("b", before, true)}, want: errUnsure},
		"both were used":                 {there: mountsThere{mount("a", after, true), mount("b", after, false)}, want: errUnsure},
		"both were used, of their own":   {there: mountsThere{mount("a", after, true), mount("b", after, false)}, private: true},
		"both are in use":                {there: mountsThere{mount("a", after, true), mount("b", before, true)}, private: true, want: errUnsure},
		"the last one, without a step":   {there: mountsThere{mount("a", after, true), mount("b", before, false)}, push: true},
		"an older one, without a step":   {there: mountsThere{mount("a", after, false), mount("b", before, true)}, push: true, want: errUnsure},
		"that starts from something":     {from: from, there: mountsThere{based(mount("a", after, true), "x"), mount("b", after, true)}},
		"that starts from two":           {from: from, there: mountsThere{based(mount("a", after, true), "x"), based(mount("b", after, true), "y")}},
		"the old one of one of two":      {from: from, there: mountsThere{based(mount("a", after, true), "x"), based(mount("b", before, true), "y"), based(mount("c", after, false), "y")}, want: errUnsure},
		"made for it, of one of two":     {from: from, there: mountsThere{based(mount("a", after, true), "x"), based(twin, "y")}, want: errInUse},
		"counted beside an older base's": {from: from, there: mountsThere{based(mount("a", after, true), "x"), based(counted, "y")}},
	} {
		u := mountUse{CacheMount: engine.CacheMount{ID: "//c"}, from: c.from, mount: &pb.Mount{CacheOpt: &pb.CacheOpt{ID: "//c"}}, began: step}
		if c.private {
			u.mount.CacheOpt.Sharing = pb.CacheSharingOpt_PRIVATE
		}
		if c.push {
			u.began = time.Time{}
		}
		if err := c.there.proves(u, at); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, not %v", name, err, c.want)
		}
	}
}

// BuildKit's descriptions name mounts, whatever the command is that they were made for.
func TestDescribedMounts(t *testing.T) {
	for what, want := range map[string]string{
		"cached mount /root/.cache from exec /bin/sh -c make with id \"//root/.cache\"":        "//root/.cache",
		"cached mount /c from exec /bin/sh -c <<EOF\necho with id \"x\"\nEOF with id \"ns/c\"": "ns/c",
		"cached mount /c from exec make": "/c",
	} {
		if got := describedID(what); got != want {
			t.Errorf("%q is %q, not %q", what, got, want)
		}
	}
}
