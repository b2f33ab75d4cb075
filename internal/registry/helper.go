package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"time"

	"github.com/docker/cli/cli/config/types"
	"github.com/docker/docker-credential-helpers/client"
	"github.com/docker/docker-credential-helpers/credentials"
)

const helperPrefix = "docker-credential-"

// tokenAccount is the helpers' account of an identity token, in their protocol.
const tokenAccount = "<token>"

// helperSource is where a credential comes from that the helper of a
// configuration gives.
func helperSource(helper, config string) string {
	return fmt.Sprintf("%s%s (%s)", helperPrefix, helper, config)
}

// helperTime is how long a helper is waited for: one may ask a person to unlock
// a key ring.
const helperTime = 2 * time.Minute

// helperPatience is how long a helper that ignores being told to end is waited
// for. Some start daemons that keep its output open.
const helperPatience = time.Second

// askHelper runs docker-credential-NAME get. A helper that knows nothing about
// the key answers the zero value.
func askHelper(ctx context.Context, name, key string) (types.AuthConfig, error) {
	limited, cancel := context.WithTimeout(ctx, helperTime)
	defer cancel()
	run := &helperRun{ctx: limited, name: helperPrefix + name}
	creds, err := client.Get(run.program, key)
	switch {
	case ctx.Err() != nil:
		return types.AuthConfig{}, ctx.Err()
	case limited.Err() != nil:
		return types.AuthConfig{}, fmt.Errorf("credential helper %s has not answered for %s", run.name, helperTime)
	case err != nil && credentials.IsErrCredentialsNotFound(err):
		return types.AuthConfig{}, nil
	case errors.Is(run.err, exec.ErrNotFound):
		return types.AuthConfig{}, fmt.Errorf("credential helper %s is not installed", run.name)
	case err != nil:
		return types.AuthConfig{}, fmt.Errorf("credential helper %s failed for %s: %s", run.name, key, run.reason())
	}
	if creds.Username == tokenAccount {
		return types.AuthConfig{IdentityToken: creds.Secret}, nil
	}
	return types.AuthConfig{Username: creds.Username, Password: creds.Secret}, nil
}

// helperRun is one run of a helper; it implements client.Program.
type helperRun struct {
	ctx  context.Context
	name string
	cmd  *exec.Cmd
	out  []byte
	err  error
}

func (h *helperRun) program(args ...string) client.Program {
	h.cmd = exec.CommandContext(h.ctx, h.name, args...)
	h.cmd.WaitDelay = helperPatience
	return h
}

func (h *helperRun) Output() ([]byte, error) {
	out := &bounded{left: helperOutput}
	h.cmd.Stdout = out
	h.err = h.cmd.Run()
	h.out = out.b
	return h.out, h.err
}

// helperOutput bounds what a helper says, in bytes; a credential is a few
// kilobytes where it is a long token.
const helperOutput = 1 << 20

// bounded takes so many bytes and refuses more.
type bounded struct {
	b    []byte
	left int
}

func (w *bounded) Write(p []byte) (int, error) {
	if len(p) > w.left {
		return 0, errors.New("too long an answer")
	}
	w.b, w.left = append(w.b, p...), w.left-len(p)
	return len(p), nil
}

func (h *helperRun) Input(in io.Reader) { h.cmd.Stdin = in }

// reason is why a helper failed, without anything that could be a credential:
// failing helpers say why on their output, succeeding ones print JSON there.
func (h *helperRun) reason() string {
	line, _, _ := strings.Cut(strings.TrimSpace(string(h.out)), "\n")
	switch {
	case h.err == nil:
		return "its answer is no JSON of a credential"
	case line == "" || strings.ContainsAny(line, "{}"):
		return h.err.Error()
	}
	return fmt.Sprintf("%.200q (%v)", line, h.err)
}
