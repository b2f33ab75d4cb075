package doctor

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"runtime"
	"strings"
	"time"

	"github.com/lighter-oci/lighter/internal/engine/process"
	"github.com/lighter-oci/lighter/internal/report"
	"github.com/lighter-oci/lighter/internal/toolchain"
)

// patience bounds the question for a program's version.
const patience = 10 * time.Second

// MachineOptions say which engine is meant.
type MachineOptions struct {
	State  string // as of --state; "" is the default
	Engine string // address of a remote engine, "" for the embedded one
	// Overlay are arguments that make this executable call TryOverlay with the
	// one argument that is added: how an ordinary user's namespace is entered.
	Overlay []string
}

// Machine asks what the embedded engine needs of this machine.
func Machine(ctx context.Context, opts MachineOptions) []report.Check {
	checks := []report.Check{
		{Name: "system", State: report.CheckOK, Found: fmt.Sprintf("%s/%s%s, %d CPUs", runtime.GOOS, runtime.GOARCH, kernel(), runtime.NumCPU())},
		runc(ctx),
	}
	state, err := process.StateDir(opts.State)
	namespaces := userNamespaces()
	checks = append(checks, namespaces, overlayfs(state, err, namespaces.State == report.CheckOK, opts.Overlay))
	return append(checks, engine(state, err, opts.Engine))
}

// no is a check that failed, with the next step where the error knows one.
func no(c report.Check, err error) report.Check {
	c.State, c.Found = report.CheckNo, err.Error()
	var hinted interface{ Hint() string }
	if errors.As(err, &hinted) {
		c.Fix = hinted.Hint()
	}
	return c
}

// runc is what runs the steps of a build.
func runc(ctx context.Context) report.Check {
	c := report.Check{Name: "runc"}
	for _, name := range []string{"buildkit-runc", "runc"} {
		path, err := exec.LookPath(name)
		if err != nil {
			continue
		}
		ctx, cancel := context.WithTimeout(ctx, patience)
		defer cancel()
		out, err := exec.CommandContext(ctx, path, "--version").Output()
		if err != nil {
			return no(c, fmt.Errorf("%s --version: %w", path, err))
		}
		line, _, _ := strings.Cut(string(out), "\n")
		c.State, c.Found = report.CheckOK, fmt.Sprintf("%s (%s)", toolchain.Number(line), path)
		return c
	}
	c.State, c.Found = report.CheckNo, "not installed, which is enough for Dockerfiles without a RUN"
	c.Fix = "Debian and Ubuntu: apt install runc; Fedora: dnf install runc"
	return c
}

// userNamespaces are what an ordinary user's engine lives in.
func userNamespaces() report.Check {
	c := report.Check{Name: "user namespaces", Needed: true, State: report.CheckOK, Found: "newuidmap, newgidmap and subordinate ids work"}
	if runtime.GOOS != "linux" {
		return no(c, process.UnsupportedError{})
	}
	if !process.NeedsUserNamespace() {
		c.Found = "not needed: this is root"
	}
	problems := process.Check()
	if len(problems) == 0 {
		return c
	}
	var texts, fixes []string
	for _, p := range problems {
		texts, fixes = append(texts, p.Text), append(fixes, p.Fix)
	}
	c.State, c.Found, c.Fix = report.CheckNo, strings.Join(texts, "; "), strings.Join(fixes, "\n")
	return c
}

// overlayfs is what keeps snapshots without copying files.
func overlayfs(state string, stateErr error, namespaces bool, args []string) report.Check {
	c := report.Check{Name: "overlayfs", State: report.CheckUnknown}
	switch {
	case runtime.GOOS != "linux":
		return no(c, process.UnsupportedError{})
	case stateErr != nil:
		c.Found = "the state directory cannot be used"
		return c
	case !namespaces:
		c.Found = "user namespaces come first"
		return c
	}
	if err := overlay(state, args); err != nil {
		c = no(c, err)
		c.Fix = "builds work without it, slower: put --state on a local ext4 or XFS disk for speed"
		return c
	}
	c.State, c.Found = report.CheckOK, "works in "+state
	return c
}

// engine says whether one runs, and where.
func engine(state string, stateErr error, address string) report.Check {
	c := report.Check{Name: "engine", State: report.CheckOK}
	if address != "" {
		c.State, c.Found = report.CheckUnknown, "a BuildKit elsewhere, which is not asked: "+address
		return c
	}
	if stateErr != nil {
		c.Needed = true
		return no(c, stateErr)
	}
	info, err := process.Status(state)
	switch {
	case err != nil:
		return no(c, err)
	case !info.Running:
		c.Found = "not running; starts on demand in " + state
	case info.PID == 0:
		c.Found = "running, in another container; state " + state
	default:
		c.Found = fmt.Sprintf("running, pid %d, state %s", info.PID, state)
	}
	return c
}
