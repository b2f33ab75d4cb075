package main

import (
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/lighter-oci/lighter/internal/registry/registrytest"
)

// cachingSite is a site whose build fills a cache mount with as many files as
// show a torn one, all of one round.
type cachingSite struct {
	*site
}

// build answers the command line of a build of a round, with the mount of an id.
func (s *cachingSite) build(id, round string, args ...string) []string {
	context := s.shell("app-"+id, "ARG ROUND",
		"RUN --mount=type=cache,id="+id+",target=/c cat /c/* 2>/dev/null | sort | uniq -c | sed 's/^ */was: /'; for i in $(seq 300); do echo round $ROUND > /c/$i; done")
	return slices.Concat([]string{"build", "--build-arg", "ROUND=" + round}, args, []string{context})
}

// another machine has what the artifact has of a mount: one whole round, which is
// answered, or "" for none.
func (s *cachingSite) another(id, ref string) string {
	s.t.Helper()
	other := newSite(s.t)
	was := found(other.ok(slices.Concat([]string{"build", "--build-arg", "ROUND=look", "--cache-mounts-from", ref}, []string{filepath.Join(s.dir, "app-"+id)})...))
	switch len(was) {
	case 0:
		return ""
	case 1:
		if round, ok := strings.CutPrefix(was[0], "300 round "); ok {
			return round
		}
	}
	s.t.Errorf("a torn mount: %q", was)
	return ""
}

// found is what a step says that its mount held.
func found(said string) (was []string) {
	for line := range strings.Lines(said) {
		if _, what, ok := strings.Cut(strings.TrimSpace(line), "was: "); ok && !strings.Contains(line, "RUN") && !strings.Contains(line, "sed") {
			was = append(was, what)
		}
	}
	return was
}

// What is killed while it sends cache mounts, with its engine or without, leaves
// what was there, and the next build sends again.
func TestKillCaches(t *testing.T) {
	reg := registrytest.Start(t, registrytest.Options{})
	proxy := registrytest.NewFaulty(t, reg)
	s := &cachingSite{site: newSite(t)}
	const repo = "caches/mounts"
	to := proxy.Ref(repo) + ":m"
	s.ok(s.build("one", "0", "--cache-mounts-to", to)...)
	round := 0
	for _, at := range []struct{ name, method, part string }{
		{"blob", "PUT", repo + "/blobs/uploads/"},
		{"tag", "PUT", repo + "/manifests/m"},
	} {
		for _, engineToo := range []bool{false, true} {
			s.sub(fmt.Sprintf("%s, engine too: %v", at.name, engineToo), func(t *testing.T) {
				was := s.another("one", reg.Ref(repo)+":m")
				round++
				c := stall(t, proxy, at.method, at.part).wait(s.start(s.build("one", fmt.Sprint(round), "--cache-mounts-to", to)...))
				pids := []int{c.Process.Pid}
				if engineToo {
					pids = append(pids, s.enginePID())
				}
				for _, pid := range pids {
					if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
						t.Fatal(err)
					}
				}
				<-c.done
				proxy.Set(nil)
				if now := s.another("one", reg.Ref(repo)+":m"); now != was {
					t.Errorf("round %s became %s by a push that was killed", was, now)
				}
				round++
				s.ok(s.build("one", fmt.Sprint(round), "--cache-mounts-to", to)...)
				if now := s.another("one", reg.Ref(repo)+":m"); now != fmt.Sprint(round) {
					t.Errorf("the next build sent round %s, not %d", now, round)
				}
			})
		}
	}
}

// Two machines that send at the same time lose neither's mounts: both have looked
// what there is before either sets the name, and the one whose name is gone again
// sees it, and merges.
func TestCachesAtOnce(t *testing.T) {
	reg := registrytest.Start(t, registrytest.Options{})
	proxy := registrytest.NewFaulty(t, reg)
	to := proxy.Ref("caches/at-once") + ":m"
	one, other := &cachingSite{site: newSite(t)}, &cachingSite{site: newSite(t)}
	one.ok(one.build("one", "0")...)
	other.ok(other.build("other", "0")...)

	var names atomic.Int32
	first, second, set := make(chan struct{}), make(chan struct{}), make(chan struct{})
	isName := func(r *http.Request) bool {
		return r.Method == http.MethodPut && strings.HasSuffix(r.URL.Path, "/manifests/m")
	}
	proxy.Set(func(_ http.ResponseWriter, r *http.Request) bool {
		if !isName(r) {
			return false
		}
		wait := set
		switch names.Add(1) {
		case 1:
			close(first)
			wait = second
		case 2:
			close(second)
		}
		select {
		case <-wait:
		case <-r.Context().Done():
		}
		return false
	})
	once := sync.OnceFunc(func() { close(set) })
	proxy.Rewrite(func(resp *http.Response) error {
		if isName(resp.Request) {
			once()
		}
		return nil
	})
	a := one.start(one.build("one", "1", "--cache-mounts-to", to)...)
	select {
	case <-first:
	case <-a.done:
		t.Fatal("it did not send its mounts")
	}
	b := other.start(other.build("other", "2", "--cache-mounts-to", to)...)
	for _, c := range []*command{a, b} {
		if code := c.code(); code != exitDone {
			t.Errorf("exit code %d: %s", code, c.stderr.String())
		}
	}
	if got := one.another("one", to); got != "1" {
		t.Errorf("one has round %q", got)
	}
	if got := other.another("other", to); got != "2" {
		t.Errorf("the other has round %q", got)
	}
	if n := names.Load(); n != 3 {
		t.Errorf("the name was set %d times, want the two and a merge", n)
	}
}

// A cache in a registry that takes connections and never answers, or no more after
// its first answer, costs a build a quarter of a minute each for the cache and the
// mounts, and two warnings that say so.
func TestCacheSilent(t *testing.T) {
	reg := registrytest.Start(t, registrytest.Options{})
	first := &cachingSite{site: newSite(t)}
	first.ok(first.build("one", "1", "--cache", reg.Ref("silent/app")+":c", "--push", "-t", reg.Ref("silent/app")+":1")...)
	for name, from := range map[string]int32{"from the start": 0, "after the first answer": 1} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			proxy := registrytest.NewFaulty(t, reg)
			var asked atomic.Int32
			proxy.Set(func(_ http.ResponseWriter, r *http.Request) bool {
				if asked.Add(1) <= from {
					return false
				}
				<-r.Context().Done()
				return true
			})
			s := &cachingSite{site: newSite(t)}
			said := s.ok(s.build("one", "2", "--cache", proxy.Ref("silent/app")+":c")...)
			for _, line := range []string{
				"! no cache from " + proxy.Ref("silent/app") + ":c: the registry has not answered within 15s",
				"! cache mounts: " + proxy.Ref("silent/app") + ":c-mounts: the registry has not answered within 15s",
			} {
				if !strings.Contains(said, line) {
					t.Errorf("no %q in %s", line, said)
				}
			}
			if asked.Load() == 0 {
				t.Error("nobody asked")
			}
		})
	}
}

// A cache mount that another machine's disk has no room for is empty, and the
// build works.
func TestFullDiskCaches(t *testing.T) {
	reg := registrytest.Start(t, registrytest.Options{})
	to := reg.Ref("caches/big") + ":m"
	s := &cachingSite{site: newSite(t)}
	context := s.shell("big", "RUN --mount=type=cache,target=/c ls /c | sed 's/^/was: /'; test -e /c/big || head -c 200000000 /dev/urandom > /c/big || rm -f /c/big")
	s.ok("build", "--cache-mounts-to", to, context)
	small := newSite(t)
	small.state = filepath.Join(small.disk("small", 150<<20), "state")
	small.setEnv(small.dir)
	if said := small.ok("build", "--cache-mounts-from", to, context); len(found(said)) > 0 || !strings.Contains(said, "no space left") {
		t.Errorf("a mount that has no room: %s", said)
	}
}
