package buildkit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/content/proxy"
	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/util/grpcerrors"
	"github.com/sirupsen/logrus"
	"google.golang.org/grpc/codes"

	// The ways to a remote engine, by the scheme of its address.
	_ "github.com/moby/buildkit/client/connhelper/dockercontainer"
	_ "github.com/moby/buildkit/client/connhelper/kubepod"
	_ "github.com/moby/buildkit/client/connhelper/podmancontainer"
	_ "github.com/moby/buildkit/client/connhelper/ssh"

	"github.com/lighter-oci/lighter/internal/engine"
)

// Options are what a client needs beside the address. All may be zero.
type Options struct {
	// Credentials answers for a registry host; nil means anonymous everywhere.
	Credentials Credentials
	// Transport is the way to a registry's token server; nil is BuildKit's own,
	// which knows nothing of the user's authorities.
	Transport func(host string) (http.RoundTripper, error)
	// Progress receives BuildKit's live view; nil shows none.
	Progress io.Writer
	// Embedded says that the engine is lighter's own, on this machine.
	Embedded bool
	// ProgressMode is auto, tty, plain, rawjson or quiet; "" is auto.
	ProgressMode string
	// Log is the path of an embedded engine's log, for the user who wants to
	// know why it ended; "" is an engine that is not ours.
	Log string
	// Agent carries cache mounts to and from an engine that is not lighter's.
	Agent Agent
}

// Credentials looks up how to log in at a registry host. An empty Credential
// means anonymous.
type Credentials func(ctx context.Context, host string) (Credential, error)

// Credential is a login. IdentityToken excludes the other two.
type Credential struct {
	Username, Password string
	IdentityToken      string
}

// Client speaks to an engine: the embedded one or any BuildKit.
type Client struct {
	bk   *client.Client
	addr string
	opt  Options

	mu   sync.Mutex
	used map[string][]buildUse // by step, of an engine that is not lighter's
}

var _ engine.Engine = (*Client)(nil)

// schemes are the addresses that BuildKit's client understands.
var schemes = []string{"unix", "tcp", "docker-container", "podman-container", "kube-pod", "ssh"}

// Connect dials the engine and makes sure that it answers, within 20 seconds
// where ctx sets no earlier end: a remote one may have to start a pod or a
// tunnel first.
func Connect(ctx context.Context, addr string, opt Options) (*Client, error) {
	scheme, _, found := strings.Cut(addr, "://")
	if !found || !slices.Contains(schemes, scheme) {
		return nil, &engine.RequestError{Err: fmt.Errorf("engine address %q: want %s://…", addr, strings.Join(schemes, "://…, "))}
	}
	quiet.Do(func() {
		if logrus.GetLevel() == logrus.InfoLevel {
			logrus.SetLevel(logrus.FatalLevel) // what BuildKit's client gives out, it answers, too
		}
	})
	bk, err := client.New(ctx, addr)
	if err != nil {
		return nil, fmt.Errorf("engine %s: %w", addr, err)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, 20*time.Second, errors.New("no answer within 20 s"))
	defer cancel()
	if _, err := bk.Info(ctx); err != nil {
		bk.Close()
		return nil, unreachable(ctx, addr, err)
	}
	return &Client{bk: bk, addr: addr, opt: opt}, nil
}

// quiet keeps what BuildKit's and containerd's libraries log for daemons off a
// user's terminal; a server in this process has set a level of its own by then.
var quiet sync.Once

func unreachable(ctx context.Context, addr string, err error) error {
	if u, perr := url.Parse(addr); perr == nil {
		addr = u.Redacted()
	}
	if cause := context.Cause(ctx); cause != nil && ctx.Err() != nil {
		err = cause
	}
	return &hintError{
		err:  fmt.Errorf("engine %s does not answer: %s", addr, lastLine(err.Error())),
		hint: "check that a BuildKit listens there, or drop --engine to use the embedded one",
	}
}

// answerTooLarge is in what grpc-go says of an error with more details than a
// header may have: the source of a broken Dockerfile is one of them.
const answerTooLarge = "COMPRESSION_ERROR"

// gone tells an engine that ended during a build from one that refuses
// something: it does not answer any more. Another one may answer at the same
// address by now, so that the broken connection counts too.
func (c *Client) gone(err error) bool {
	// grpc-go says so when the connection ends, also over an answer that is too
	// large for it.
	if s := err.Error(); strings.Contains(s, "error reading from server") && !strings.Contains(s, answerTooLarge) {
		return true
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	_, err = c.bk.Info(ctx)
	return err != nil && grpcerrors.Code(err) == codes.Unavailable
}

// wentAway says that the engine ended before the build did.
func (c *Client) wentAway(err error) error {
	e := &hintError{
		err:  &endedError{addr: c.addr, err: err},
		hint: "check the BuildKit there, then run the command again",
	}
	if c.opt.Log != "" {
		e.hint = "run the command again, which starts another one; why this one ended may be in " + c.opt.Log
	}
	return e
}

// endedError is an engine that was killed, crashed or was stopped in the middle
// of a build.
type endedError struct {
	addr string
	err  error
}

func (e *endedError) Error() string { return "the engine at " + e.addr + " ended during the build" }
func (e *endedError) Unwrap() error { return e.err }

// Close ends the connection.
func (c *Client) Close() error { return c.bk.Close() }

// Content is the engine's blobs, to read.
func (c *Client) Content() content.Store {
	return proxy.NewContentStore(c.bk.ContentClient())
}

// hintError is an error with the next step.
type hintError struct {
	err  error
	hint string
}

func (e *hintError) Error() string { return e.err.Error() }
func (e *hintError) Unwrap() error { return e.err }

// Hint is the next step for a user.
func (e *hintError) Hint() string { return e.hint }

// Addr is where the engine answers.
func (c *Client) Addr() string { return c.addr }
