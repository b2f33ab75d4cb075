package doctor

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/lighter-oci/lighter/internal/image"
	"github.com/lighter-oci/lighter/internal/registry"
	"github.com/lighter-oci/lighter/internal/report"
)

// Where a probe writes: a repository of its own where none is named, one tag,
// and beside it a second repository that a blob is mounted into.
const (
	probeName   = "lighter-doctor"
	probeTag    = "lighter-doctor"
	secondNamed = "-lighter-doctor"
)

// cleanupTime is what is left for cleaning up after Ctrl-C.
const cleanupTime = time.Minute

// ParseRegistry reads HOST or HOST/REPOSITORY, and answers the repository that
// a probe of it writes to.
func ParseRegistry(s string) (image.Reference, error) {
	host, path, _ := strings.Cut(s, "/")
	if !strings.ContainsAny(host, ".:") && host != "localhost" {
		return image.Reference{}, fmt.Errorf("registry %.200q: want HOST or HOST/REPOSITORY, as registry.example.com/team/app", s)
	}
	if path == "" {
		path = probeName
	}
	ref, err := image.ParseReference(host + "/" + path)
	if err != nil {
		return ref, err
	}
	if ref.Digest != "" || strings.Contains(path, ":") {
		return ref, fmt.Errorf("registry %.200q: want a repository without tag and digest", s)
	}
	ref.Tag = ""
	if ref.Host == "docker.io" && (path == probeName || !strings.Contains(path, "/")) {
		return ref, fmt.Errorf("registry %.200q: Docker Hub has no repository that everybody may write to: name one of yours, docker.io/ACCOUNT/%s", s, probeName)
	}
	return ref, nil
}

// probe is one live probe.
type probe struct {
	*wire
	ref    image.Reference // written to
	second string          // repository
	cred   registry.Credential
	client *registry.Client
	opts   registry.Options
	sample *sample
	stored []stored
	out    *report.RegistryCheck
}

// stored is something that the registry took.
type stored struct {
	repository, kind, digest string // kind is "manifests" or "blobs"
	tag                      string
}

// errNo is an answer that says no: the check failed, the registry did not.
type errNo struct {
	found, fix string
	needed     bool // without it the registry is of no use
}

func (e errNo) Error() string { return e.found }

// errUnknown is a question that could not be asked.
type errUnknown struct{ why string }

func (e errUnknown) Error() string { return e.why }

// Registry probes a registry that the user has named, as ParseRegistry reads
// it, by pushing an image of a few hundred bytes and a blob of 66 kB in every way that lighter
// might use, and takes away again what it has put there. What opts say is what a
// push from here would use, but for the number of attempts.
func Registry(ctx context.Context, named string, ref image.Reference, opts registry.Options) report.RegistryCheck {
	out := report.RegistryCheck{Registry: named, Repository: ref.Name(), Left: []string{}}
	opts.Attempts = 1
	p := &probe{ref: ref, second: ref.Repository + secondNamed, client: registry.New(opts), opts: opts, out: &out}
	defer p.client.Close()
	steps := []struct {
		name   string
		needed bool
		ask    func(context.Context) (found string, err error)
	}{
		{"configuration", true, p.configuration}, {"answers", true, p.answers}, {"login", true, p.login}, {"push zstd", true, p.push},
		{"OCI index", false, p.ociIndex}, {"mixed index", false, p.mixedIndex}, {"mount", false, p.mount},
		{"streamed upload", false, p.stream}, {"resumed upload", false, p.resume}, {"range reads", false, p.ranges}, {"referrers", false, p.referrers},
	}
	blocked := ""
	for _, s := range steps {
		c := report.Check{Name: s.name, Needed: s.needed, State: report.CheckUnknown, Found: blocked}
		if blocked == "" {
			c = judged(ctx, c, s.ask)
			if s.needed && c.State != report.CheckOK {
				blocked = "not asked: it failed before"
			}
		}
		if ctx.Err() != nil && blocked == "" {
			blocked = "interrupted"
		}
		out.Checks = append(out.Checks, c)
	}
	if len(p.stored) > 0 {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTime)
		defer cancel()
		out.Checks = append(out.Checks, judged(ctx, report.Check{Name: "delete"}, p.clean))
	}
	return out
}

// judged asks and fills in the answer.
func judged(ctx context.Context, c report.Check, ask func(context.Context) (string, error)) report.Check {
	found, err := ask(ctx)
	c.State, c.Found = report.CheckOK, found
	var no errNo
	var unknown errUnknown
	var failed *registry.Error
	switch {
	case err == nil:
	case errors.As(err, &no):
		c.State, c.Found, c.Fix, c.Needed = report.CheckNo, no.found, no.fix, c.Needed || no.needed
	case errors.As(err, &unknown):
		c.State, c.Found = report.CheckUnknown, unknown.why
	case errors.As(err, &failed):
		c.State, c.Found, c.Fix = report.CheckNo, failed.Reason, failed.Next
	default:
		c.State, c.Found = report.CheckNo, err.Error()
		var hinted interface{ Hint() string }
		if errors.As(err, &hinted) {
			c.Fix = hinted.Hint()
		}
	}
	return c
}

// configuration tells what is configured of the registry, and where.
func (p *probe) configuration(context.Context) (string, error) {
	configs, err := p.opts.Hosts.Read()
	var wrong *registry.HostError
	if errors.As(err, &wrong) {
		return "", errNo{found: wrong.Source + ": " + wrong.Reason, fix: wrong.Next}
	}
	if said := configs.Describe(p.ref.Host); said != "" {
		return said + " (" + configs.File + ")", nil
	}
	if configs.Hosts == nil {
		return "none: there is no " + configs.File, nil
	}
	return "nothing of it in " + configs.File, nil
}

// answers asks whether this is a registry, without any credential.
func (p *probe) answers(ctx context.Context) (string, error) {
	anonymous, err := newWire(p.ref, registry.Credential{}, p.client)
	if err != nil {
		return "", err
	}
	a, err := anonymous.ping(ctx)
	if err != nil {
		return "", p.explained(ctx, err)
	}
	if a.status != http.StatusOK && a.status != http.StatusUnauthorized {
		return "", errNo{found: "it is no registry: /v2/ answers with " + a.says(), fix: "check the address"}
	}
	found := a.header.Get("Docker-Distribution-Api-Version")
	if found == "" {
		found = "it tells no API version"
	}
	if a.from.Scheme == "http" {
		found += ", plain HTTP"
	}
	return found, nil
}

// explained is why no answer came, in the words of the client that would push.
func (p *probe) explained(ctx context.Context, err error) error {
	repo, clientErr := p.client.Repository(p.ref)
	if clientErr == nil {
		_, clientErr = repo.Resolve(ctx, probeTag)
	}
	var failed *registry.Error
	if errors.As(clientErr, &failed) && failed.Status == 0 {
		return failed
	}
	return err
}

// login asks whether the credential that a push would use is taken.
func (p *probe) login(ctx context.Context) (string, error) {
	var err error
	if p.cred, err = p.opts.Credentials.Lookup(ctx, p.ref.Name()); err != nil {
		return "", err
	}
	if p.wire, err = newWire(p.ref, p.cred, p.client); err != nil {
		return "", err
	}
	a, err := p.send(ctx, request{scopes: p.scopes(), method: http.MethodGet})
	var refused *transport.Error
	switch {
	case errors.As(err, &refused):
		return "", p.denied(fmt.Sprintf("status %d", refused.StatusCode))
	case err != nil:
		return "", p.explained(ctx, err)
	case a.status != http.StatusOK:
		return "", p.denied(a.says())
	case !p.cred.Found():
		return "none needed so far", nil
	}
	return p.cred.String(), nil
}

// denied is a refusal that another credential might change.
func (p *probe) denied(says string) error {
	what := "there is no credential for " + p.ref.Host
	if p.cred.Found() {
		what = p.cred.String() + " is refused"
	}
	return errNo{found: what + ": " + says, fix: fmt.Sprintf("run `docker login %s`, or check the name and what the account may do", p.ref.Host)}
}

// scopes of writing to the repository that was named.
func (p *probe) scopes() []string { return []string{"repository:" + p.ref.Repository + ":pull,push"} }

// nonce is text that nobody has pushed before.
func nonce() string { return rand.Text() }
