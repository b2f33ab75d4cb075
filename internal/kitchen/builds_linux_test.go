package kitchen

import (
	"database/sql"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/lighter-oci/lighter/internal/history"
)

func TestFormBuilds(t *testing.T) {
	s := kitchenFor(t, map[string]string{"web": "log hello\nlog <b>bold</b> \x1b[31mred\x1b[0m"}, nil)
	resp := answer(t, s, "POST", "/p/web/builds", url.Values{"verb": {"build"}}.Encode(), "Content-Type", "application/x-www-form-urlencoded")
	resp.Body.Close()
	to := resp.Header.Get("Location")
	if resp.StatusCode != http.StatusSeeOther || !strings.HasPrefix(to, "/b/") {
		t.Fatalf("%d to %q", resp.StatusCode, to)
	}
	b := await(t, s, strings.TrimPrefix(to, "/b/"), history.Done)
	if b.How != history.HowKitchen || b.Project != "web" || !strings.Contains(b.Who, "@") {
		t.Errorf("recorded as %+v", b.Begun)
	}
	_, text := request(t, s, "GET", to+"/log/"+stepKey("sha256:1"), "")
	if !strings.Contains(text, "hello") || !strings.Contains(text, "&lt;b&gt;bold") || strings.Contains(text, "\x1b") || !strings.Contains(text, "red") {
		t.Errorf("the log's page: %s", text)
	}
}

// A pack goes somewhere: where it is not pushed, to a place of the server, which
// keeps nothing there.
func TestPackWithoutPush(t *testing.T) {
	dir, left := filepath.Join(t.TempDir(), "app"), ""
	write(t, filepath.Join(dir, "lighter.toml"), "image = \"localhost:1/app\"\ntoolchain = \"go\"\n")
	write(t, filepath.Join(dir, "do"), "log x")
	s := kitchenFor(t, nil, func(o *Options) {
		o.Dirs = []string{dir}
		left = filepath.Join(o.State, triedDir, "of-one-that-was-killed.tar")
		write(t, left, "x")
	})
	if _, err := os.Stat(left); err == nil {
		t.Error("what a killed server has left is still there")
	}
	for body, want := range map[string]bool{`{"project":"app","verb":"pack"}`: true, `{"project":"app","verb":"pack","push":true}`: false} {
		b := await(t, s, begin(t, s, body)[0], history.Done)
		to := `--output=type=oci,"dest=` + filepath.Join(s.opt.State, triedDir, b.ID+".tar") + `"`
		if strings.HasSuffix(b.Version, to) != want {
			t.Errorf("%s ran %s", body, b.Version)
		}
	}
}

// What is chosen comes from the project's files, and nothing else reaches a
// command line.
func TestChoices(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "app")
	write(t, filepath.Join(dir, "lighter.toml"), "image = \"localhost:1/app\"\nplatforms = [\"linux/amd64\", \"linux/arm64\"]\n[variants.slim]\n[variants.fat]\n")
	write(t, filepath.Join(dir, "Dockerfile"), "FROM scratch\n")
	write(t, filepath.Join(dir, "do"), "log x")
	s := kitchenFor(t, nil, func(o *Options) { o.Dirs = []string{dir}; o.Builds = 9 })
	for _, tt := range []struct{ body, args string }{
		{`{"project":"app","verb":"build"}`, ""},
		{`{"project":"app","verb":"build","variants":["slim"],"platforms":["linux/arm64"],"push":true}`, "--variant=slim --platform=linux/arm64 --push"},
		{`{"project":"app","verb":"build","platforms":["linux/arm64","linux/amd64"]}`, ""},
		{`{"project":"app","verb":"publish"}`, ""},
		{`{"project":"app","verb":"publish","variants":["", "fat"],"bump":"minor"}`, "--variant=. --variant=fat --bump=minor"},
	} {
		want := strings.TrimSpace("--project=" + filepath.Join(dir, "lighter.toml") + " --progress=quiet " + tt.args)
		b := await(t, s, begin(t, s, tt.body)[0], history.Done)
		if b.Version != want {
			t.Errorf("%s\n ran %s\nwant %s", tt.body, b.Version, want)
		}
	}
	if ids := begin(t, s, `{"project":"app","verb":"build","variants":["","slim","fat"]}`); len(ids) != 3 {
		t.Errorf("three variants are %d builds", len(ids))
	}
	for body, want := range map[string]int{
		`{"project":"app","verb":"pack"}`:                                            422,
		`{"project":"app","verb":"--help"}`:                                          422,
		`{"project":"app","verb":"build","variants":["nope"]}`:                       422,
		`{"project":"app","verb":"build","variants":["slim","slim"]}`:                422,
		`{"project":"app","verb":"build","variants":["--push"]}`:                     422,
		`{"project":"app","verb":"build","platforms":["linux/arm64","linux/arm64"]}`: 422,
		`{"project":"app","verb":"build","platforms":["linux/s390x"]}`:               422,
		`{"project":"app","verb":"build","platforms":["linux/arm64;reboot"]}`:        422,
		`{"project":"app","verb":"build","bump":"minor"}`:                            422,
		`{"project":"app","verb":"publish","bump":"1.2.3"}`:                          422,
		`{"project":"nope","verb":"build"}`:                                          404,
		`{"project":"app","verb":"build","args":["--push"]}`:                         400,
		`{"project":"app","verb":"build"} {}`:                                        400,
		`[]`:                                                                         400,
		``:                                                                           400,
	} {
		if code, text := request(t, s, "POST", "/api/v1/builds", body, "Content-Type", "application/json"); code != want {
			t.Errorf("%s: %d, want %d: %s", body, code, want, text)
		}
	}
}

func TestBrokenProjectStandsAlone(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "broken")
	write(t, filepath.Join(dir, "lighter.toml"), "image = \"localhost:1/app\"\ntags = 3\n")
	s := kitchenFor(t, map[string]string{"web": "log x"}, func(o *Options) { o.Dirs = append(o.Dirs, dir) })
	code, text := request(t, s, "GET", "/p/broken", "")
	if code != 200 || !strings.Contains(text, "lighter.toml:2:8: tags: want an array") {
		t.Errorf("%d %s", code, text)
	}
	if code, text := request(t, s, "POST", "/api/v1/builds", `{"project":"broken","verb":"build"}`, "Content-Type", "application/json"); code != 422 || !strings.Contains(text, "2:8") {
		t.Errorf("%d %s", code, text)
	}
	await(t, s, begin(t, s, `{"project":"web","verb":"build"}`)[0], history.Done)
	// It is mended without a restart.
	write(t, filepath.Join(dir, "lighter.toml"), "image = \"localhost:1/app\"\n")
	write(t, filepath.Join(dir, "Dockerfile"), "FROM scratch\n")
	write(t, filepath.Join(dir, "do"), "log x")
	await(t, s, begin(t, s, `{"project":"broken","verb":"build"}`)[0], history.Done)
}

// A child that never got to its journal says why on its standard error.
func TestChildThatDoesNotBegin(t *testing.T) {
	s := kitchenFor(t, map[string]string{"web": ""}, nil)
	p, _ := s.project("web")
	if err := os.Remove(filepath.Join(p.Dir, "do")); err != nil {
		t.Fatal(err)
	}
	b := await(t, s, begin(t, s, `{"project":"web","verb":"build"}`)[0], history.Failed)
	if !strings.Contains(b.Error, "open do: no such file") {
		t.Errorf("error %q", b.Error)
	}
}

// A stop ends the whole tree: what left its parent, its group, its session and its
// environment, and what ignores signals. When it answers nothing of it is there, and
// the history has it.
func TestStop(t *testing.T) {
	for name, do := range map[string]string{"willing": "", "stubborn": "stubborn\n"} {
		t.Run(name, func(t *testing.T) {
			escaped := filepath.Join(t.TempDir(), "escaped")
			s := kitchenFor(t, map[string]string{"web": do + "spawn 98761\nescape " + escaped + "\nlog ready\nsleep 60"}, nil)
			id := begin(t, s, `{"project":"web","verb":"build"}`)[0]
			tree := treeOf(t, id, escaped)
			if code, text := request(t, s, "POST", "/api/v1/builds/"+id+"/stop", ""); code != 202 {
				t.Fatalf("%d %s", code, text)
			}
			gone(t, tree)
			if b, err := s.store.Build(t.Context(), id); err != nil || b.State != history.Killed {
				t.Errorf("it is %s, %v", b.State, err)
			}
			if code, _ := request(t, s, "POST", "/b/"+id+"/stop", ""); code != http.StatusSeeOther {
				t.Errorf("a second stop: %d", code)
			}
			await(t, s, begin(t, s, `{"project":"web","verb":"build"}`)[0], history.Running)
		})
	}
}

// treeOf waits for the processes of a build that spawned and escaped.
func treeOf(t *testing.T, id, escaped string) []int {
	t.Helper()
	var pids []int
	for len(pids) < 7 { // keeper and child, three shells and sleeps of each kind
		pids = marked(id)
		time.Sleep(5 * time.Millisecond)
	}
	for {
		if text, err := os.ReadFile(escaped); err == nil {
			pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
			if err != nil {
				t.Fatal(err)
			}
			if slices.Contains(pids, pid) {
				t.Error("what escaped has the build's environment")
			}
			return append(pids, pid)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// marked are the processes that have a build's ID in their environment.
func marked(id string) (pids []int) {
	all, _ := filepath.Glob("/proc/[0-9]*/environ")
	for _, path := range all {
		if environ, err := os.ReadFile(path); err == nil && slices.Contains(strings.Split(string(environ), "\x00"), IDVariable+"="+id) {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
			pids = append(pids, pid)
		}
	}
	return pids
}

// gone is so now, and not soon.
func gone(t *testing.T, pids []int) {
	t.Helper()
	for _, pid := range pids {
		if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
			line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
			t.Errorf("process %d is left: %q", pid, line)
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}
}

func TestQueueIsFair(t *testing.T) {
	gate := filepath.Join(t.TempDir(), "gate")
	do := "until " + gate
	s := kitchenFor(t, map[string]string{"a": do, "b": do, "c": do}, func(o *Options) { o.Builds = 1 })
	var order []string // as asked: a a a b c
	names := map[string]string{}
	for i, p := range []string{"a", "a", "a", "b", "c"} {
		id := begin(t, s, `{"project":"`+p+`","verb":"build"}`)[0]
		names[id] = fmt.Sprintf("%s%d", p, i)
	}
	_, waiting := s.queue.order()
	for _, j := range waiting {
		order = append(order, names[j.id])
	}
	if got := strings.Join(order, " "); got != "b3 c4 a1 a2" {
		t.Errorf("they would start as %s", got)
	}
	// One is taken out, and never runs.
	out := waiting[2].id
	if code, _ := request(t, s, "POST", "/b/"+out+"/stop", ""); code != http.StatusSeeOther {
		t.Errorf("%d", code)
	}
	if b := await(t, s, out, history.Killed); b.Steps.Total != 0 {
		t.Errorf("%+v", b)
	}
	if _, text := request(t, s, "GET", "/b/"+waiting[1].id, ""); !strings.Contains(text, "number 2 in the") {
		t.Error("the page of the second does not say so")
	}
	write(t, gate, "")
	for id := range names {
		if id != out {
			await(t, s, id, history.Done)
		}
	}
	all, err := s.store.List(t.Context(), history.Filter{Limit: -1})
	if err != nil || len(all) != 5 {
		t.Fatalf("%d builds, %v", len(all), err)
	}
}

func TestQueueIsBounded(t *testing.T) {
	gate := filepath.Join(t.TempDir(), "gate")
	s := kitchenFor(t, map[string]string{"a": "until " + gate}, func(o *Options) { o.Builds = 1 })
	s.queue.mu.Lock()
	for len(s.queue.waiting) < maxWaiting {
		s.queue.waiting = append(s.queue.waiting, &job{project: "filler"})
	}
	s.queue.mu.Unlock()
	code, text := request(t, s, "POST", "/api/v1/builds", `{"project":"a","verb":"build"}`, "Content-Type", "application/json")
	if code != 503 || !strings.Contains(text, "queue is full") {
		t.Errorf("%d %s", code, text)
	}
	s.queue.mu.Lock()
	s.queue.waiting = nil
	s.queue.mu.Unlock()
}

func TestTwoServers(t *testing.T) {
	s := kitchenFor(t, map[string]string{"web": ""}, nil)
	o := s.opt
	_, err := New(o)
	var taken *TakenError
	if !errors.As(err, &taken) || !strings.Contains(err.Error(), s.URL()) || taken.Hint() == "" {
		t.Errorf("the second: %v", err)
	}
}

// Damage that no list comes upon is found at the start: the database is set aside,
// with a message, and the server goes on with a new one.
func TestDamagedHistory(t *testing.T) {
	var warned []string
	s := kitchenFor(t, map[string]string{"web": ""}, func(o *Options) {
		rec, err := o.History.Begin(history.Begun{Project: "web", Verb: "build"})
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(rec.End(t.Context(), history.Outcome{State: history.Done}), o.History.Close()); err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(o.State, "history.db")
		damage(t, file, "words_data")
		o.History, err = history.Open(history.Options{Dir: o.State, Warn: func(err error) { warned = append(warned, err.Error()) }})
		if err != nil {
			t.Fatal(err)
		}
	})
	aside, _ := filepath.Glob(filepath.Join(s.opt.State, "history.db.corrupt-*"))
	if len(warned) != 1 || len(aside) != 1 || !strings.Contains(warned[0], aside[0]) {
		t.Errorf("warned %q, set aside %q", warned, aside)
	}
	await(t, s, begin(t, s, `{"project":"web","verb":"build"}`)[0], history.Done)
}

// damage overwrites the first page of a table.
func damage(t *testing.T, file, table string) {
	t.Helper()
	db, err := sql.Open("sqlite", file)
	if err != nil {
		t.Fatal(err)
	}
	var root int64
	err = db.QueryRow("SELECT rootpage FROM sqlite_schema WHERE name = ?", table).Scan(&root)
	if err = errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(file, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteAt([]byte(strings.Repeat("\xee", 4096)), (root-1)*4096)
	if err = errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
}

// A server that ends takes its builds with it, and says so in the history.
func TestServerEnds(t *testing.T) {
	escaped := filepath.Join(t.TempDir(), "escaped")
	s := kitchenFor(t, map[string]string{"a": "spawn 98762\nescape " + escaped + "\nsleep 60"}, func(o *Options) { o.Builds = 1 })
	running := begin(t, s, `{"project":"a","verb":"build"}`)[0]
	waiting := begin(t, s, `{"project":"a","verb":"build"}`)[0]
	tree := treeOf(t, running, escaped)
	if err := s.close(); err != nil {
		t.Error(err)
	}
	gone(t, tree)
	await(t, s, running, history.Killed)
	await(t, s, waiting, history.Killed)
}
