package cachemount

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lighter-oci/lighter/internal/codec"
	"github.com/lighter-oci/lighter/internal/image"
)

// childEnv makes this test binary a process that pulls one mount: an OCI layout
// and a directory, with a colon between.
const childEnv = "LIGHTER_CACHEMOUNT_PULL"

// pullAndKill has a process pull the new state and kills it after a while. It
// answers how long the process lived.
func pullAndKill(t tb, layout string, m *machine, after time.Duration) time.Duration {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestKilledImport$")
	cmd.Env = append(os.Environ(), childEnv+"="+layout+":"+m.Dir)
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "pulling\n" {
		t.Fatalf("the process says %q, %v", line, err)
	}
	began := time.Now()
	kill := time.AfterFunc(after, func() { _ = cmd.Process.Kill() })
	defer kill.Stop()
	_ = cmd.Wait()
	return time.Since(began)
}

func pullAsChild(t tb, layout, dir string) {
	t.Helper()
	m := &machine{Root{Dir: dir, Record: dir + ".record"}, codec.NewPool(2)} // nothing that a kill would leave
	p := Place{Source: func() (image.Source, error) { return image.OpenLayout(layout) }, Name: "new"}
	fmt.Println("pulling")
	m.mustPull(t, p, ImportOptions{Replace: true}, Imported)
}

// An import is killed at any time. Whoever comes next, export or import, finds
// the directory as it was or as it was to become, and no trace of it.
func TestKilledImport(t *testing.T) {
	if layout, dir, ok := strings.Cut(os.Getenv(childEnv), ":"); ok {
		pullAsChild(t, layout, dir)
		return
	}
	p, blobs := newLayout(t)
	layout := filepath.Dir(filepath.Dir(blobs))
	older, newer := p, p
	older.Name, newer.Name = "old", "new"
	states := map[string][]string{}
	for _, version := range []string{"old", "new"} {
		a := newMachine(t)
		for i := range 600 { // as many renames
			a.write(t, fmt.Sprint("f", i), version)
		}
		for i := range 60 { // directories that come and go
			a.write(t, fmt.Sprint("d", i%20, version, "/", i), version)
		}
		for i := range 20 { // directories that become files
			name := fmt.Sprint("x", i)
			if version == "old" {
				name += "/inside"
			}
			a.write(t, name, version)
		}
		p.Name = version
		a.mustPush(t, p, PushOptions{Settle: time.Nanosecond})
		states[version] = describe(t, a.Dir)[1:]
	}
	b := newMachine(t)
	b.Record = b.Dir + ".record"
	b.mustPull(t, older, ImportOptions{}, Imported)
	whole := pullAndKill(t, layout, b, time.Hour)
	same(t, states["new"], describe(t, b.Dir)[1:])
	left := map[string]int{}
	p.Name = "exported"
	for i := range 16 {
		b.mustPull(t, older, ImportOptions{Replace: true}, Imported)
		pullAndKill(t, layout, b, time.Duration(rand.Int64N(int64(whole))))
		found := "nothing"
		for _, name := range []string{stageNew, stageReady, stageGone} {
			if _, err := os.Lstat(b.path(name)); err == nil {
				found = filepath.Base(name)
			}
		}
		left[found]++
		if i%2 == 0 {
			b.mustPush(t, p, PushOptions{Settle: time.Nanosecond})
			got := describe(t, b.Dir)[1:]
			if !slices.Equal(got, states["old"]) && !slices.Equal(got, states["new"]) {
				t.Fatalf("killed with %s left, an export finds neither the old nor the new state", found)
			}
		}
		if _, err := b.pull(t, newer, ImportOptions{Replace: true}); err != nil {
			t.Fatal(err)
		}
		same(t, states["new"], describe(t, b.Dir)[1:])
	}
	t.Logf("of a run of %v, killed with these left: %v", whole, left)
}
