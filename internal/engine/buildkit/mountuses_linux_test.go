package buildkit

import (
	"runtime"
	"strings"
	"testing"

	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/solver/pb"
	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
)

// definition is a step with two mounts, one of which starts from another step, which
// is run anew.
func definition(t *testing.T, session, made string) *pb.Definition {
	t.Helper()
	base := llb.Local("context", llb.SessionID(session)).Run(llb.Args([]string{made}), llb.IgnoreCache).Root()
	step := llb.Scratch().Run(llb.Args([]string{"/build"}),
		llb.AddMount("/plain", llb.Scratch(), llb.AsPersistentCacheDir("ns/plain", llb.CacheMountLocked)),
		llb.AddMount("/from", base, llb.SourcePath("/sub"), llb.AsPersistentCacheDir("ns/from", llb.CacheMountShared)))
	def, err := step.Marshal(t.Context(), llb.Platform(ocispecs.Platform{OS: "linux", Architecture: "arm64", Variant: "v8"}))
	if err != nil {
		t.Fatal(err)
	}
	return def.ToPB()
}

func TestMountUses(t *testing.T) {
	read := func(session, made string) (plain, from mountUse) {
		t.Helper()
		uses, err := mountUses(definition(t, session, made))
		if err != nil || len(uses) != 2 {
			t.Fatal(uses, err)
		}
		if uses[0].Base != "" {
			uses[0], uses[1] = uses[1], uses[0]
		}
		return uses[0], uses[1]
	}
	plain, from := read("a", "/make")
	if plain.ID != "ns/plain" || plain.Platform != "linux/arm64" || plain.from != nil || plain.anew || plain.mount.CacheOpt.Sharing != pb.CacheSharingOpt_LOCKED {
		t.Errorf("%+v", plain)
	}
	if from.ID != "ns/from" || from.Base == "" || from.mount.Selector != "/sub" || from.step != plain.step {
		t.Errorf("%+v", from)
	}
	if _, again := read("b", "/make"); again.Base != from.Base {
		t.Error("another session is another base")
	}
	if _, other := read("a", "/other"); other.Base == from.Base {
		t.Error("another command is the same base")
	}

	// What the mount starts from is run anew by nobody, and ends there.
	end := &pb.Op{}
	if err := end.UnmarshalVT(from.from.Def[len(from.from.Def)-1]); err != nil {
		t.Fatal(err)
	}
	last := &pb.Op{}
	for _, b := range from.from.Def {
		if digest.FromBytes(b).String() == end.Inputs[0].Digest {
			if err := last.UnmarshalVT(b); err != nil {
				t.Fatal(err)
			}
		}
	}
	if got := last.GetExec().GetMeta().GetArgs(); len(end.Inputs) != 1 || len(got) != 1 || got[0] != "/make" {
		t.Errorf("it ends in %v, %v", end.Inputs, got)
	}
	for dgst, meta := range from.from.Metadata {
		if meta.IgnoreCache {
			t.Errorf("%s runs anew", dgst)
		}
	}
}

func TestDescribedID(t *testing.T) {
	for what, want := range map[string]string{
		`cached mount /root/.cache from exec /bin/sh -c go build with id "//root/.cache"`: "//root/.cache",
		`cached mount /c from exec sh -c echo with id "x" with id "ns/a \"b\""`:           `ns/a "b"`,
		`cached mount /c from exec sh -c echo with id x`:                                  "/c",
		`cached mount /own from container abc`:                                            "/own",
		`cached mount /c with id "//c"`:                                                   "//c",
	} {
		if got := describedID(what); got != want {
			t.Errorf("%s: %s, not %s", what, got, want)
		}
	}
}

func TestAgentIsOfTheEnginesPlatform(t *testing.T) {
	here := []ocispecs.Platform{{OS: "linux", Architecture: "riscv64"}, {OS: "linux", Architecture: runtime.GOARCH}}
	files, command, err := (Agent{File: "/bin/busybox", Args: []string{"cache", "agent"}}).files(here)
	if err != nil || len(files) != 1 || strings.Join(command, " ") != "/.lighter/lighter cache agent" {
		t.Errorf("a static one: %v %v %v", files, command, err)
	}
	for name, tt := range map[string]struct {
		file string
		on   []ocispecs.Platform
		want string
	}{
		"another machine": {"/bin/busybox", here[:1], "need a lighter for linux/riscv64, which /bin/busybox is not"},
		"no program":      {"mountuses.go", here, "which mountuses.go is not"},
		"no file":         {"not-there", here, "not-there: no such file"},
		"libraries":       {"/bin/sh", here, "needs libraries that are not there"},
	} {
		if _, _, err := (Agent{File: tt.file}).files(tt.on); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// The running program may need its libraries, and brings them.
	files, command, err = Agent{}.files(here)
	if err != nil {
		t.Fatal(err)
	}
	if _, loaded := files["loader"]; loaded != (len(command) == 4) || loaded != (len(files) > 2) {
		t.Errorf("%v %v", files, command)
	}
}
