package buildkit

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/lighter-oci/lighter/internal/engine"
)

// Steps that run without cache begin with empty mounts, on an engine that has them
// and on one that could restore them; and what they leave is saved.
func TestMountsWithoutCache(t *testing.T) {
	dockerfile := shell + `FROM shell AS first
ARG ROUND
RUN --mount=type=cache,target=/shared --mount=type=cache,target=/from,from=shell,source=/bin \
    touch /shared/first.$ROUND /from/first.$ROUND && ls /shared /from > /first
FROM first AS second
ARG ROUND
RUN --mount=type=cache,target=/shared --mount=type=cache,target=/own,uid=7 \
    touch /shared/second.$ROUND /own/second.$ROUND && ls /shared /own > /second
FROM first AS third
ARG ROUND
RUN --mount=type=cache,target=/third touch /third/third.$ROUND && ls /third > /third.txt
FROM scratch
COPY --from=second /first /second /
COPY --from=third /third.txt /third
`
	mounts := &shelf{tars: map[engine.CacheMount][]byte{}}
	build := func(e *testEngine, round string, anew ...string) map[string]string {
		t.Helper()
		out := t.TempDir()
		_, events := e.mustBuild(engine.Request{
			Context: project(t, map[string]string{"Dockerfile": dockerfile, "busybox": ""}), Mounts: mounts,
			BuildArgs: map[string]string{"ROUND": round}, NoCache: len(anew) == 1 && anew[0] == "*", NoCacheFilter: anew,
			Outputs: []engine.Output{{Entry: engine.Entry{Type: "local"}, Dest: out}},
		})
		got := map[string]string{}
		for _, name := range []string{"first", "second", "third"} {
			b, err := os.ReadFile(filepath.Join(out, name))
			if err != nil {
				t.Fatal(err)
			}
			got[name] = string(b)
		}
		if err := e.SaveMounts(t.Context(), ran(events), mounts); err != nil {
			t.Fatal(err)
		}
		return got
	}
	machine := func() *testEngine { return startEngineWith(t, Config{Mounts: withTars}, Options{Embedded: true}) }
	rounds := regexp.MustCompile(`\w+\.\d`)
	check := func(what string, got map[string]string, want map[string]string) {
		t.Helper()
		for step, text := range got {
			found := rounds.FindAllString(text, -1)
			slices.Sort(found)
			if s := strings.Join(slices.Compact(found), " "); s != want[step] {
				t.Errorf("%s: %s found %s, not %s", what, step, s, want[step])
			}
		}
	}
	first := machine()
	check("the first build", build(first, "1"), map[string]string{"first": "first.1", "second": "first.1 second.1", "third": "third.1"})
	if len(mounts.tars) != 4 {
		t.Fatalf("%d mounts were saved", len(mounts.tars))
	}

	// One stage anew, on an empty machine: what it shares with another stage is empty
	// for that one, too, as with BuildKit; all else is restored.
	check("one stage anew", build(machine(), "2", "second"), map[string]string{"first": "first.1 first.2", "second": "first.2 second.2", "third": "third.1 third.2"})
	if b := mounts.tars[engine.CacheMount{ID: "//shared", Platform: platformName(nil)}]; bytes.Contains(b, []byte("first.1")) || !bytes.Contains(b, []byte("second.2")) {
		t.Error("one stage anew: something else was saved")
	}

	// All of it, where there are mounts and where there are none.
	for round, e := range map[string]*testEngine{"3": first, "4": machine()} {
		check("all anew", build(e, round, "*"), map[string]string{"first": "first." + round, "second": "first." + round + " second." + round, "third": "third." + round})
		for m, b := range mounts.tars {
			if !bytes.Contains(b, []byte("."+round)) || bytes.Contains(b, []byte("second.1")) {
				t.Errorf("all anew, round %s: of %s something else was saved", round, m.ID)
			}
		}
	}
	build(first, "5", "*")
	check("the build after it", build(machine(), "6"), map[string]string{"first": "first.5 first.6 second.5", "second": "first.5 first.6 second.5 second.6", "third": "third.5 third.6"})
}
