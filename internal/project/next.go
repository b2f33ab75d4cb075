package project

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"

	"github.com/Masterminds/semver/v3"
)

// Step is how far a version moves.
type Step string

// The steps, from the smallest on; None is to stay.
const (
	None  Step = ""
	Patch Step = "patch"
	Minor Step = "minor"
	Major Step = "major"
)

var steps = []Step{None, Patch, Minor, Major}

// Proposal is what the next version might be.
type Proposal struct {
	Number string
	Step   Step
	Since  string   // the tag that the commits follow; "" for none
	Why    []string // subjects of the commits that ask for the step, the newest first
}

// Propose reads the commits since the version's tag that concern the project's
// directory as conventional commits, and proposes what they add up to. A version
// without a tag is none that was released: it is proposed itself.
//
// Before 1.0.0 a breaking change moves the minor number, as semver's users do:
// that a project is at 1.0.0 is for people to say.
func (v Version) Propose(ctx context.Context) (Proposal, error) {
	now, err := countable(v.Number)
	if err != nil {
		return Proposal{}, err
	}
	tag, err := v.Tag(ctx)
	if err != nil {
		return Proposal{}, err
	}
	if tag == "" && v.File != "" {
		return Proposal{Number: v.Number}, nil
	}
	if tag == "" { // git describes a commit behind it: v1.2.3-4-gabcdef
		base, _, _ := strings.Cut(v.Number, "-")
		if tag, err = (Version{Number: base, p: v.p}).Tag(ctx); err != nil {
			return Proposal{}, err
		}
		if now, err = countable(base); err != nil {
			return Proposal{}, err
		}
	}
	commits, err := commitsSince(ctx, v.p.Dir(), tag)
	if err != nil {
		return Proposal{}, err
	}
	p := Proposal{Since: tag}
	for _, c := range commits {
		switch s := c.step(); {
		case slices.Index(steps, s) > slices.Index(steps, p.Step):
			p.Step, p.Why = s, []string{c.subject}
		case s == p.Step && s != None:
			p.Why = append(p.Why, c.subject)
		}
	}
	if p.Step == Major && now.Major() == 0 {
		p.Step = Minor
	}
	p.Number, err = Bump(now.String(), p.Step)
	return p, err
}

func countable(number string) (*semver.Version, error) {
	v, err := semver.NewVersion(number)
	if err != nil {
		return nil, fmt.Errorf("version %s is none that can be counted up: want MAJOR.MINOR.PATCH", number)
	}
	return v, nil
}

// Bump moves a version by a step.
func Bump(number string, step Step) (string, error) {
	v, err := countable(number)
	if err != nil {
		return "", err
	}
	next := *v
	switch step {
	case Patch:
		next = v.IncPatch()
	case Minor:
		next = v.IncMinor()
	case Major:
		next = v.IncMajor()
	}
	return next.String(), nil
}

// Tag is the git tag of the version, with or without a v before it; "" where it
// has none, or where there is no git.
func (v Version) Tag(ctx context.Context) (string, error) {
	for _, name := range []string{"v" + v.Number, v.Number} {
		_, err := git(ctx, v.p.Dir(), "show-ref", "--verify", "--quiet", "refs/tags/"+name)
		if err == nil {
			return name, nil
		}
		var exit *exec.ExitError
		if !errors.As(err, &exit) && !errors.Is(err, exec.ErrNotFound) {
			return "", err
		}
	}
	return "", nil
}

// TagCommit commits the files that have the version, where they differ from the
// commit or git does not know them yet, and tags the commit with v and a number. It
// answers the tag. Where the commit has that tag, nothing is left to do.
func (v Version) TagCommit(ctx context.Context, number string) (string, error) {
	name := "v" + number
	if v.File != "" {
		files := []string{v.File}
		if lock, _ := v.lock(number); lock != "" {
			files = append(files, lock)
		}
		if err := v.commit(ctx, files, "Release "+number); err != nil {
			return "", err
		}
	}
	_, err := git(ctx, v.p.Dir(), "tag", "-a", "-m", number, name)
	if err != nil {
		is, _ := git(ctx, v.p.Dir(), "tag", "--points-at", "HEAD", name)
		if is == name {
			return name, nil
		}
	}
	return name, err
}

// commit commits those files that differ; of what git ignores it sees nothing.
func (v Version) commit(ctx context.Context, files []string, message string) error {
	args := []string{"commit", "--quiet", "-m", message, "--"}
	none := len(args)
	for _, file := range files {
		state, err := git(ctx, v.p.Dir(), "status", "--porcelain", "--untracked-files=all", "--", file)
		if err == nil && strings.HasPrefix(state, "??") {
			_, err = git(ctx, v.p.Dir(), "add", "--", file)
		}
		if err != nil {
			return err
		}
		if state != "" {
			args = append(args, file)
		}
	}
	if len(args) == none {
		return nil
	}
	_, err := git(ctx, v.p.Dir(), args...)
	return err
}

// git answers what it prints. Where it refuses, the error is what it says, and
// wraps an *exec.ExitError.
func git(ctx context.Context, dir string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "git", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	out, err := cmd.Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		err = &gitError{strings.TrimSpace(string(exit.Stderr)), err}
	}
	return strings.TrimSpace(string(out)), err
}

// gitError is what git refuses with.
type gitError struct {
	said string
	err  error
}

func (e *gitError) Error() string { return cmp.Or(e.said, e.err.Error()) }
func (e *gitError) Unwrap() error { return e.err }

// commit is what one says of itself.
type commit struct{ subject, body string }

// commitsSince are those that touch a directory, the newest first.
func commitsSince(ctx context.Context, dir, tag string) ([]commit, error) {
	out, err := git(ctx, dir, "log", "--format=%s%x00%b%x01", tag+"..HEAD", "--", ".")
	if err != nil {
		return nil, fmt.Errorf("commits since %s: git: %w", tag, err)
	}
	var all []commit
	for entry := range strings.SplitSeq(out, "\x01") {
		if subject, body, ok := strings.Cut(strings.TrimSpace(entry), "\x00"); ok {
			all = append(all, commit{subject, body})
		}
	}
	return all, nil
}

var (
	// conventional is "type(scope)!: description".
	conventional = regexp.MustCompile(`\A([A-Za-z]+)(\([^()]*\))?(!)?: \S`)
	breaking     = regexp.MustCompile(`(?m)^BREAKING[ -]CHANGE: `)
	// quiet are the types that change nothing of what is shipped.
	quiet = []string{"build", "chore", "ci", "docs", "refactor", "style", "test"}
)

// step is how far a commit moves the version. One that is no conventional commit
// is taken for a change.
func (c commit) step() Step {
	m := conventional.FindStringSubmatch(c.subject)
	switch {
	case m != nil && m[3] != "", breaking.MatchString(c.body):
		return Major
	case m == nil:
		return Patch
	case strings.EqualFold(m[1], "feat"):
		return Minor
	case slices.Contains(quiet, strings.ToLower(m[1])):
		return None
	}
	return Patch
}
