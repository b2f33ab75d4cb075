package process

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"unicode"

	"golang.org/x/sys/unix"
)

const (
	// maxLog is the size in bytes from which on a log is put aside when the
	// next engine starts.
	maxLog = 1 << 20
	// oldSuffix names the one old log that is kept.
	oldSuffix = ".old"
	// tailLines and tailBytes bound what of a log goes into an error.
	tailLines = 3
	tailBytes = 400
)

// child is an engine that this process has started.
type child struct {
	cmd    *exec.Cmd
	log    string
	offset int64         // of the log where this engine's part begins
	done   chan struct{} // closed once it is gone
	err    error         // how it ended, after done
}

// startChild starts an engine that outlives us, with its output in the log.
// The caller holds starterByte.
func startChild(opts Options) (*child, error) {
	log, offset, err := openLog(opts.State)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	c := &child{log: log.Name(), offset: offset, done: make(chan struct{})}
	c.cmd = exec.Command(selfPath(), opts.Args...)
	c.cmd.Args[0] = os.Args[0]
	c.cmd.Dir = "/"
	c.cmd.Env = append(engineEnv(os.Environ()), opts.Env...)
	c.cmd.Stdout, c.cmd.Stderr = log, log
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if NeedsUserNamespace() {
		tie, err := startInNamespace(c.cmd, modeDetached)
		if err != nil {
			return nil, err
		}
		tie.Close()
	} else if err := c.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the engine: %w", err)
	}
	go func() {
		c.err = c.cmd.Wait() // a long-lived parent must not keep zombies
		close(c.done)
	}()
	return c, nil
}

// keptEnv is what an engine takes over of the environment of the command that
// starts it, "PREFIX_" for all that begin so. It outlives that command, and
// serves others: their secrets and tokens are not for it to keep.
var keptEnv = []string{
	"PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LC_", "TZ", "TMPDIR", "XDG_",
	"LIGHTER_", "BUILDKIT_", "DOCKER_CONFIG", "OTEL_", "GOMAXPROCS", "GOMEMLIMIT", "GOGC", "GODEBUG", "GOCOVERDIR", "GOTRACEBACK",
	"SSL_CERT_", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "no_proxy", "all_proxy",
}

func engineEnv(environ []string) []string {
	var out []string
	for _, kv := range environ {
		name, _, _ := strings.Cut(kv, "=")
		if strings.HasPrefix(name, "LIGHTER_BUILD_") {
			continue // of one build, and of what is killed with it
		}
		for _, k := range keptEnv {
			if name == k || (strings.HasSuffix(k, "_") && strings.HasPrefix(name, k)) {
				out = append(out, kv)
				break
			}
		}
	}
	return out
}

// openLog opens the engine's log for appending, and returns its size.
func openLog(state string) (*os.File, int64, error) {
	path := filepath.Join(state, logName)
	if fi, err := os.Lstat(path); err == nil && fi.Size() > maxLog {
		if err := os.Rename(path, path+oldSuffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, 0, fmt.Errorf("put the engine's log aside: %w", err)
		}
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, 0, fmt.Errorf("open the engine's log: %w", err)
	}
	fi, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, 0, fmt.Errorf("open the engine's log: %w", err)
	}
	return f, fi.Size(), nil
}

// exitCode is only for after done; 128 and more is a signal.
func (c *child) exitCode() int {
	code, _ := exitCode(c.err)
	return code
}

// failure says in one line how the child ended.
func (c *child) failure() error {
	reason := fmt.Sprintf("it ended with exit code %d", c.exitCode())
	if sig := killedBy(c.err); sig != 0 {
		reason = fmt.Sprintf("it was ended by signal %d (%s)", int(sig), sig)
	}
	if tail := c.lastLines(); tail != "" {
		reason += ": " + tail
	}
	return &StartError{Reason: reason, Log: c.log}
}

// lastLines returns the last words of this engine as one printable line.
func (c *child) lastLines() string {
	f, err := os.Open(c.log)
	if err != nil {
		return ""
	}
	defer f.Close()
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return ""
	}
	// Twice what is shown: control characters and blank lines go.
	from := max(c.offset, size-2*tailBytes)
	b, err := io.ReadAll(io.NewSectionReader(f, from, max(0, size-from)))
	if err != nil {
		return ""
	}
	// What the engine itself says of its end is all there is to say.
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	if last, ok := strings.CutPrefix(lines[len(lines)-1], "lighter: "); ok {
		return oneLine(last)
	}
	return oneLine(string(b))
}

// oneLine joins the last lines of a text that are not blank.
func oneLine(text string) string {
	var lines []string
	for line := range strings.Lines(text) {
		line = strings.Map(func(r rune) rune {
			if unicode.IsPrint(r) {
				return r
			}
			return -1
		}, line)
		if line = strings.TrimSpace(line); line != "" {
			lines = append(lines, line)
		}
	}
	s := strings.Join(lines[max(0, len(lines)-tailLines):], "; ")
	if len(s) > tailBytes {
		s = "…" + strings.ToValidUTF8(s[len(s)-tailBytes:], "")
	}
	return s
}
