package buildkit

import (
	"regexp"
	"strings"

	"github.com/distribution/reference"
)

var (
	// registrySubject is what an error of a registry is about.
	registrySubject = regexp.MustCompile(`^(?:.*: )?failed to (push|resolve source metadata for) (\S+): (.*)$`)
	// cacheSubject is a cache export that failed.
	cacheSubject = regexp.MustCompile(`(?:^|: )error writing (?:layer|manifest|config) blob: (.*)$`)
	// tokenSubject is a token that logins could not fetch; what it was for is lost
	// on the way through the engine.
	tokenSubject = regexp.MustCompile(`^(?:.*: )?fetch a token: (.*)$`)
	// requestError is a request that got no answer. The URL in it says nothing
	// to a user, and may carry a signature.
	requestError = regexp.MustCompile(`(?:Get|Head|Put|Post|Patch) "https?://([^/"]+)[^"]*": (.*)$`)
	// requestStatus is one that got an unwelcome answer.
	requestStatus = regexp.MustCompile(`unexpected status from [A-Z]+ request to https?://([^/\s]+)\S*: (\d{3})([^:]*)(.*)$`)
	requestDenied = regexp.MustCompile(`(?i)\b401\b|unauthorized|no basic auth credentials|authorization failed|insufficient_scope|denied`)
)

// ownImages are images that BuildKit fetches for itself.
var ownImages = []struct{ name, what, next string }{
	{"docker.io/docker/dockerfile", "Dockerfile frontend", "the syntax line, or BUILDKIT_SYNTAX, asks for it; docker/dockerfile:1 is inside the engine"},
	{"docker.io/docker/buildkit-syft-scanner", "SBOM generator", "name one that can be reached: --sbom=generator=REF"},
}

const (
	writeCache  = "write the cache" // the subject of a cache export
	theRegistry = "the registry"    // a host that is not known
)

// registry explains a registry that cannot be asked, or says no. It reports
// whether it did.
func (e *BuildError) registry() bool {
	if m := cacheSubject.FindStringSubmatch(e.What); m != nil {
		return e.request(writeCache, theRegistry, m[1])
	}
	m := registrySubject.FindStringSubmatch(e.What)
	if m == nil {
		m = tokenSubject.FindStringSubmatch(e.What)
		return m != nil && e.request("log in", theRegistry, m[1])
	}
	subject, host := "push "+m[2], theRegistry
	if m[1] != "push" {
		subject = "base image " + m[2]
	}
	for _, own := range ownImages {
		if m[1] != "push" && strings.HasPrefix(m[2], own.name) {
			defer func() { e.Next = own.next }()
			subject = own.what + " " + m[2]
		}
	}
	if ref, err := reference.ParseNormalizedNamed(m[2]); err == nil {
		host = reference.Domain(ref)
	}
	return e.request(subject, host, m[3])
}

// request explains what a registry, or the way to it, answered.
func (e *BuildError) request(subject, host, said string) bool {
	if s := requestStatus.FindStringSubmatch(said); s != nil {
		if host == theRegistry {
			host = s[1]
		}
		e.What = subject + ": the registry answers " + s[2] + s[3] + s[4]
		e.Next = statusHint(s[2], host)
		return true
	}
	if requestDenied.MatchString(said) {
		e.What = subject + ": " + said
		e.Next = loginHint(host)
		return true
	}
	r := requestError.FindStringSubmatch(said)
	if r == nil {
		return false
	}
	// net/http closes its end of a connection that was reset, and tells of
	// whichever it meets first when it writes on.
	r[2] = strings.ReplaceAll(r[2], "use of closed network connection", "connection reset by peer")
	for _, rule := range connectionRules {
		if found := rule.match.FindString(r[2]); found != "" {
			e.What = subject + ": " + r[1] + ": " + found
			if strings.HasPrefix(found, r[1]+" ") {
				e.What = subject + ": " + found
			}
			e.Next = rule.next
			return true
		}
	}
	e.What = subject + ": " + r[1] + ": " + r[2]
	e.Next = "check the address and the network, and try again"
	return true
}

// connectionRules say what to do about a connection; what matches is told.
var connectionRules = []struct {
	match *regexp.Regexp
	next  string
}{
	{regexp.MustCompile(`connection refused`), "is the registry running, and is the address right?"},
	{regexp.MustCompile(`no such host`), "check the registry's name and this machine's DNS"},
	{regexp.MustCompile(`connection reset by peer|broken pipe|unexpected EOF|EOF`),
		"try again; a proxy or load balancer in front of the registry may cut connections"},
	{regexp.MustCompile(`\S+ has not answered for \S+`), "try again; LIGHTER_REGISTRY_TIMEOUT=10m, set when the engine starts, waits longer"},
	{regexp.MustCompile(`\S+ cannot be reached: .*|network is unreachable|no route to host|i/o timeout`),
		"check the address and the network, and HTTPS_PROXY where one is needed"},
	{regexp.MustCompile(`(?:x509|tls): .*`), "add the registry's authority to this machine's certificates, or as ca = [\"FILE\"] " + inConfig},
	{regexp.MustCompile(`server gave HTTP response to HTTPS client|\S+ would be spoken to in plain HTTP`), plainNext},
}

// inConfig is where single registries are configured, and plainNext what to do
// about one that speaks plain HTTP. A remote BuildKit reads the same file where
// it is.
const (
	inConfig  = `below [registry."HOST"] in ~/.config/buildkit/buildkitd.toml or /etc/buildkit/buildkitd.toml`
	plainNext = "plain HTTP is only accepted on loopback: if the network is trusted, put http = true " + inConfig
)

// statusHint is the next step after an answer.
func statusHint(code, host string) string {
	switch {
	case code == "401" || code == "403":
		return loginHint(host)
	case code == "404":
		return "check the name; some registries want the repository to be made first"
	case code == "413":
		return "the registry, or a proxy in front of it, takes no blobs of this size: raise its limit"
	case code == "429":
		return "the registry limits requests: try again later; `docker login " + host + "` raises the limit on most"
	case code[0] == '5':
		return "try again later; the registry's log says why"
	}
	return "check the name and what the registry accepts"
}

func loginHint(host string) string {
	return "log in with `docker login " + host + "`, or check what the account may do"
}
