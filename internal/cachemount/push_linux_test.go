package cachemount

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/lighter-oci/lighter/internal/image"
	"github.com/lighter-oci/lighter/internal/registry"
	"github.com/lighter-oci/lighter/internal/registry/registrytest"
)

// inRegistry is a place in Debian's docker-registry, distribution 2.8.
func inRegistry(t *testing.T) Place {
	t.Helper()
	reg := registrytest.Start(t, registrytest.Options{})
	ref, err := image.ParseReference(reg.Ref("app/cache:mounts"))
	must(t, err)
	client := registry.New(registry.Options{Credentials: registry.Credentials{Getenv: func(string) string { return "" }}})
	t.Cleanup(func() { client.Close() })
	repo, err := client.Repository(ref)
	must(t, err)
	return Place{Source: func() (image.Source, error) { return repo, nil }, Target: repo, Name: ref.Tag}
}

func TestRegistry(t *testing.T) {
	p := inRegistry(t)
	a, b := newMachine(t), newMachine(t)
	a.odd(t)
	a.mustPush(t, p, PushOptions{})
	b.mustPull(t, p, ImportOptions{}, Imported)
	same(t, describe(t, a.Dir), describe(t, b.Dir))
	b.write(t, "more", noise(3, 2<<20))
	b.mustPush(t, p, PushOptions{})
	a.mustPull(t, p, ImportOptions{}, Imported)
	same(t, describe(t, b.Dir), describe(t, a.Dir))
}

// pushAs pushes a machine's mount under a key.
func (m *machine) pushAs(t tb, p Place, k Key, o PushOptions) (*Pushed, error) {
	s, hangUp := m.session(t)
	defer hangUp()
	return Push(t.Context(), p, s, []PushMount{{Key: k, Root: "m"}}, o)
}

// Pushes at once lose nothing: each mount is there, and of one that several
// pushed, a whole state that one of them had.
func TestConcurrentPushes(t *testing.T) {
	places := map[string]Place{"layout": newPlace(t), "registry": inRegistry(t)}
	for name, p := range places {
		t.Run(name, func(t *testing.T) {
			const n = 6
			var all sync.WaitGroup
			states := map[string]string{}
			var machines []*machine
			for i := range n {
				m := newMachine(t)
				for k := range 20 {
					m.write(t, fmt.Sprint("f", k), fmt.Sprint("of ", i))
				}
				machines = append(machines, m)
				states[fmt.Sprint(describe(t, m.Dir))] = fmt.Sprint(i)
			}
			for i, m := range machines {
				all.Go(func() {
					for _, k := range []Key{{ID: fmt.Sprint("own", i), Platform: "linux/arm64"}, testKey} {
						if _, err := m.pushAs(t, p, k, PushOptions{Settle: 3 * time.Second}); err != nil {
							t.Errorf("push %d of %s: %v", i, k, err)
						}
					}
				})
			}
			all.Wait()
			art, err := Open(t.Context(), p)
			must(t, err)
			if len(art.Mounts) != n+1 {
				t.Errorf("%d mounts, want %d: %v", len(art.Mounts), n+1, art.Mounts)
			}
			fresh := newMachine(t)
			fresh.mustPull(t, p, ImportOptions{}, Imported)
			if states[fmt.Sprint(describe(t, fresh.Dir))] == "" {
				t.Errorf("the mount that all pushed is none of theirs")
			}
		})
	}
}

// A push that was read earlier and comes later does not undo the newer one, and
// the directory is not taken for what the artifact has.
func TestNewerStays(t *testing.T) {
	p := newPlace(t)
	early, late := newMachine(t), newMachine(t)
	early.write(t, "f", "early")
	late.write(t, "f", "late")
	slow := p
	slow.Target = &delayed{Target: p.Target, before: func() { late.mustPush(t, p, PushOptions{}) }}
	out, err := early.pushAs(t, slow, testKey, PushOptions{})
	must(t, err)
	if !out.Mounts[0].Newer || out.Merged == 0 {
		t.Errorf("the earlier push: %+v, merged %d", out.Mounts[0].Newer, out.Merged)
	}
	fresh := newMachine(t)
	fresh.mustPull(t, p, ImportOptions{}, Imported)
	same(t, describe(t, late.Dir), describe(t, fresh.Dir))
	early.mustPull(t, p, ImportOptions{}, Kept)
}

// delayed does something before the first blob is uploaded.
type delayed struct {
	image.Target
	once   sync.Once
	before func()
}

func (d *delayed) Upload(ctx context.Context) (image.Upload, error) {
	d.once.Do(d.before)
	return d.Target.Upload(ctx)
}

// One mount is fetched without the others: their blobs need not be there.
func TestOthersAreNotFetched(t *testing.T) {
	p, blobs := newLayout(t)
	amd, arm := testKey, testKey
	arm.Platform = "linux/arm64"
	for _, k := range []Key{amd, arm} {
		m := newMachine(t)
		m.write(t, "f", k.Platform)
		_, err := m.pushAs(t, p, k, PushOptions{})
		must(t, err)
	}
	art, err := Open(t.Context(), p)
	must(t, err)
	other := art.Find(arm)
	must(t, os.Remove(blobs+"/"+other.Tree.Digest.Encoded()))
	must(t, os.Remove(blobs+"/"+other.Packs[0].Digest.Encoded()))
	b := newMachine(t)
	b.mustPull(t, p, ImportOptions{}, Imported)
	if got, err := os.ReadFile(b.path("f")); err != nil || string(got) != amd.Platform {
		t.Errorf("%q, %v", got, err)
	}
}

// Steps of two platforms that name one mount share the engine's directory, and
// have a mount each in the artifact. Nothing is sent twice once it is there.
func TestOneDirectoryTwoPlatforms(t *testing.T) {
	p := newPlace(t)
	a := newMachine(t)
	a.write(t, "f", noise(1, 300<<10))
	arm := testKey
	arm.Platform = "linux/arm64"
	agent := &Agent{Roots: map[string]Root{"amd": a.Root, "arm": a.Root}, Pool: a.pool}
	push := func() *Pushed {
		t.Helper()
		here, there := net.Pipe()
		ended := make(chan error, 1)
		go func() { ended <- agent.Serve(t.Context(), there) }()
		s, err := NewSession(t.Context(), here)
		must(t, err)
		out, err := Push(t.Context(), p, s, []PushMount{{Key: testKey, Root: "amd"}, {Key: arm, Root: "arm"}}, PushOptions{})
		must(t, errors.Join(err, s.Close(), <-ended))
		return out
	}
	push()
	a.write(t, "g", noise(2, 10<<10))
	for i, m := range push().Mounts {
		if m.Err != nil || m.New != 10<<10 || m.Files != 2 {
			t.Errorf("mount %d of a second push: %+v", i, m)
		}
	}
	for _, k := range []Key{testKey, arm} {
		b := newMachine(t)
		art, err := Open(t.Context(), p)
		must(t, err)
		s, hangUp := b.session(t)
		_, err = Pull(t.Context(), p, art, k, s, "m", ImportOptions{})
		must(t, err)
		hangUp()
		same(t, describe(t, a.Dir), describe(t, b.Dir))
	}
}

// setUse makes a file one that was of use so many hours ago.
func (m *machine) setUse(t tb, name string, hours int) {
	t.Helper()
	at := time.Now().Add(-time.Duration(hours) * time.Hour)
	must(t, os.Chtimes(m.path(name), at, at))
}

func TestLimits(t *testing.T) {
	p := newPlace(t)
	a := newMachine(t)
	for i := range 10 {
		name := fmt.Sprint("f", i)
		a.write(t, name, noise(uint64(i), 100<<10))
		a.setUse(t, name, 10*(i+1))
	}
	must(t, os.Link(a.path("f9"), a.path("other name of f9")))
	got := a.mustPush(t, p, PushOptions{MaxSize: 550 << 10, Export: ExportOptions{MaxAge: 95 * time.Hour}})
	if got.Expired != 1 || got.Evicted != 4 || got.Files != 5 || got.Size != 500<<10 {
		t.Errorf("10 files of 100 kB, one too old, room for 5: %+v", got.Exported)
	}
	b := newMachine(t)
	b.mustPull(t, p, ImportOptions{}, Imported)
	entries, err := os.ReadDir(b.Dir)
	must(t, err)
	if fmt.Sprint(entries) != fmt.Sprint([]string{"- f0", "- f1", "- f2", "- f3", "- f4"}) {
		t.Errorf("left are %v", entries)
	}
	if !readsShow(t, b) {
		t.Log("no access times here: reads do not count as use")
		return
	}
	// The first read after an import is seen.
	_, err = os.ReadFile(b.path("f4"))
	must(t, err)
	b.mustPush(t, p, PushOptions{MaxSize: 250 << 10})
	c := newMachine(t)
	c.mustPull(t, p, ImportOptions{}, Imported)
	if entries, err = os.ReadDir(c.Dir); err != nil || fmt.Sprint(entries) != "[- f0 - f4]" {
		t.Errorf("f4 was read since; left are %v, %v", entries, err)
	}
}

// Mounts that a push does not send go when nobody has sent them for too long, or where
// they have no room beside those that it sends.
func TestOtherMountsGo(t *testing.T) {
	other := testKey
	other.ID = "other"
	for _, tt := range []struct {
		name string
		o    PushOptions
		goes bool
	}{
		{"young", PushOptions{MaxAge: time.Hour}, false},
		{"old", PushOptions{MaxAge: time.Nanosecond}, true},
		{"room", PushOptions{MaxSize: 500 << 10}, false},
		{"no room", PushOptions{MaxSize: 350 << 10}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, _ := newLayout(t)
			for i, k := range []Key{other, testKey} {
				m := newMachine(t)
				m.write(t, "f", noise(uint64(i), 200<<10))
				out, err := m.pushAs(t, p, k, tt.o)
				must(t, err)
				if k == testKey && slices.Contains(out.Dropped, other) != tt.goes {
					t.Errorf("dropped are %v", out.Dropped)
				}
			}
			art, err := Open(t.Context(), p)
			must(t, err)
			if (art.Find(other) == nil) != tt.goes || art.Find(testKey) == nil {
				t.Errorf("left are %v", art.Mounts)
			}
		})
	}
}

// readsShow tells whether the file system keeps access times.
func readsShow(t tb, m *machine) bool {
	m.write(t, "probe", "x")
	m.setUse(t, "probe", 1000)
	before, err := os.Stat(m.path("probe"))
	must(t, err)
	_, err = os.ReadFile(m.path("probe"))
	must(t, err)
	after, err := os.Stat(m.path("probe"))
	must(t, err)
	must(t, os.Remove(m.path("probe")))
	return fmt.Sprint(before.Sys()) != fmt.Sprint(after.Sys())
}

// Packs of which little is in use go, and so do many small ones; what is in use
// stays, without growing.
func TestRepack(t *testing.T) {
	p := newPlace(t)
	a := newMachine(t)
	a.write(t, "keep", noise(1, 300<<10))
	a.write(t, "drop", noise(2, 600<<10))
	a.mustPush(t, p, PushOptions{Settle: 1})
	must(t, os.Remove(a.path("drop")))
	if got := a.mustPush(t, p, PushOptions{Settle: 1}); got.Repacked != 1 || got.New != 300<<10 {
		t.Errorf("a third of a pack is in use: %+v", got.Exported)
	}
	sent := int64(0)
	for i := range 3 * maxPacks {
		a.write(t, fmt.Sprint("f", i), noise(uint64(10+i), 10<<10))
		sent += a.mustPush(t, p, PushOptions{Settle: 1}).New
	}
	art, err := Open(t.Context(), p)
	must(t, err)
	m := art.Find(testKey)
	if len(m.Packs) > maxPacks+1 {
		t.Errorf("%d packs", len(m.Packs))
	}
	if want := m.Size; m.Stored() > want+want/10 || sent > 3*want {
		t.Errorf("%d bytes are kept in %d; %d were sent for them", want, m.Stored(), sent)
	}
	b := newMachine(t)
	b.mustPull(t, p, ImportOptions{}, Imported)
	same(t, describe(t, a.Dir), describe(t, b.Dir))
}
