package kitchen

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/lighter-oci/lighter/internal/event"
	"github.com/lighter-oci/lighter/internal/group"
	"github.com/lighter-oci/lighter/internal/history"
)

// TestMain is a lighter, too, where a server of these tests has started it: one
// that records as builds do, and does what the project's file "do" says.
func TestMain(m *testing.M) {
	group.Enter(nil)
	if count := os.Getenv(planCount); count != "" && len(os.Args) > 2 && os.Args[2] == "--dry-run" {
		f, err := os.OpenFile(count, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
		if err != nil {
			panic(err)
		}
		fmt.Fprintln(f, os.Args)
		fmt.Println(`{"version":"1.2.3"}`)
		os.Exit(0)
	}
	if os.Getenv(IDVariable) != "" {
		os.Exit(build())
	}
	goleak.VerifyTestMain(m)
}

// build is a child: it obeys the lines of the file "do" in its directory.
func build() int {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	sig := make(chan os.Signal, 1)
	signal.Notify(sig, os.Interrupt)
	alone := Tie()
	state := history.Done
	go func() {
		select {
		case <-sig:
			state = history.Killed
		case <-alone:
			state = history.Interrupted
		}
		cancel()
	}()
	data, err := os.ReadFile("do")
	if err != nil {
		fmt.Fprintln(os.Stderr, "lighter: "+err.Error())
		return 2
	}
	store, err := history.Open(history.Options{})
	if err != nil {
		panic(err)
	}
	wd, _ := os.Getwd()
	rec, err := store.Begin(history.Begun{
		ID: os.Getenv(IDVariable), Project: filepath.Base(wd), Dir: wd, Verb: os.Args[1], Who: os.Getenv(WhoVariable), How: os.Getenv(HowVariable),
		Version: strings.Join(os.Args[2:], " "), // for tests to look at
	})
	if err != nil {
		panic(err)
	}
	code, outcome := obey(ctx, rec, strings.Split(string(data), "\n"))
	if ctx.Err() != nil {
		code, outcome.State = 130, state
	}
	if err := rec.End(context.Background(), outcome); err != nil {
		panic(err)
	}
	return code
}

func obey(ctx context.Context, rec *history.Recorder, lines []string) (int, history.Outcome) {
	now := time.Now()
	rec.Add(event.Event{Step: &event.Step{ID: "sha256:1", Name: "[1/1] RUN make", Started: &now}})
	log := func(text string) {
		rec.Add(event.Event{Log: &event.Log{Step: "sha256:1", Stream: 1, Data: []byte(text)}})
	}
	o := history.Outcome{State: history.Done}
	for _, line := range lines {
		verb, rest, _ := strings.Cut(line, " ")
		n, _ := strconv.Atoi(rest)
		switch verb {
		case "log":
			log(rest + "\n")
		case "count":
			for i := range n {
				log(fmt.Sprintf("line %d %s\n", i+1, strings.Repeat("x", 60)))
			}
		case "tick": // says when it wrote each line
			for i := range n {
				log(fmt.Sprintf("tick %d %d\n", i, time.Now().UnixNano()))
				select {
				case <-time.After(50 * time.Millisecond):
				case <-ctx.Done():
				}
			}
		case "until": // a file is there
			for ctx.Err() == nil {
				if _, err := os.Stat(rest); err == nil {
					break
				}
				time.Sleep(5 * time.Millisecond)
			}
		case "stubborn":
			signal.Ignore(os.Interrupt)
			ctx = context.Background()
		case "spawn": // something that outlives parent, group and session
			_ = exec.Command("setsid", "sh", "-c", "trap '' INT TERM HUP; sleep "+rest+" & sleep "+rest).Start()
			_ = exec.Command("sh", "-c", "trap '' INT TERM HUP; sleep "+rest).Start()
		case "escape": // something that has nothing of ours but who started it, with its number in a file
			_ = exec.Command("sh", "-c", `env -i "$(command -v setsid)" -f sh -c 'trap "" INT TERM HUP; echo $$ >"$0.new"; mv "$0.new" "$0"; sleep 98763' "$0"`, rest).Run()
		case "sleep":
			select {
			case <-time.After(time.Duration(n) * time.Second):
			case <-ctx.Done():
			}
		case "fail":
			fmt.Fprintln(os.Stderr, "lighter: "+rest)
			o.State, o.Error = history.Failed, rest
			end := time.Now()
			rec.Add(event.Event{Step: &event.Step{ID: "sha256:1", Name: "[1/1] RUN make", Started: &now, Completed: &end, Error: rest}})
			return 1, o
		}
	}
	end := time.Now()
	rec.Add(event.Event{Step: &event.Step{ID: "sha256:1", Name: "[1/1] RUN make", Started: &now, Completed: &end}})
	return 0, o
}

// kitchenFor serves projects that do what the map says, by name.
func kitchenFor(t *testing.T, projects map[string]string, change func(*Options)) *Server {
	t.Helper()
	top := t.TempDir()
	state := filepath.Join(top, "history")
	t.Setenv(history.Variable, state)
	o := Options{Listen: "127.0.0.1:0", State: state, Program: os.Args[0], Warn: func(w string) { t.Log("warning: " + w) }}
	for name, do := range projects {
		dir := filepath.Join(top, name)
		write(t, filepath.Join(dir, "Dockerfile"), "FROM scratch\n")
		write(t, filepath.Join(dir, "do"), do)
		o.Dirs = append(o.Dirs, dir)
	}
	var err error
	if o.History, err = history.Open(history.Options{Dir: state, Warn: func(err error) { t.Log(err) }}); err != nil {
		t.Fatal(err)
	}
	o.Env = os.Environ()
	if change != nil {
		change(&o)
	}
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		http.DefaultClient.CloseIdleConnections()
		if err := o.History.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// request is one to the server; header has pairs.
func request(t *testing.T, s *Server, method, path, body string, header ...string) (int, string) {
	t.Helper()
	resp := answer(t, s, method, path, body, header...)
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(data)
}

var plain = &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}

func answer(t *testing.T, s *Server, method, path, body string, header ...string) *http.Response {
	t.Helper()
	req, err := http.NewRequest(method, strings.TrimSuffix(s.URL(), "/")+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		if header[i] == "Host" {
			req.Host = header[i+1]
		} else {
			req.Header.Set(header[i], header[i+1])
		}
	}
	resp, err := plain.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	return resp
}

// begin starts a build by the API.
func begin(t *testing.T, s *Server, body string) []string {
	t.Helper()
	code, text := request(t, s, "POST", "/api/v1/builds", body, "Content-Type", "application/json")
	if code != http.StatusAccepted {
		t.Fatalf("POST %s: %d %s", body, code, text)
	}
	var ids []string
	for _, part := range strings.Split(text, `"`) {
		if history.ValidID(part) {
			ids = append(ids, part)
		}
	}
	return ids
}

// await waits for a build's state.
func await(t *testing.T, s *Server, id string, want ...history.State) history.Build {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		b, err := s.store.Build(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		for _, state := range want {
			if b.State == state {
				return b
			}
		}
		if time.Now().After(deadline) {
			t.Fatalf("build is %s (%s), want %v", b.State, b.Error, want)
		}
	}
}

// message is one of an event stream.
type message struct{ event, id, data string }

// messages reads a stream until ctx ends or it does.
func messages(resp *http.Response, give func(message) bool) {
	defer resp.Body.Close()
	in := bufio.NewReaderSize(resp.Body, 1<<20)
	var m message
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return
		}
		line = strings.TrimSuffix(line, "\n")
		key, value, _ := strings.Cut(line, ": ")
		switch {
		case line == "":
			if m.data != "" && !give(m) {
				return
			}
			m = message{}
		case key == "event":
			m.event = value
		case key == "id":
			m.id = value
		case key == "data":
			m.data = value
		}
	}
}
