package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/lighter-oci/lighter/internal/project"
	"github.com/lighter-oci/lighter/internal/publish"
	"github.com/lighter-oci/lighter/internal/term"
)

// remember reads which release of the project was broken off, and keeps others
// out while this one goes on.
func (p *publishCmd) remember(r *release) error {
	r.unlock = func() {}
	var err error
	if r.memory, err = publish.MemoryOf(absolute(r.proj.Path)); err != nil {
		return err
	}
	if !p.DryRun {
		if r.unlock, err = r.memory.Lock(); err != nil {
			return err
		}
	}
	if r.pending, err = r.memory.Read(); err != nil {
		r.unlock()
	}
	return err
}

// decide finds the version to publish. One is wanted only where it is used. The
// version that is there may be one that was counted up for a release that was
// broken off: what asks for it again goes on with that. Another one replaces it
// where no tag has it, and comes after it where one may.
func (p *publishCmd) decide(ctx context.Context, r *release) error {
	now, err := r.proj.FindVersion(ctx)
	if err != nil {
		if p.Bump == "" && !r.proj.NeedsVersion() {
			return nil
		}
		return fmt.Errorf("%s: %w", r.Project, err)
	}
	r.from, r.Was = now, now.Number
	if r.pending.Version == now.Number {
		r.from.Number, r.Was = r.pending.Was, r.pending.Was
	}
	if r.Version, err = p.count(ctx, r, now.Number); err != nil {
		return err
	}
	if r.Goes = r.Was != now.Number && r.Version == now.Number; r.Goes {
		return nil
	}
	if r.from = now; r.pending.Tagging && r.Was != now.Number {
		r.Was = now.Number
		r.Version, err = p.count(ctx, r, now.Number)
	}
	return err
}

// count is the version that --bump makes of r.from; without it, the one that is
// there.
func (p *publishCmd) count(ctx context.Context, r *release, now string) (string, error) {
	proposal, perr := r.from.Propose(ctx)
	r.Next, r.Why = "", nil
	if perr == nil && proposal.Number != r.from.Number {
		r.Next, r.Why = proposal.Number, proposal.Why
	}
	switch p.Bump {
	case "":
		return now, nil
	case "auto":
		if perr != nil {
			return "", perr
		}
		if proposal.Step == project.None && proposal.Since != "" {
			return "", fmt.Errorf("--bump auto: nothing since %s asks for another version; say patch, minor, major or a version", proposal.Since)
		}
		r.first = proposal.Since == ""
		return proposal.Number, nil
	case string(project.Patch), string(project.Minor), string(project.Major):
		next, err := project.Bump(r.from.Number, project.Step(p.Bump))
		if err != nil {
			return "", fmt.Errorf("--bump %s: %w", p.Bump, err)
		}
		return next, nil
	}
	number := strings.TrimPrefix(p.Bump, "v")
	if !project.IsVersion(number) {
		return "", usageError{fmt.Errorf("--bump %q: want patch, minor, major, auto or a version such as 1.2.3", p.Bump)}
	}
	return number, nil
}

// writeVersion writes the version back where it is another one. What is about to
// be written is remembered first: whatever kills this, the same command finds it.
func (r *release) writeVersion(out *term.Output) error {
	if p := r.pending; p.Version != "" && r.from.Number == p.Was && !r.Goes { // killed before it was written, or while it was taken back
		half := r.from
		half.Number = p.Version
		if _, err := half.Write(p.Was); err != nil {
			return err
		}
	}
	if r.Version == r.from.Number {
		return nil
	}
	if !r.Goes {
		r.pending = publish.Pending{Was: r.Was, Version: r.Version}
		if err := r.memory.Write(r.pending); err != nil {
			return err
		}
	}
	files, err := r.from.Write(r.Version)
	if err != nil {
		return errors.Join(err, r.takeBack(out))
	}
	if len(files) > 0 {
		fmt.Fprintf(out.Err, "%s → %s in %s\n", r.from.Number, r.Version, strings.Join(files, ", "))
	}
	return nil
}

// tagging remembers that tags may be set from now on.
func (r *release) tagging() error {
	p := publish.Pending{Was: r.Was, Version: r.Version, Tagging: true}
	if r.Version != r.Was {
		if err := r.memory.Write(p); err != nil {
			return err
		}
	}
	r.pending = p
	return nil
}

// takeBack undoes writeVersion after a failure, unless tags have the version.
func (r *release) takeBack(out *term.Output) error {
	switch {
	case r.Version == r.Was:
		return nil
	case r.pending.Tagging:
		fmt.Fprintf(out.Err, "the version stays %s: tags may have it\n", r.Version)
		return nil
	}
	now := r.from
	now.Number = r.Version
	files, err := now.Write(r.Was)
	if err == nil {
		err = r.memory.Forget()
	}
	if err != nil {
		return fmt.Errorf("the version stays %s: %w", r.Version, err)
	}
	if len(files) > 0 {
		fmt.Fprintf(out.Err, "%s → %s again: nothing was published\n", r.Version, r.Was)
	}
	return nil
}
