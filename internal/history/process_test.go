package history

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/lighter-oci/lighter/internal/event"
	"github.com/lighter-oci/lighter/internal/report"
)

// write is a process of its own that records builds, or one without an end.
func write(dir, builds string) {
	s, err := Open(Options{Dir: dir, Warn: func(err error) { fmt.Fprintln(os.Stderr, err) }})
	if err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
	n, endless := 1, builds == ""
	if !endless {
		n, _ = strconv.Atoi(builds)
	}
	for range n {
		r, err := s.Begin(Begun{Project: "p", Verb: "build", Who: "w"})
		if err != nil {
			fmt.Println("error", err)
			os.Exit(1)
		}
		fmt.Println(r.ID())
		started := time.Now()
		r.Add(event.Event{Step: &event.Step{ID: "sha256:s", Name: "[1/1] RUN sleep", Started: &started}})
		for i := 0; endless || i < 50; i++ {
			r.Add(event.Event{Log: &event.Log{Step: "sha256:s", Data: []byte(strings.Repeat(strconv.Itoa(i), 50) + "\n")}})
		}
		if err := r.End(context.Background(), Outcome{State: Done}); err != nil {
			fmt.Println("error", err)
			os.Exit(1)
		}
	}
}

// writer starts write, and answers the line that it prints first.
func writer(t *testing.T, dir, builds string) (*exec.Cmd, *bufio.Scanner) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "HISTORY_TEST_WRITER="+dir, "HISTORY_TEST_BUILDS="+builds)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	lines := bufio.NewScanner(out)
	if !lines.Scan() || !ValidID(lines.Text()) {
		t.Fatalf("the writer said %q", lines.Text())
	}
	return cmd, lines
}

// Whoever is killed at any moment leaves what it had recorded, whole, and is
// Interrupted; who was killed on purpose is Killed.
func TestKillAnywhere(t *testing.T) {
	s, said := opened(t, Options{})
	for round := range 12 {
		cmd, lines := writer(t, s.opts.Dir, "")
		id := lines.Text()
		time.Sleep(time.Duration(rand.IntN(30_000)) * time.Microsecond)
		if b, err := s.Build(t.Context(), id); err != nil || b.State != Running {
			t.Fatalf("while it runs: %+v, %v", b, err)
		}
		want := Interrupted
		if round%3 == 0 {
			want = Killed
			if err := s.Stopping(id); err != nil {
				t.Fatal(err)
			}
		}
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		b, err := s.Build(t.Context(), id)
		if err != nil || b.State != want {
			t.Fatalf("afterwards: %+v, %v", b, err)
		}
		rep, err := s.Report(t.Context(), id)
		if err != nil || len(rep.Steps) > 0 && (rep.Steps[0].State != report.Canceled || rep.Steps[0].Error != b.Error) || rep.Summary.Error == "" {
			t.Fatalf("%+v, %v", rep, err)
		}
		for i, e := range follow(t, s, id, 0) {
			if e.Seq != uint64(i)+1 {
				t.Fatalf("event %d has number %d", i, e.Seq)
			}
			if i > 0 && string(e.Log.Data) != strings.Repeat(strconv.Itoa(i-1), 50)+"\n" {
				t.Fatalf("event %d is %q", i, e.Log.Data)
			}
		}
	}
	if left, _ := os.ReadDir(s.running("")); len(left) > 0 || len(*said) > 0 {
		t.Errorf("left %v, said %v", left, *said)
	}
}

// A reader of a build whose process is killed ends, with all that was written.
func TestFollowOfWhoIsKilled(t *testing.T) {
	s, _ := opened(t, Options{})
	cmd, lines := writer(t, s.opts.Dir, "")
	live := 0
	for _, err := range s.Follow(t.Context(), lines.Text(), 0) {
		if err != nil {
			t.Fatal(err)
		}
		if live++; live == 100 {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
	}
	if later := follow(t, s, lines.Text(), 0); live < 100 || live != len(later) {
		t.Errorf("%d events live, %d later", live, len(later))
	}
}

// Processes that record at the same time do not lose each other's builds.
func TestTwoProcesses(t *testing.T) {
	s, said := opened(t, Options{})
	var outs []*bufio.Scanner
	var cmds []*exec.Cmd
	for range 3 {
		cmd, out := writer(t, s.opts.Dir, "8")
		cmds, outs = append(cmds, cmd), append(outs, out)
	}
	for i, out := range outs {
		for out.Scan() {
			if !ValidID(out.Text()) {
				t.Error(out.Text())
			}
		}
		if err := cmds[i].Wait(); err != nil {
			t.Error(err)
		}
	}
	list, err := s.List(t.Context(), Filter{})
	if err != nil || len(list) != 24 {
		t.Fatalf("%d builds, %v", len(list), err)
	}
	for _, b := range list {
		if b.State != Done {
			t.Errorf("%s is %s", b.ID, b.State)
		}
	}
	if len(*said) > 0 {
		t.Error(*said)
	}
}
