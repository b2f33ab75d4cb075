// Command lighter makes container images fast to build, small to ship and quick
// to start.
//
// This folder owns flags and wiring, one file a verb, and nothing else: every
// decision is made in a room under internal.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"os/signal"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/alecthomas/kong"
	kongcompletion "github.com/jotaen/kong-completion"

	"github.com/lighter-oci/lighter/internal/engine"
	"github.com/lighter-oci/lighter/internal/engine/process"
	"github.com/lighter-oci/lighter/internal/group"
	"github.com/lighter-oci/lighter/internal/kitchen"
	"github.com/lighter-oci/lighter/internal/term"
)

// Exit codes, as README.md promises them.
const (
	exitDone        = 0
	exitFailed      = 1
	exitUsage       = 2
	exitMismatch    = 3
	exitInterrupted = 130
)

// cli is the whole command line; its tags are its documentation.
type cli struct {
	Build   buildCmd   `cmd:"" help:"Build an image from a Dockerfile."`
	Pack    packCmd    `cmd:"" help:"Compile on this machine and package the binary, without an engine."`
	Publish publishCmd `cmd:"" help:"Check, build or pack every variant, push, prove, tag: a whole release."`
	Init    initCmd    `cmd:"" help:"Write a lighter.toml for the project that is here."`
	Convert convertCmd `cmd:"" help:"Convert an image that exists: other compression, another place."`
	Inspect inspectCmd `cmd:"" help:"Show what an image is by its own bytes, or prove what its layers are."`
	Doctor  doctorCmd  `cmd:"" help:"Say what works on this machine, and probe registries that are named."`
	Tune    tuneCmd    `cmd:"" help:"Find the compression level that pays for an image, by trying."`
	Kitchen kitchenCmd `cmd:"" help:"Serve a dashboard for projects: choose, build, watch, compare, publish in a browser."`
	History historyCmd `cmd:"" help:"Show the builds of the past, and those that are running."`
	Cache   cacheCmd   `cmd:"" help:"Show and clear the build cache."`
	Engine  engineCmd  `cmd:"" help:"Show, stop or run the build engine."`
	Version versionCmd `cmd:"" help:"Print version, encoders and engine."`

	Completion completionCmd `cmd:"" help:"Print the completion for a shell."`

	engineFlags
	ShowVersion kong.VersionFlag `name:"version" help:"Print the version."`
}

func main() {
	process.Enter() // an engine on its way into a user namespace goes no further
	group.Enter(isEngine)
	os.Exit(run(os.Args[1:]))
}

// run is main with a code instead of an exit.
func run(args []string) int {
	log.SetOutput(io.Discard) // libraries' words; ours go through out
	out := term.New(os.Stdout, os.Stderr)
	ctx, stop := interruptible()
	defer stop()
	var c cli
	parser, err := kong.New(&c,
		kong.Name("lighter"),
		kong.Description("Container images: fast to build, small to ship, quick to start."),
		kong.UsageOnError(),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, WrapUpperBound: 100}),
		kong.Help(help),
		kong.Vars{"compression": defaultCompression, "version": "lighter " + version()},
		kong.BindTo(ctx, (*context.Context)(nil)),
		kong.Bind(out, &c.engineFlags),
	)
	if err != nil {
		panic(err) // a wrong struct tag
	}
	kongcompletion.Register(parser, predictors()) // answers a shell that asks, and ends
	args = asks(parser.Model, args)
	shadow(parser.Model, args)
	line, err := parser.Parse(args)
	if err != nil {
		err = usageError{inWords(err, parser.Model, args)}
	} else {
		err = line.Run()
	}
	said := interruptedError{}
	if line != nil && line.Selected() != nil {
		if c, ok := line.Selected().Target.Addr().Interface().(interface{ Resume() string }); ok {
			said.next = c.Resume()
		}
	}
	return exitCode(ctx, out, verb(parser.Model, args), said, err)
}

// asks turns `lighter`, `lighter cache` and `lighter help cache` into a call for
// help.
func asks(app *kong.Application, args []string) []string {
	if len(args) > 0 && args[0] == "help" {
		return append(slices.Clone(args[1:]), "--help")
	}
	node, path := named(app, args)
	if len(path) == len(args) && len(node.Children) > 0 && node.DefaultCmd == nil {
		return append(slices.Clone(args), "--help")
	}
	return args
}

// shadow takes away those of lighter's own flags that the verb has its own of, as
// `history ls --state`: the parser would give the value to lighter's.
func shadow(app *kong.Application, args []string) {
	node, path := named(app, args)
	if len(path) == 0 {
		return
	}
	if node.DefaultCmd != nil {
		node = node.DefaultCmd
	}
	app.Flags = slices.DeleteFunc(app.Flags, func(f *kong.Flag) bool {
		return slices.ContainsFunc(node.Flags, func(own *kong.Flag) bool { return own.Name == f.Name })
	})
}

// help prints the help of a verb, without the engine's flags where its Run takes
// none of them.
func help(opts kong.HelpOptions, line *kong.Context) error {
	if verb := line.Selected(); verb != nil && verb.Leaf() {
		run := verb.Target.Addr().MethodByName("Run").Type()
		asks := false
		for i := range run.NumIn() {
			asks = asks || run.In(i) == reflect.TypeFor[*engineFlags]()
		}
		for _, f := range line.Model.Flags {
			f.Hidden = f.Hidden || !asks && f.Group != nil && f.Group.Key == "Engine"
		}
	}
	return kong.DefaultHelpPrinter(opts, line)
}

// inWords is an error of the parser without the names that it has for tokens.
func inWords(err error, app *kong.Application, args []string) error {
	if word, ok := strings.CutPrefix(err.Error(), "unexpected argument "); ok {
		node, path := named(app, args)
		word, close, _ := strings.Cut(word, ", ") // did you mean …
		if len(node.Children) > 0 && node.DefaultCmd == nil {
			return unknownCommand{strings.Join(append(path, word), " "), close, strings.Join(path, " ")}
		}
	}
	if flag, _, ok := strings.Cut(err.Error(), `: expected `); ok && strings.HasSuffix(err.Error(), `but got "EOL" (<EOL>)`) {
		return errors.New(flag + ": its value is missing")
	}
	return err
}

// unknownCommand is a word where a command should be.
type unknownCommand struct{ name, close, of string }

func (e unknownCommand) Error() string {
	if e.close != "" {
		return "no command " + e.name + "; " + e.close
	}
	return "no command " + e.name
}

// Hint is the next step.
func (e unknownCommand) Hint() string { return "run `" + strings.TrimSpace("lighter help "+e.of) + "`" }

// exitCode prints the error, or said where it comes of an interruption, and
// answers what it amounts to.
func exitCode(ctx context.Context, out *term.Output, verb string, said interruptedError, err error) int {
	var code codeError
	var usage usageError
	var request *engine.RequestError
	switch {
	case err == nil:
		return exitDone
	case errors.As(err, &code):
		if code.err != nil {
			out.Error(code.err)
		}
		return code.code
	case errors.Is(context.Cause(ctx), errInterrupted), errors.Is(context.Cause(ctx), errAlone):
		out.Error(said)
		return exitInterrupted
	case errors.As(err, &usage), errors.As(err, &request):
		var hinted interface{ Hint() string }
		if !errors.As(err, &hinted) {
			err = helped{err, verb}
		}
		out.Error(err)
		return exitUsage
	}
	var hinted interface{ Hint() string }
	if !errors.As(err, &hinted) && (errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)) {
		err = fullError{err}
	}
	out.Error(err)
	return exitFailed
}

// fullError is a disk that is full.
type fullError struct{ error }

func (e fullError) Unwrap() error { return e.error }

// Hint is the next step.
func (fullError) Hint() string { return "make room there; the same command goes on" }

// usageError is a command line that makes no sense.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// helped is a usage error with the help to look at.
type helped struct {
	error
	verb string // "cache prune", "" for lighter itself
}

func (e helped) Unwrap() error { return e.error }

// Hint is the next step.
func (e helped) Hint() string { return "run `lighter " + strings.TrimSpace(e.verb+" --help") + "`" }

// verb is the command that args name, as far as they name one.
func verb(app *kong.Application, args []string) string {
	_, path := named(app, args)
	return strings.Join(path, " ")
}

// named is that command, and the words that name it.
func named(app *kong.Application, args []string) (node *kong.Node, path []string) {
	node = app.Node
	for _, arg := range args {
		i := slices.IndexFunc(node.Children, func(n *kong.Node) bool { return n.Type == kong.CommandNode && n.Name == arg })
		if i >= 0 {
			node, path = node.Children[i], append(path, arg)
		}
	}
	return node, path
}

// codeError ends the process with a code of its own; err may be nil where
// everything has been said.
type codeError struct {
	code int
	err  error
}

func (e codeError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit %d", e.code)
	}
	return e.err.Error()
}

var (
	errInterrupted = errors.New("interrupted")
	errAlone       = errors.New("the server that started it has died")
)

// interruptedError is Ctrl-C, SIGTERM, or a terminal that was closed.
type interruptedError struct {
	next string // of a command that has a method Resume: what it answers
}

func (interruptedError) Error() string { return errInterrupted.Error() }

// Hint is the next step.
func (e interruptedError) Hint() string {
	if e.next == "" {
		return "the same command starts over"
	}
	return e.next
}

// once is how long signals count as one: timeout(1) sends each to the process
// and to its group.
const once = time.Second

// interruptible gives a context that the first Ctrl-C, SIGTERM or SIGHUP cancels;
// another one, a second later, ends the process as if nothing had caught it.
func interruptible() (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(context.Background())
	sig := make(chan os.Signal, 1)
	signal.Notify(sig, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE) // a write to a closed pipe is an error, and what was begun is cleaned up
	ended, alone := make(chan struct{}), kitchen.Tie()
	go func() {
		select {
		case <-sig:
			cancel(errInterrupted)
		case <-alone:
			cancel(errAlone)
		case <-ended:
			return
		}
		select {
		case <-time.After(once):
			signal.Stop(sig)
		case <-ended:
		}
	}()
	return ctx, func() {
		signal.Stop(sig)
		close(ended)
		cancel(nil)
	}
}
