package buildkit

import (
	"net"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/lighter-oci/lighter/internal/codec"
	"github.com/lighter-oci/lighter/internal/engine"
	"github.com/lighter-oci/lighter/internal/event"
	"github.com/lighter-oci/lighter/internal/registry/registrytest"
)

// TestCaches takes each backend that needs no cloud: what one engine exported,
// another one starts from. No layer is compressed twice on the way.
func TestCaches(t *testing.T) {
	reg := registrytest.Start(t, registrytest.Options{})
	dir := project(t, map[string]string{"busybox": "", "Dockerfile": shell + `
RUN echo built >/built
FROM scratch
COPY --from=shell /built /built
`})
	local := filepath.Join(t.TempDir(), "cache")
	s3 := engine.Entry{Type: "s3", Attrs: map[string]string{
		"bucket": "cache", "name": "app", "region": "eu-west-1", "mode": "max", "endpoint_url": serveS3(t, "cache"), "use_path_style": "true",
		"access_key_id": "key", "secret_access_key": "secret",
	}}
	for _, tt := range []struct {
		name     string
		to, from engine.Entry
		stages   bool // the builder stage comes from the cache too
	}{
		{"registry", engine.Entry{Type: "registry", Attrs: map[string]string{"ref": reg.Ref("cache:max"), "mode": "max"}},
			engine.Entry{Type: "registry", Attrs: map[string]string{"ref": reg.Ref("cache:max")}}, true},
		{"local", engine.Entry{Type: "local", Attrs: map[string]string{"dest": local, "mode": "max"}},
			engine.Entry{Type: "local", Attrs: map[string]string{"src": local}}, true},
		{"s3", s3, s3, true},
		{"inline", engine.Entry{Type: "inline", Attrs: map[string]string{}},
			engine.Entry{Type: "registry", Attrs: map[string]string{"ref": reg.Ref("inline:1")}}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			first := startEngine(t, Options{})
			ref := reg.Ref(tt.name + ":1")
			_, events := first.mustBuild(engine.Request{Context: dir, CacheTo: []engine.Entry{tt.to}, Outputs: pushTo(ref)})
			made := layers(events, event.LayerCompressed, event.LayerConverted)
			if len(made) != 1 {
				t.Errorf("made %d layers for an image of one", len(made))
			}
			second := startEngine(t, Options{})
			resp, events := second.mustBuild(engine.Request{Context: dir, CacheFrom: []engine.Entry{tt.from}, Outputs: pushTo(ref)})
			for name, s := range steps(events) {
				if strings.Contains(name, "RUN echo built") && tt.stages && !s.Cached {
					t.Errorf("%s was not cached", name)
				}
			}
			if tt.stages {
				if got := layers(events, event.LayerCompressed, event.LayerConverted); len(got) > 0 {
					t.Errorf("layers were made anew: %+v", got)
				}
			}
			if got := resp.Digest; got == "" {
				t.Error("no digest")
			}
		})
	}
}

// TestForceCompression covers base layers: they stay without force, and are
// converted with it, to the level that is asked for.
func TestForceCompression(t *testing.T) {
	reg := registrytest.Start(t, registrytest.Options{})
	e := startEngine(t, Options{})
	base := project(t, map[string]string{"Dockerfile": "FROM scratch\nCOPY Dockerfile /base\n"})
	e.mustBuild(engine.Request{Context: base, Outputs: pushTo(reg.Ref("base:1")), Compression: codec.Compression{Codec: codec.Gzip, Level: 6}})

	clean := startEngine(t, Options{})
	dir := project(t, map[string]string{"Dockerfile": "FROM " + reg.Ref("base:1") + "\nCOPY Dockerfile /top\n"})
	codecs := func(req engine.Request) []string {
		resp, _ := clean.mustBuild(req)
		var out []string
		for _, l := range clean.manifest(resp.Digest).Layers {
			head, err := readBlobHead(t.Context(), clean.Content(), l)
			if err != nil {
				t.Fatal(err)
			}
			s := string(head.codec)
			if head.record != nil {
				s = head.record.Compression.String()
			}
			out = append(out, s)
		}
		return out
	}
	zstd9 := codec.Compression{Codec: codec.Zstd, Level: 9}
	if got := codecs(engine.Request{Context: dir, Outputs: pushTo(reg.Ref("top:1"))}); !slices.Equal(got, []string{"gzip:6", "zstd:3"}) {
		t.Errorf("without force: %v", got)
	}
	if got := codecs(engine.Request{Context: dir, Outputs: pushTo(reg.Ref("top:2"), "force-compression=true")}); !slices.Equal(got, []string{"zstd:3", "zstd:3"}) {
		t.Errorf("with force: %v", got)
	}
	if got := codecs(engine.Request{Context: dir, Compression: zstd9, Outputs: pushTo(reg.Ref("top:3"), "force-compression=true")}); !slices.Equal(got, []string{"zstd:9", "zstd:9"}) {
		t.Errorf("with force at another level: %v", got)
	}
}

// TestEpoch: with rewrite-timestamp the same Dockerfile gives the same digest
// on another day and another engine, without compressing a layer twice; and a
// later epoch does not inherit the clamp of an earlier one.
func TestEpoch(t *testing.T) {
	df := map[string]string{"busybox": "", "Dockerfile": shell + "RUN touch -d @500 /old && touch /new\n"}
	build := func(e *testEngine, epoch string, want int) string {
		t.Helper()
		resp, events := e.mustBuild(engine.Request{
			Context: project(t, df), BuildArgs: map[string]string{"SOURCE_DATE_EPOCH": epoch},
			Outputs: toImage("rewrite-timestamp=true"),
		})
		if got := len(layers(events, event.LayerCompressed, event.LayerConverted)); got != want {
			t.Errorf("epoch %s: made %d layers, want %d", epoch, got, want)
		}
		return resp.Digest
	}
	first, second := startEngine(t, Options{}), startEngine(t, Options{})
	at400 := build(first, "400", 3)
	at1000 := build(first, "1000", 3)
	if again := build(first, "400", 0); again != at400 {
		t.Errorf("the first epoch again: %s, want %s", again, at400)
	}
	if other := build(second, "1000", 3); other != at1000 {
		t.Errorf("on a fresh engine: %s, want %s", other, at1000)
	}
	if at400 == at1000 {
		t.Error("two epochs, one digest")
	}
}

// TestEpochOfLinkedLayers: layers that are made again for another epoch or level
// hold what their own snapshot changed, wherever they stand in the image.
func TestEpochOfLinkedLayers(t *testing.T) {
	e := startEngine(t, Options{})
	dir := project(t, map[string]string{"busybox": "", "Dockerfile": shell + `
FROM scratch AS add
COPY Dockerfile /a
FROM shell
COPY --link --from=add /a /linked
RUN touch /after
`})
	for _, tt := range []struct {
		epoch string
		level int
		attrs []string
	}{
		{"400", 3, []string{"rewrite-timestamp=true"}},
		{"1000", 3, []string{"rewrite-timestamp=true"}},
		{"1000", 9, []string{"rewrite-timestamp=true"}},
		{"1000", 9, nil}, // the times as they are
	} {
		resp, _ := e.mustBuild(engine.Request{
			Context: dir, BuildArgs: map[string]string{"SOURCE_DATE_EPOCH": tt.epoch}, Outputs: toImage(tt.attrs...),
			Compression: codec.Compression{Codec: codec.Zstd, Level: tt.level},
		})
		files := e.files(resp.Digest)
		for name := range files {
			if strings.Contains(name, ".wh.") {
				t.Errorf("%+v: whiteout %s", tt, name)
			}
		}
		for _, name := range []string{"bin/busybox", "linked", "after"} {
			if _, ok := files[name]; !ok {
				t.Errorf("%+v: %s is missing", tt, name)
			}
		}
		layers := e.manifest(resp.Digest).Layers
		if top := layers[len(layers)-1]; top.Size > 2000 {
			t.Errorf("%+v: the layer of one empty file has %d bytes", tt, top.Size)
		}
		for _, l := range layers {
			head, err := readBlobHead(t.Context(), e.Content(), l)
			if err != nil {
				t.Fatal(err)
			}
			if head.record == nil || head.record.Level != tt.level || head.clamped() != (tt.attrs != nil) {
				t.Errorf("%+v: layer record %+v", tt, head.record)
			}
		}
	}
	if _, _, err := e.build(engine.Request{Context: dir, Outputs: toImage("rewrite-timestamp=true")}); err == nil || !strings.Contains(err.Error(), "SOURCE_DATE_EPOCH") {
		t.Errorf("without an epoch: %v", err)
	}
}

// TestTCP: an engine at an address of the network is the same engine.
func TestTCP(t *testing.T) {
	e := startEngine(t, Options{})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go e.server.Serve(l)
	c, err := Connect(t.Context(), "tcp://"+l.Addr().String(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	remote := &testEngine{Client: c, t: t}
	dir := project(t, map[string]string{"Dockerfile": "FROM scratch\nCOPY Dockerfile /x\n"})
	resp, _ := remote.mustBuild(engine.Request{Context: dir, Outputs: toImage()})
	if got := remote.files(resp.Digest)["x"]; got == "" {
		t.Error("no file in the image")
	}
}
