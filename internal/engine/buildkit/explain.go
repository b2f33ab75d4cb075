package buildkit

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/moby/buildkit/solver/errdefs"

	"github.com/lighter-oci/lighter/internal/engine"
)

// BuildError is a build that failed: one line, with the place in the Dockerfile
// where there is one, and the next step.
type BuildError struct {
	Where string // "Dockerfile:7", "" where no line is to blame
	What  string
	Next  string
	Log   string // last output of the step that failed
	err   error
}

func (e *BuildError) Error() string {
	if e.Where == "" {
		return e.What
	}
	return e.Where + ": " + e.What
}

func (e *BuildError) Unwrap() error { return e.err }

// Hint is the next step.
func (e *BuildError) Hint() string { return e.Next }

// line is a warning about what the build goes on without.
func (e *BuildError) line() string {
	if e.Next == "" {
		return e.What
	}
	return e.What + " → " + e.Next
}

// explain makes one line of what BuildKit answers, which is a chain of
// everything that passed it on.
func explain(ctx context.Context, err error, req engine.Request, view *events) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	out := &BuildError{
		What: string(view.hide.clean([]byte(lastLine(err.Error())))),
		Log:  string(view.hide.clean(view.logs[view.failed])),
		err:  err,
	}
	for _, src := range errdefs.Sources(err) {
		if src.Info == nil || len(src.Ranges) == 0 {
			continue
		}
		name := src.Info.Filename
		if req.Dockerfile != "" && req.Dockerfile != "-" && filepath.Base(req.Dockerfile) == name {
			name = req.Dockerfile
		}
		out.Where = fmt.Sprintf("%s:%d", name, src.Ranges[0].Start.Line)
	}
	if !out.full(req) && !out.registry() {
		out.explain()
	}
	var hinted interface{ Hint() string }
	if out.Next == "" && errors.As(err, &hinted) {
		out.Next = hinted.Hint()
	}
	return out
}

// explain puts the engine's words into a user's, where a rule knows better, and
// adds the next step.
func (e *BuildError) explain() {
	for _, rule := range explanations {
		if m := rule.match.FindStringSubmatch(e.What); m != nil {
			if rule.what != nil {
				e.What = rule.what(m)
			}
			e.Next = rule.next
			return
		}
	}
}

// explanation gives an error of the engine its next step.
type explanation struct {
	match *regexp.Regexp
	what  func(m []string) string // nil keeps the engine's words
	next  string
}

var explanations = []explanation{
	{match: regexp.MustCompile(`^dockerfile parse error on line \d+: (.*)`),
		what: func(m []string) string { return m[1] }},
	{match: regexp.MustCompile(`target stage "?([^" ]+)"? could not be found`),
		what: func(m []string) string { return fmt.Sprintf("the Dockerfile has no stage %q", m[1]) },
		next: "--target takes the name behind AS, or a stage's number"},
	{match: regexp.MustCompile(`failed to calculate checksum of ref \S+: "?([^" ]+)"?: not found`),
		what: func(m []string) string { return fmt.Sprintf("%s is not in what is copied from", m[1]) },
		next: "check the path, and whether .dockerignore holds it back"},
	{match: regexp.MustCompile(`secret (\S+): not found`),
		next: "give it with --secret id=ID,src=FILE or id=ID,env=NAME"},
	{match: regexp.MustCompile(`(?:blob|content) (?:digest )?\S*:? ?not found|unexpected end of JSON input|lstat \S*/snapshots/\d+\S*: no such file`),
		next: "something in the engine's cache is damaged: `lighter cache prune --all` empties it"},
	{match: regexp.MustCompile(`(?:Internal: )?.*string field contains invalid UTF-8`),
		what: func([]string) string { return "a file name or the Dockerfile has bytes that are no UTF-8" },
		next: "find such names with: LC_ALL=C find . | grep -axv '.*' (in a UTF-8 locale), and rename them or keep them back with .dockerignore"},
	{match: regexp.MustCompile(`unexpected commit digest \S+, expected (sha256:[0-9a-f]{64})`),
		what: func(m []string) string {
			return "what the registry, or a mirror of it, gives as " + m[1] + " is something else"
		},
		next: "try again; a mirror that does it again has to go from buildkitd.toml"},
	{match: regexp.MustCompile(answerTooLarge),
		what: func([]string) string { return "what the engine says of the Dockerfile is too large to be sent" },
		next: "the Dockerfile has megabytes: look for a line of more than 65,535 bytes"},
	{match: regexp.MustCompile(`docker exporter does not currently support exporting manifest lists`),
		what: func([]string) string { return "type=docker holds one platform without attestations" },
		next: "use -o type=oci for several, or name one --platform"},
	{match: regexp.MustCompile(`index annotations not supported for single platform export`),
		what: func([]string) string {
			return "index annotations need an index, and this image has one platform and no attestation"
		},
		next: "drop the prefix index:, or build several platforms"},
	{match: regexp.MustCompile(`repository does not contain ref ([^,]+)`),
		what: func(m []string) string {
			return fmt.Sprintf("the git repository has no branch, tag or commit %q", m[1])
		},
		next: "check what stands behind the # of the context"},
	{match: regexp.MustCompile(`failed to read downloaded context: .*(invalid response status \d+)`),
		what: func(m []string) string { return "the context cannot be downloaded: " + m[1] },
		next: "check the URL"},
	{match: regexp.MustCompile(`did not complete successfully: exit code: (\d+)`),
		next: "the step's output says why"},
	{match: regexp.MustCompile(`connection refused`),
		next: "is the registry running, and is the address right?"},
	{match: regexp.MustCompile(`no such host`),
		next: "check the registry's name and this machine's DNS"},
	{match: regexp.MustCompile(`(?i)\b401\b|unauthorized|no basic auth credentials|authorization failed|insufficient_scope|access( to the resource is)? denied|\bdenied:`),
		next: "log in with `docker login`, or check what the account may write"},
	{match: regexp.MustCompile(`server gave HTTP response to HTTPS client`),
		next: plainNext},
	{match: regexp.MustCompile(`(?i)operation not permitted|permission denied.*(unshare|newuidmap|user namespace)`),
		next: "run `lighter engine status` to see what this machine allows"},
}

// lastLine is the innermost cause of a chained error, on one line.
func lastLine(s string) string {
	s = strings.TrimSpace(s)
	for _, prefix := range []string{"failed to solve: ", "failed to run Build function: ", "rpc error: "} {
		for strings.HasPrefix(s, prefix) {
			s = strings.TrimPrefix(s, prefix)
		}
	}
	if strings.HasPrefix(s, "code = ") {
		if _, desc, ok := strings.Cut(s, "desc = "); ok {
			s = desc
		}
	}
	return strings.Join(strings.Fields(s), " ")
}
