package buildkit

import (
	"os"
	"testing"

	"github.com/lighter-oci/lighter/internal/engine"
)

// The words of the left column are BuildKit's, seen on full disks.
func TestFullDisk(t *testing.T) {
	req := engine.Request{Outputs: []engine.Output{{Dest: "out/x.tar"}, {Dest: "dir"}, {Dest: "-"}}}
	for what, want := range map[string]string{
		"ResourceExhausted: failed to copy to tar: rpc error: code = ResourceExhausted desc = write out/x.tar: no space left on device": "output out/x.tar: no space left on device",
		"error from receiver: write .dir.x1y2/bin/busybox: no space left on device":                                                     "output dir: no space left on device",
		"failed to copy: failed to send write: rpc error: code = Unknown desc = write dir/ingest/b6/data: disk quota exceeded":          "output dir: disk quota exceeded",
		"ResourceExhausted: rpc error: code = ResourceExhausted desc = write " + os.Stdout.Name() + ": no space left on device":         "output on standard output: no space left on device",
		"ResourceExhausted: write /var/lib/lighter/buildkit/cache.db: no space left on device":                                          "the engine's state /var/lib/lighter: no space left on device",
		"write /var/lib/buildkit/runc-native/snapshots/snapshots/3/fs/r: no space left on device":                                       "the engine's state /var/lib: no space left on device",
		"mkdir /tmp/x: no space left on device": "/tmp/x: no space left on device",
		"No space left on device":               "the engine's disk: no space left on device",
	} {
		e := &BuildError{What: what}
		if !e.full(req) || e.What != want || e.Next == "" {
			t.Errorf("%s\n got %q → %q\nwant %q", what, e.What, e.Next, want)
		}
	}
	e := &BuildError{What: "connection refused"}
	if e.full(req) {
		t.Errorf("a full disk in %q", e.What)
	}
}
