//go:build linux

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/lighter-oci/lighter/internal/engine/process"
)

// The tests in faults_*_test.go break builds, with real processes, signals,
// file systems and registries. Every one of them ends with a build that works:
// a fault must not outlive the command it happened to.

// patience bounds every wait for something that has to happen: it tells what
// ends from what hangs, and is no measure, on a machine however busy.
const patience = 3 * time.Minute

// site is what one user has: a state directory, build contexts, and an
// environment that nothing of the machine's owner leaks into.
type site struct {
	t     *testing.T
	dir   string // working directory; parent of everything else
	state string
	exe   string
	// asleep is the command of a step that never ends, like no other site's.
	asleep string
	env    []string
	as     *syscall.Credential // nil is the user who runs the tests
}

// sites counts them.
var sites atomic.Int32

// newSite makes a site whose engine ends with the test.
func newSite(t *testing.T) *site {
	t.Helper()
	exe, err := exec.LookPath("lighter") // put there by testscript.Main
	if err != nil {
		t.Fatal(err)
	}
	s := &site{t: t, dir: t.TempDir(), exe: exe}
	s.state = filepath.Join(s.dir, "state")
	s.asleep = fmt.Sprintf("sleep %d%04d", os.Getpid(), sites.Add(1))
	s.setEnv(s.dir)
	t.Cleanup(s.stopEngine)
	return s
}

// sub runs a test in the middle of s's life.
func (s *site) sub(name string, f func(t *testing.T)) {
	outer := s.t
	outer.Run(name, func(t *testing.T) {
		s.t = t
		defer func() { s.t = outer }()
		f(t)
	})
}

// setEnv gives the site's commands an environment of their own.
func (s *site) setEnv(home string) {
	s.env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + home, "GOCOVERDIR=" + os.Getenv("GOCOVERDIR"),
		"XDG_RUNTIME_DIR=" + filepath.Join(home, "run"), "DOCKER_CONFIG=" + filepath.Join(home, "docker"),
		"LIGHTER_STATE=" + s.state, "NO_COLOR=1", "BUILDKIT_PROGRESS=plain",
	}
	if err := os.MkdirAll(filepath.Join(home, "run"), 0o700); err != nil {
		s.t.Fatal(err)
	}
}

// stopEngine ends the engine and fails the test where it left a mount behind.
func (s *site) stopEngine() {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	_, err := process.Stop(ctx, s.state, process.StopOptions{Force: true, Timeout: 15 * time.Second})
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		s.t.Errorf("stop the engine: %v", err)
	}
	if s.t.Failed() {
		log, _ := os.ReadFile(filepath.Join(s.state, "engine.log"))
		s.t.Logf("log of the engine:\n%s", log[max(0, len(log)-8<<10):])
	}
	for _, m := range mountsUnder(s.t, s.state+"/") {
		s.t.Errorf("left mounted: %s", m)
		_ = syscall.Unmount(m, syscall.MNT_DETACH)
	}
	for _, m := range mountsUnder(s.t, s.dir+"/") { // the tests' own
		// The engine's log is open until its process is gone, a moment after
		// it has given its lock back.
		eventually(s.t, m+" can be unmounted", func() bool { return syscall.Unmount(m, 0) == nil })
	}
}

// write writes a file below the site's directory; "busybox" as content is the
// program of that name.
func (s *site) write(name, content string) string {
	s.t.Helper()
	path := filepath.Join(s.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		s.t.Fatal(err)
	}
	var err error
	if content == "busybox" {
		err = copyBusybox(path)
	} else {
		err = os.WriteFile(path, []byte(content), 0o644)
	}
	if err != nil {
		s.t.Fatal(err)
	}
	return path
}

// shell is a build context with a shell in it, whose Dockerfile goes on with
// the given lines.
func (s *site) shell(name string, lines ...string) string {
	s.t.Helper()
	s.write(name+"/busybox", "busybox")
	s.write(name+"/Dockerfile", "FROM scratch\nCOPY busybox /bin/busybox\nRUN [\"/bin/busybox\", \"--install\", \"-s\", \"/bin\"]\n"+strings.Join(lines, "\n")+"\n")
	return filepath.Join(s.dir, name)
}

// command is a running lighter.
type command struct {
	*exec.Cmd
	s      *site
	stdin  io.WriteCloser
	stdout bytes.Buffer
	stderr logged
	done   chan struct{}
}

// start runs lighter and does not wait for it.
func (s *site) start(args ...string) *command {
	s.t.Helper()
	c := &command{Cmd: exec.Command(s.exe, args...), s: s, done: make(chan struct{})}
	c.Dir, c.Env = s.dir, s.env
	// A group of its own, as a shell with job control makes one: what a test
	// sends to one command reaches no other.
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL, Credential: s.as}
	c.Stdout, c.Stderr = &c.stdout, &c.stderr
	var err error
	if c.stdin, err = c.StdinPipe(); err != nil {
		s.t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		s.t.Fatal(err)
	}
	go func() {
		_ = c.Wait()
		close(c.done)
	}()
	s.t.Cleanup(func() {
		_ = c.Process.Kill()
		<-c.done
		if s.t.Failed() {
			s.t.Logf("%s: %s\n%s", strings.Join(c.Args[1:], " "), c.ProcessState, c.stderr.String())
		}
	})
	return c
}

// feed writes to standard input and returns when all of it was taken.
func (c *command) feed(data []byte) {
	c.s.t.Helper()
	sent := make(chan error, 1)
	go func() {
		_, err := c.stdin.Write(data)
		sent <- err
	}()
	select {
	case err := <-sent:
		if err != nil {
			c.s.t.Fatalf("%v takes no input: %v", c.Args, err)
		}
	case <-time.After(patience):
		c.s.t.Fatalf("%v does not read its input", c.Args)
	}
}

// until waits for a line on standard error.
func (c *command) until(pattern string) {
	c.s.t.Helper()
	re := regexp.MustCompile(`(?m)` + pattern)
	deadline := time.After(patience)
	for {
		text, more := c.stderr.look()
		if re.MatchString(text) {
			return
		}
		select {
		case <-more:
		case <-c.done:
			if text, _ := c.stderr.look(); re.MatchString(text) {
				return
			}
			c.s.t.Fatalf("%v ended before it said %q", c.Args, pattern)
		case <-deadline:
			c.s.t.Fatalf("%v did not say %q", c.Args, pattern)
		}
	}
}

// code waits for the end and answers the exit code; -1 is a signal.
func (c *command) code() int {
	c.s.t.Helper()
	select {
	case <-c.done:
	case <-time.After(patience):
		c.s.t.Fatalf("%v does not end", c.Args)
	}
	return c.ProcessState.ExitCode()
}

// failed wants the exit code, and one line that says why and what to do next.
// It answers that line.
func (c *command) failed(code int) string {
	c.s.t.Helper()
	if got := c.code(); got != code {
		c.s.t.Fatalf("%v: exit code %d, want %d", c.Args, got, code)
	}
	var said []string
	lines := strings.Split(strings.TrimSpace(c.stderr.String()), "\n")
	for _, l := range lines {
		if strings.HasPrefix(l, "lighter: ") {
			said = append(said, l)
		}
	}
	if len(said) != 1 || said[0] != lines[len(lines)-1] {
		c.s.t.Fatalf("%v: want one line at the end, not %q", c.Args, said)
	}
	if !strings.Contains(said[0], " → ") {
		c.s.t.Errorf("%v: no next step in %q", c.Args, said[0])
	}
	return said[0]
}

// ok runs lighter and wants it to work. It answers standard error.
func (s *site) ok(args ...string) string {
	s.t.Helper()
	c := s.start(args...)
	_ = c.stdin.Close()
	if got := c.code(); got != 0 {
		s.t.Fatalf("%v: exit code %d", c.Args, got)
	}
	return c.stderr.String()
}

// fails runs lighter and wants it to fail with one line, which it answers.
func (s *site) fails(args ...string) string {
	s.t.Helper()
	c := s.start(args...)
	_ = c.stdin.Close()
	return c.failed(exitFailed)
}

// enginePID is the process that owns the state; 0 is none.
func (s *site) enginePID() int {
	s.t.Helper()
	info, err := process.Status(s.state)
	if err != nil {
		s.t.Fatal(err)
	}
	return info.PID
}

// logged is a log that can be waited on.
type logged struct {
	mu   sync.Mutex
	b    bytes.Buffer
	more chan struct{} // closed at the next write; nil where nobody waits
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.more != nil {
		close(l.more)
		l.more = nil
	}
	return l.b.Write(p)
}

// look answers what there is, and a channel that is closed when there is more.
func (l *logged) look() (string, <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.more == nil {
		l.more = make(chan struct{})
	}
	return l.b.String(), l.more
}

func (l *logged) String() string {
	s, _ := l.look()
	return s
}

// eventually waits for something that sends no word.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !holds(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("still not so: %s", what)
		}
	}
}
