package toolchain

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/containerd/platforms"

	"github.com/lighter-oci/lighter/internal/group"
)

// Run compiles and answers what was made. What the compiler says goes to log
// while it says it. The error of a compiler that failed is a *FailedError.
func (b Build) Run(ctx context.Context, log io.Writer) ([]Binary, error) {
	if b.prep != nil {
		if err := b.prep(); err != nil {
			return nil, err
		}
	}
	started := time.Now()
	var out []byte
	for _, argv := range append(b.before, b.Argv) {
		var err error
		if out, err = b.run(ctx, argv, log); err != nil {
			return nil, err
		}
	}
	made, err := b.made(out)
	for i := range made {
		if info, err := os.Stat(made[i].Path); err == nil && info.ModTime().Before(started) {
			made[i].Kept = true
		}
	}
	return made, err
}

func (b Build) run(ctx context.Context, argv []string, log io.Writer) ([]byte, error) {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Dir = b.Dir
	cmd.Env = append(os.Environ(), b.Env...)
	var stdout, said bytes.Buffer
	cmd.Stderr = io.MultiWriter(&said, log)
	cmd.Stdout = &stdout
	if !strings.HasPrefix(b.Tool, "cargo") { // whose standard output is for programs
		cmd.Stdout = cmd.Stderr
	}
	err := group.Run(ctx, cmd)
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		return nil, &FailedError{Build: b, Argv: argv, Output: said.Bytes(), Err: err}
	case err != nil:
		return nil, fmt.Errorf("%s: %w", b.Title(), err)
	}
	return stdout.Bytes(), nil
}

// Title is the build in a few words: "go build linux/amd64".
func (b Build) Title() string { return b.Tool + " build " + platforms.Format(b.Platform) }

// FailedError is a compiler that failed.
type FailedError struct {
	Build  Build
	Argv   []string
	Output []byte // what it said, as it came
	Err    error
}

func (e *FailedError) Error() string {
	why := ""
	if e.full() {
		why = ", " + noSpace
	}
	return fmt.Sprintf("%s: %s failed: %v%s", platforms.Format(e.Build.Platform), strings.Join(e.Argv[:min(len(e.Argv), 2)], " "), e.Err, why)
}

// noSpace is what all compilers say of a full disk, in these letters or with a
// capital.
const noSpace = "no space left on device"

func (e *FailedError) full() bool {
	return bytes.Contains(bytes.ToLower(e.Output), []byte(noSpace))
}

func (e *FailedError) Unwrap() error { return e.Err }

// Hint is the next step.
func (e *FailedError) Hint() string {
	if e.full() {
		return "make room where it says so above"
	}
	return "what it says is above"
}
