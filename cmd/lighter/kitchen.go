package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/lighter-oci/lighter/internal/history"
	"github.com/lighter-oci/lighter/internal/kitchen"
	"github.com/lighter-oci/lighter/internal/report"
	"github.com/lighter-oci/lighter/internal/term"
)

// kitchenCmd is the dashboard.
type kitchenCmd struct {
	Dir []string `arg:"" optional:"" predictor:"dir" help:"Directories of projects (default: this one)."`

	Listen      string `placeholder:"ADDRESS:PORT" default:"127.0.0.1:7070" help:"Where to serve (default ${default}). An address that others reach needs --config with something to log in with, and TLS."`
	Config      string `predictor:"file" placeholder:"FILE" help:"Logins, TLS, webhooks and engines of projects, as TOML."`
	BehindProxy string `placeholder:"URL" help:"A proxy serves it to people under this URL, and tells in X-Forwarded-For who asks."`
	Builds      int    `default:"2" placeholder:"N" help:"How many builds run at a time (default ${default}); others wait."`
	Hash        bool   `help:"Read a password or token from standard input, print its lines for --config, and end."`
}

// Help is what `lighter kitchen --help` says below the flags.
func (kitchenCmd) Help() string {
	return "A dashboard in the browser: choose, build, watch, stop, compare and publish what the projects' own files offer. " +
		"Builds of the command line are shown there, too. Its builds end with it."
}

// Resume is what the same command does after an interruption.
func (*kitchenCmd) Resume() string { return "builds that were running or waiting are in the history" }

// Run serves until it is interrupted.
func (k *kitchenCmd) Run(ctx context.Context, out *term.Output, flags *engineFlags) error {
	if k.Hash {
		return k.hash(out)
	}
	if k.Builds < 1 {
		return usageError{errors.New("--builds: at least 1")}
	}
	var config kitchen.Config
	if k.Config != "" {
		var err error
		if config, err = kitchen.LoadConfig(k.Config); err != nil {
			return codeError{exitUsage, err}
		}
	}
	dir, err := history.Dir()
	if err != nil {
		return usageError{fmt.Errorf("%w, and a dashboard shows nothing without: set $%s to a directory", err, history.Variable)}
	}
	warn := func(what string) { fmt.Fprintln(out.Err, "warning: "+report.Clean(what)) }
	store, err := history.Open(history.Options{Dir: dir, Warn: func(err error) { warn(err.Error()) }})
	if err != nil {
		return err
	}
	defer store.Close()
	program, err := os.Executable()
	if err != nil {
		return err
	}
	dirs := k.Dir
	if len(dirs) == 0 {
		dirs = []string{"."}
	}
	server, err := kitchen.New(kitchen.Options{
		Dirs: dirs, Listen: k.Listen, Config: config, Proxy: k.BehindProxy, Builds: k.Builds,
		Program: program, Env: flags.environment(), Version: version(), History: store, State: dir, Warn: warn,
	})
	if err != nil {
		return err
	}
	fmt.Fprintf(out.Err, "serving at %s; Ctrl-C ends it and its builds\n", server.URL())
	if err := server.Serve(ctx); err != nil {
		return err
	}
	if ctx.Err() != nil { // what ends a server is no failure
		return codeError{code: exitDone}
	}
	return nil
}

// hash helps to write a configuration.
func (k *kitchenCmd) hash(out *term.Output) error {
	line, err := bufio.NewReader(os.Stdin).ReadString('\n')
	if line = strings.TrimRight(line, "\r\n"); line == "" {
		return errors.Join(usageError{errors.New("--hash: nothing on standard input")}, err)
	}
	lines, err := kitchen.Hashes(line)
	if err != nil {
		return usageError{err}
	}
	_, err = fmt.Fprint(out.Out, lines)
	return err
}

// environment is this process's, with the engine that its flags name.
func (f *engineFlags) environment() []string {
	env := os.Environ()
	for name, value := range map[string]string{"LIGHTER_ENGINE": f.EngineAddr, "LIGHTER_STATE": f.State, "LIGHTER_CACHE_LIMIT": f.CacheLimit} {
		if value != "" {
			env = append(env, name+"="+value) // the last one counts
		}
	}
	return env
}
