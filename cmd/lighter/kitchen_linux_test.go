package main

import (
	"bufio"
	"encoding/json"
	"io"
	"net/http"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/lighter-oci/lighter/internal/history"
	"github.com/lighter-oci/lighter/internal/registry/registrytest"
)

// dashboard is a running `lighter kitchen`.
type dashboard struct {
	*command
	url string
}

var servingAt = regexp.MustCompile(`serving at (http://[^/]+)/`)

func (s *site) serve(args ...string) *dashboard {
	s.t.Helper()
	c := s.start(append([]string{"kitchen", "--listen", "127.0.0.1:0"}, args...)...)
	c.until(`serving at http://`)
	return &dashboard{c, servingAt.FindStringSubmatch(c.stderr.String())[1]}
}

// ask sends a request, with a JSON body where there is one.
func (d *dashboard) ask(method, path, body string, into any) int {
	d.s.t.Helper()
	req, err := http.NewRequest(method, d.url+path, strings.NewReader(body))
	if err != nil {
		d.s.t.Fatal(err)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		d.s.t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err == nil && into != nil {
		err = json.Unmarshal(data, into)
	}
	if err != nil {
		d.s.t.Fatalf("%s %s: %v: %.300s", method, path, err, data)
	}
	return resp.StatusCode
}

// begin queues builds and answers their IDs.
func (d *dashboard) begin(body string) []string {
	d.s.t.Helper()
	var began struct{ IDs []string }
	if code := d.ask("POST", "/api/v1/builds", body, &began); code != http.StatusAccepted {
		d.s.t.Fatalf("%s: %d", body, code)
	}
	return began.IDs
}

func (d *dashboard) build(id string) (b history.Build) {
	d.s.t.Helper()
	d.ask("GET", "/api/v1/builds/"+id, "", &b)
	return b
}

// live waits for a text in what the page of a build is told.
func (d *dashboard) live(id, text string) {
	d.s.t.Helper()
	resp, err := http.Get(d.url + "/events?of=" + id + ".running.0.0")
	if err != nil {
		d.s.t.Fatal(err)
	}
	defer resp.Body.Close()
	stop := time.AfterFunc(patience, func() { resp.Body.Close() })
	defer stop.Stop()
	in := bufio.NewReaderSize(resp.Body, 1<<20)
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			d.s.t.Fatalf("the stream of %s ended before it had %q: %v", history.Short(id), text, err)
		}
		if strings.Contains(line, `,"`+text) { // a line of output, not the command that prints it
			return
		}
		if strings.Contains(line, `"is":"began"`) { // it had been waiting
			d.live(id, text)
			return
		}
	}
}

func (d *dashboard) page(path string) string {
	d.s.t.Helper()
	resp, err := http.Get(d.url + path)
	if err != nil {
		d.s.t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		d.s.t.Fatal(err)
	}
	return string(data)
}

// studied has something found out, and wants a text on its page.
func (d *dashboard) studied(path, want string) {
	d.s.t.Helper()
	if code := d.ask("POST", path, "", nil); code != http.StatusOK { // of the page that it leads to
		d.s.t.Errorf("%s: %d", path, code)
	}
	eventually(d.s.t, path+" has ended", func() bool { return !strings.Contains(d.page(path), `class="state running"`) })
	if text := d.page(path); !strings.Contains(text, want) {
		d.s.t.Errorf("%s has no %q: %s", path, want, text)
	}
}

// A real project in the dashboard: a build is seen live and stopped, another goes
// through, a release is published and compared.
func TestKitchen(t *testing.T) {
	reg := registrytest.Start(t, registrytest.Options{})
	s := newSite(t)
	s.shell("app", `ARG WAIT=true`, `RUN echo it has begun; $WAIT; echo it is made > /made`)
	s.write("app/lighter.toml", `image = "`+reg.Ref("kitchen/app")+`"
tags = ["{version}"]
version = "1.2.3"
[variants.slow]
args = { WAIT = "`+s.asleep+`" }
`)
	k := s.serve("app")

	slow := k.begin(`{"project":"app","verb":"build","variants":["slow"]}`)[0]
	k.live(slow, "it has begun")
	eventually(t, "the step runs", func() bool { return len(running(s.asleep)) > 0 })
	engine := s.enginePID()
	if code := k.ask("POST", "/api/v1/builds/"+slow+"/stop", "", nil); code != http.StatusAccepted {
		t.Errorf("stop: %d", code)
	}
	if now := s.enginePID(); now != engine {
		t.Errorf("the engine that the build started was %d and is %d", engine, now)
	}
	if b := k.build(slow); b.State != history.Killed || b.How != history.HowAPI || b.Variant != "slow" {
		t.Errorf("stopped: %+v", b)
	}
	eventually(t, "no process of the step runs", func() bool { return len(running(s.asleep)) == 0 })

	first := k.begin(`{"project":"app","verb":"build","variants":[""]}`)[0]
	eventually(t, "it is made", func() bool { return k.build(first).State.Over() })
	if b := k.build(first); b.State != history.Done || b.Steps.Total == 0 {
		t.Fatalf("%+v", b)
	}
	release := k.begin(`{"project":"app","verb":"publish","variants":[""]}`)[0]
	eventually(t, "it is published", func() bool { return k.build(release).State.Over() })
	if b := k.build(release); b.State != history.Done || !tagged(t, reg, "kitchen/app:1.2.3") {
		t.Fatalf("%+v", b)
	}
	var parts struct{ Builds []history.Build }
	k.ask("GET", "/api/v1/builds?parts=1&project=app", "", &parts)
	var compared struct {
		B history.Build `json:"b"`
	}
	for _, b := range parts.Builds {
		if b.Parent == release {
			k.ask("GET", "/api/v1/compare?a="+first+"&b="+b.ID, "", &compared)
		}
	}
	if compared.B.Parent != release || compared.B.Steps.Cached == 0 {
		t.Errorf("compared with %+v of %+v", compared.B, parts.Builds)
	}

	k.studied("/p/app/probe", `push zstd</th><td><span class="state done">`)
	for _, b := range parts.Builds {
		if b.Parent == release {
			k.studied("/b/"+b.ID+"/tune", `<a href="/b/`+b.ID+`/tune.html">The report</a>`)
			if text := k.page("/b/" + b.ID + "/tune.html"); !strings.Contains(text, "<svg") || !strings.Contains(text, "zstd:3") {
				t.Errorf("the report: %.300s", text)
			}
		}
	}

	// Ctrl-C is how it ends, and no failure.
	if err := k.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if code := k.code(); code != exitDone {
		t.Errorf("exit code %d", code)
	}
	s.nothingLeft()
}

// A server that is killed takes three running builds with it. The next one shows
// them as interrupted, and everything else as it was.
func TestKitchenIsKilled(t *testing.T) {
	s := newSite(t)
	s.shell("quick", `RUN echo quick`)
	for _, name := range []string{"one", "two", "three"} {
		s.shell(name, `RUN echo begun `+name+`; `+s.asleep)
	}
	dirs := []string{"--builds", "3", "quick", "one", "two", "three"}
	k := s.serve(dirs...)
	quick := k.begin(`{"project":"quick","verb":"build"}`)[0]
	eventually(t, "the quick one is made", func() bool { return k.build(quick).State == history.Done })
	var ids []string
	for _, name := range []string{"one", "two", "three"} {
		id := k.begin(`{"project":"` + name + `","verb":"build"}`)[0]
		k.live(id, "begun "+name)
		ids = append(ids, id)
	}
	waiting := k.begin(`{"project":"quick","verb":"build"}`)[0]
	if b := k.build(waiting); b.State != history.Queued {
		t.Errorf("the fourth is %s", b.State)
	}
	if err := k.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-k.done
	eventually(t, "no process of a step runs", func() bool { return len(running(s.asleep)) == 0 })
	eventually(t, "no build runs on", func() bool { return len(running(s.exe+"\x20build")) == 0 })

	k = s.serve(dirs...)
	// What was left is taken in while the pages are served already.
	for _, id := range append(ids, waiting) {
		eventually(t, "it is interrupted", func() bool { return k.build(id).State == history.Interrupted })
	}
	for i, id := range ids {
		b := k.build(id)
		if b.Log == 0 {
			t.Errorf("build %d: %+v", i+1, b)
		}
		var rep struct{ Steps []struct{ Text string } }
		if k.ask("GET", "/api/v1/builds/"+id+"/report", "", &rep); len(rep.Steps) < 3 {
			t.Errorf("build %d has steps %v", i+1, rep.Steps)
		}
	}
	if b := k.build(quick); b.State != history.Done {
		t.Errorf("the one before is %s", b.State)
	}
	again := k.begin(`{"project":"quick","verb":"build"}`)[0]
	eventually(t, "another is made", func() bool { return k.build(again).State == history.Done })
	s.nothingLeft()
}
