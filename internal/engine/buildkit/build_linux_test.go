package buildkit

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lighter-oci/lighter/internal/codec"
	"github.com/lighter-oci/lighter/internal/engine"
	"github.com/lighter-oci/lighter/internal/event"
	"github.com/lighter-oci/lighter/internal/registry/registrytest"
)

// testEngine is the embedded engine in this process, on a state of its own.
type testEngine struct {
	*Client
	t      *testing.T
	server *Server
}

func startEngine(t *testing.T, opt Options) *testEngine {
	t.Helper()
	return startEngineWith(t, Config{}, opt)
}

func startEngineWith(t *testing.T, cfg Config, opt Options) *testEngine {
	t.Helper()
	cfg.State = filepath.Join(t.TempDir(), "state")
	server, err := NewServer(cfg)
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "engine")
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", filepath.Join(dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	go server.Serve(l)
	client, err := Connect(t.Context(), "unix://"+l.Addr().String(), opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		client.Close()
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := server.Stop(ctx); err != nil {
			t.Error(err)
		}
		os.RemoveAll(dir)
	})
	return &testEngine{client, t, server}
}

// project writes files (name → content) into a new context directory. A name
// that is "busybox" becomes Debian's static busybox.
func project(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		data, mode := []byte(content), os.FileMode(0o644)
		if name == "busybox" {
			var err error
			if data, err = os.ReadFile("/bin/busybox"); err != nil {
				t.Fatalf("install busybox-static: %v", err)
			}
			mode = 0o755
		}
		if err := os.WriteFile(path, data, mode); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// shell is the head of a Dockerfile whose steps can RUN something.
const shell = `FROM scratch AS shell
COPY busybox /bin/busybox
RUN ["/bin/busybox", "--install", "-s", "/bin"]
`

// build runs a build and collects its events.
func (e *testEngine) build(req engine.Request) (*engine.Response, []event.Event, error) {
	e.t.Helper()
	if req.Compression == (codec.Compression{}) {
		req.Compression = codec.Compression{Codec: codec.Zstd, Level: 3}
	}
	var events []event.Event
	resp, err := e.Build(e.t.Context(), req, func(ev event.Event) { events = append(events, ev) })
	return resp, events, err
}

func (e *testEngine) mustBuild(req engine.Request) (*engine.Response, []event.Event) {
	e.t.Helper()
	resp, events, err := e.build(req)
	if err != nil {
		e.t.Fatalf("build: %v", err)
	}
	return resp, events
}

func pushTo(ref string, attrs ...string) []engine.Output {
	out := engine.Output{Entry: engine.Entry{Type: "image", Attrs: map[string]string{"name": ref, "push": "true"}}}
	for _, a := range attrs {
		k, v, _ := strings.Cut(a, "=")
		out.Attrs[k] = v
	}
	return []engine.Output{out}
}

func layers(events []event.Event, actions ...event.LayerAction) []event.Layer {
	var out []event.Layer
	for _, e := range events {
		for _, a := range actions {
			if e.Layer != nil && e.Layer.Action == a {
				out = append(out, *e.Layer)
			}
		}
	}
	return out
}

func TestLevelsAreDelivered(t *testing.T) {
	reg := registrytest.Start(t, registrytest.Options{})
	e := startEngine(t, Options{})
	dir := project(t, map[string]string{
		"busybox":    "",
		"Dockerfile": shell + "RUN echo hello >/hello\n",
	})
	push := func(level int) []event.Event {
		req := engine.Request{Context: dir, Outputs: pushTo(reg.Ref("levels:1")), Compression: codec.Compression{Codec: codec.Zstd, Level: level}}
		resp, events := e.mustBuild(req)
		t.Log(level, resp.Digest)
		for _, l := range layers(events, event.LayerCompressed, event.LayerConverted, event.LayerReused, event.LayerPushed, event.LayerExists, event.LayerMounted) {
			t.Logf("%+v", l)
		}
		return events
	}
	if got := len(layers(push(3), event.LayerCompressed)); got != 3 {
		t.Errorf("first build compressed %d layers, want 3", got)
	}
	if got := len(layers(push(9), event.LayerConverted, event.LayerCompressed)); got != 3 {
		t.Errorf("another level made %d layers, want 3", got)
	}
	if got := len(layers(push(3), event.LayerConverted, event.LayerCompressed)); got != 0 {
		t.Errorf("the first level again made %d layers, want none", got)
	}
}
