package buildkit

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/fstest"

	"github.com/moby/buildkit/session/sshforward"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/lighter-oci/lighter/internal/codec"
	"github.com/lighter-oci/lighter/internal/engine"
	"github.com/lighter-oci/lighter/internal/event"
)

// tarAgent moves mounts as tars: an agent is told a mount and "fill" or "read".
type tarAgent struct{}

func withTars(*codec.Pool) engine.MountAgent { return tarAgent{} }

type tarRequest struct {
	Mount engine.CacheMount
	Fill  []byte // a tar
}

func (tarAgent) Serve(_ context.Context, dirs map[engine.CacheMount]engine.MountDir, conn io.ReadWriteCloser) error {
	for in, out := json.NewDecoder(conn), json.NewEncoder(conn); ; {
		var req tarRequest
		if err := in.Decode(&req); errors.Is(err, io.EOF) || status.Code(err) == codes.Canceled {
			return nil
		} else if err != nil {
			return err
		}
		root := dirs[req.Mount].Dir
		if req.Fill != nil {
			if err := unpack(root, req.Fill); err != nil {
				return err
			}
			if err := out.Encode("filled"); err != nil {
				return err
			}
			continue
		}
		var b bytes.Buffer
		if root == "" { // left out
			if err := out.Encode(b.Bytes()); err != nil {
				return err
			}
			continue
		}
		w := tar.NewWriter(&b)
		if err := errors.Join(w.AddFS(os.DirFS(root)), w.Close()); err != nil {
			return err
		}
		if err := out.Encode(b.Bytes()); err != nil {
			return err
		}
	}
}

func unpack(root string, b []byte) error {
	for r := tar.NewReader(bytes.NewReader(b)); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		b, err := io.ReadAll(r)
		if h.Typeflag == tar.TypeReg {
			err = errors.Join(os.WriteFile(filepath.Join(root, h.Name), b, 0o644), err)
		}
		if err != nil {
			return err
		}
	}
}

// shelf keeps mounts in memory.
type shelf struct {
	mu    sync.Mutex
	tars  map[engine.CacheMount][]byte
	asked []engine.CacheMount
	spoil bool // what was given is wrong in the end
}

func (s *shelf) Restore(_ context.Context, m engine.CacheMount, conn io.ReadWriteCloser) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = append(s.asked, m)
	b := s.tars[m]
	if b == nil {
		return nil
	}
	if err := json.NewEncoder(conn).Encode(tarRequest{m, b}); err != nil {
		return err
	}
	var done string
	if err := json.NewDecoder(conn).Decode(&done); err != nil || !s.spoil {
		return err
	}
	return errors.New("spoilt")
}

func (s *shelf) Save(_ context.Context, mounts []engine.CacheMount, conn io.ReadWriteCloser) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for in, out := json.NewDecoder(conn), json.NewEncoder(conn); len(mounts) > 0; mounts = mounts[1:] {
		var b []byte
		if err := errors.Join(out.Encode(tarRequest{Mount: mounts[0]}), in.Decode(&b)); err != nil {
			return err
		}
		if len(b) > 0 {
			s.tars[mounts[0]] = b
		}
	}
	return conn.Close()
}

// ran are the steps of a build that were not cached.
func ran(events []event.Event) Ran {
	steps := Ran{}
	for _, e := range events {
		if e.Step != nil && e.Step.Completed != nil && !e.Step.Cached {
			steps[e.Step.ID] = *e.Step.Started
		}
	}
	return steps
}

// The mounts of each kind go from one engine to another that is empty.
func TestMountsTravel(t *testing.T) {
	kinds := map[string]string{
		"plain":   "type=cache,target=/c",
		"locked":  "type=cache,target=/c,id=own,sharing=locked",
		"private": "type=cache,target=/c,id=private,sharing=private",
		"owned":   "type=cache,target=/c,id=owned,uid=7,gid=8,mode=0750",
		"from":    "type=cache,target=/c,id=from,from=shell,source=/bin",
	}
	var dockerfile strings.Builder
	dockerfile.WriteString(shell)
	for name, mount := range kinds {
		dockerfile.WriteString("FROM shell AS " + name + "\nARG ROUND\n" +
			"RUN --mount=" + mount + " echo " + name + "$ROUND >> /c/" + name + " && cat /c/" + name + " > /out && stat -c %u:%g:%a /c >> /out\n")
	}
	dockerfile.WriteString("FROM scratch\n")
	for name := range kinds {
		dockerfile.WriteString("COPY --from=" + name + " /out /" + name + "\n")
	}
	build := func(e *testEngine, mounts *shelf, round string) (map[string]string, []event.Event) {
		t.Helper()
		out := t.TempDir()
		req := engine.Request{
			Context: project(t, map[string]string{"Dockerfile": dockerfile.String(), "busybox": ""}), Mounts: mounts,
			BuildArgs: map[string]string{"ROUND": round},
			Outputs:   []engine.Output{{Entry: engine.Entry{Type: "local"}, Dest: out}},
		}
		_, events := e.mustBuild(req)
		got := map[string]string{}
		for name := range kinds {
			b, err := os.ReadFile(filepath.Join(out, name))
			if err != nil {
				t.Fatal(err)
			}
			got[name] = string(b)
		}
		return got, events
	}
	owner := func(name string) string {
		if name == "owned" {
			return "7:8:750\n"
		}
		return "0:0:755\n"
	}
	mounts := &shelf{tars: map[engine.CacheMount][]byte{}}
	first := startEngineWith(t, Config{Mounts: withTars}, Options{Embedded: true})
	got, events := build(first, mounts, "1")
	for name := range kinds {
		if want := name + "1\n" + owner(name); got[name] != want {
			t.Errorf("%s: %q, not %q", name, got[name], want)
		}
	}
	if err := first.SaveMounts(t.Context(), ran(events), mounts); err != nil {
		t.Fatal(err)
	}
	if len(mounts.tars) != len(kinds) || len(mounts.asked) != len(kinds) {
		t.Errorf("%d mounts of %d were saved, %d asked for", len(mounts.tars), len(kinds), len(mounts.asked))
	}

	// What is there is not asked for again, what is cached not even used.
	got, _ = build(first, mounts, "2")
	if len(mounts.asked) != len(kinds) || got["plain"] != "plain1\nplain2\n0:0:755\n" {
		t.Errorf("a second build: %d were asked for, %q", len(mounts.asked), got["plain"])
	}
	_, events = build(first, mounts, "2")
	before := len(mounts.tars)
	mounts.tars = map[engine.CacheMount][]byte{}
	if err := first.SaveMounts(t.Context(), ran(events), mounts); err != nil || len(mounts.tars) != 0 {
		t.Errorf("of a cached build %d of %d mounts were saved: %v", len(mounts.tars), before, err)
	}
	_, events = build(first, mounts, "3")
	if err := first.SaveMounts(t.Context(), ran(events), mounts); err != nil {
		t.Fatal(err)
	}

	second := startEngineWith(t, Config{Mounts: withTars}, Options{Embedded: true})
	got, _ = build(second, mounts, "4")
	for name := range kinds {
		if want := name + "1\n" + name + "2\n" + name + "3\n" + name + "4\n" + owner(name); got[name] != want {
			t.Errorf("%s on another machine: %q, not %q", name, got[name], want)
		}
	}

	// A mount that cannot be restored is empty, and nothing else is wrong.
	mounts.spoil = true
	third := startEngineWith(t, Config{Mounts: withTars}, Options{Embedded: true})
	got, _ = build(third, mounts, "5")
	for name := range kinds {
		if want := name + "5\n" + owner(name); got[name] != want {
			t.Errorf("%s, spoilt: %q, not %q", name, got[name], want)
		}
	}
}

// Mounts are listed, saved and filled without a build, and a build uses what was
// filled; what is filled again gets the new contents.
func TestMountsOutsideBuilds(t *testing.T) {
	e := startEngineWith(t, Config{Mounts: withTars}, Options{Embedded: true})
	want := engine.CacheMount{ID: "//c", Platform: platformName(nil)}
	tarOf := func(content string) []byte {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		if err := errors.Join(w.AddFS(fstest.MapFS{"f": {Data: []byte(content)}}), w.Close()); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	for _, content := range []string{"one", "two"} {
		if err := e.PullMount(t.Context(), want, &shelf{tars: map[engine.CacheMount][]byte{want: tarOf(content)}}); err != nil {
			t.Fatal(err)
		}
		list, err := e.CacheMounts(t.Context())
		if err != nil || len(list) != 1 || list[0] != want {
			t.Fatalf("listed %v, %v", list, err)
		}
	}
	none := engine.CacheMount{ID: "/none", Platform: want.Platform}
	if err := e.PullMount(t.Context(), none, &shelf{spoil: true, tars: map[engine.CacheMount][]byte{none: tarOf("")}}); err == nil {
		t.Error("a mount that could not be filled")
	}
	out := t.TempDir()
	_, events := e.mustBuild(engine.Request{
		Context: project(t, map[string]string{"busybox": "", "Dockerfile": shell + "RUN --mount=type=cache,target=/c cat /c/f > /out && echo three > /c/f\nFROM scratch\nCOPY --from=0 /out /\n"}),
		Outputs: []engine.Output{{Entry: engine.Entry{Type: "local"}, Dest: out}},
	})
	if b, err := os.ReadFile(filepath.Join(out, "out")); err != nil || string(b) != "two" {
		t.Errorf("a step found %q, %v", b, err)
	}
	saved := &shelf{tars: map[engine.CacheMount][]byte{}}
	if err := e.PushMounts(t.Context(), []engine.CacheMount{want}, saved); err != nil || !bytes.Contains(saved.tars[want], []byte("three")) {
		t.Errorf("saved %d mounts: %v", len(saved.tars), err)
	}
	// A session without mounts is told of them, too.
	again := &shelf{tars: map[engine.CacheMount][]byte{}}
	if err := e.SaveMounts(t.Context(), ran(events), again); err != nil || !bytes.Equal(again.tars[want], saved.tars[want]) {
		t.Errorf("saved %d mounts of a build: %v", len(again.tars), err)
	}
}

// A mount that a step has for itself is left out of a save, not taken for empty.
func TestMountsInUse(t *testing.T) {
	e := startEngineWith(t, Config{Mounts: withTars}, Options{Embedded: true})
	request := func(round string) engine.Request {
		return engine.Request{BuildArgs: map[string]string{"ROUND": round}, Context: project(t, map[string]string{"busybox": "",
			"Dockerfile": shell + "ARG ROUND\nRUN --mount=type=cache,target=/c,sharing=locked echo $ROUND >> /c/f && sleep $ROUND\n"})}
	}
	_, events := e.mustBuild(request("0"))
	steps := ran(events)

	holds := make(chan struct{})
	var once sync.Once
	done := make(chan error, 1)
	second := request("5")
	second.Compression = codec.Compression{Codec: codec.Zstd, Level: 3}
	go func() {
		_, err := e.Build(t.Context(), second, func(ev event.Event) {
			if ev.Step != nil && ev.Step.Started != nil && strings.Contains(ev.Step.Name, "sleep") {
				once.Do(func() { close(holds) })
			}
		})
		done <- err
	}()
	<-holds
	kept := &shelf{tars: map[engine.CacheMount][]byte{}}
	for { // it gets its mounts a moment after it has started
		kept.tars = map[engine.CacheMount][]byte{}
		if err := e.SaveMounts(t.Context(), steps, kept); err != nil {
			t.Fatal(err)
		}
		if len(kept.tars) == 0 {
			break
		}
		for _, b := range kept.tars {
			if !bytes.Contains(b, []byte("0\n")) || len(done) > 0 {
				t.Fatal("what was saved while a step held the mount is not its contents")
			}
		}
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if err := e.SaveMounts(t.Context(), steps, kept); err != nil {
		t.Fatal(err)
	}
	for _, b := range kept.tars {
		if !bytes.Contains(b, []byte("0\n5\n")) {
			t.Errorf("afterwards the mount holds %q", b)
		}
	}
	if len(kept.tars) != 1 {
		t.Errorf("%d mounts were saved", len(kept.tars))
	}
}

// An engine without an agent, and a session without mounts, do as BuildKit does.
func TestMountsStay(t *testing.T) {
	for name, cfg := range map[string]Config{"no agent": {}, "no mounts": {Mounts: withTars}} {
		e := startEngineWith(t, cfg, Options{Embedded: true})
		req := engine.Request{Context: project(t, map[string]string{"busybox": "",
			"Dockerfile": shell + "RUN --mount=type=cache,target=/c test -z \"$(ls /c)\" && echo 1 > /c/f\n"})}
		if name == "no agent" {
			req.Mounts = &shelf{}
		}
		_, events := e.mustBuild(req)
		if err := e.SaveMounts(t.Context(), ran(events), &shelf{tars: map[engine.CacheMount][]byte{}}); (err != nil) != (name == "no agent") {
			t.Errorf("%s: saved: %v", name, err)
		}
	}
}

// What the mounts are told by stays together over any cut into messages.
func TestByteStream(t *testing.T) {
	big := bytes.Repeat([]byte("0123456789abcdef"), maxMessage/8)
	var q queue
	if n, err := (&byteStream{messages: &q}).Write(big); err != nil || n != len(big) {
		t.Fatal(n, err)
	}
	got, err := io.ReadAll(&byteStream{messages: &q})
	if err != nil || !bytes.Equal(got, big) || q.sent < 2 {
		t.Errorf("%d bytes of %d in %d messages, %v", len(got), len(big), q.sent, err)
	}
}

// queue is a stream that loops back.
type queue struct {
	list []string
	sent int
}

func (q *queue) SendMsg(m any) error {
	q.list = append(q.list, string(m.(*sshforward.BytesMessage).Data))
	q.sent++
	return nil
}

func (q *queue) RecvMsg(m any) error {
	if len(q.list) == 0 {
		return io.EOF
	}
	m.(*sshforward.BytesMessage).Data = []byte(q.list[0])
	q.list = q.list[1:]
	return nil
}
