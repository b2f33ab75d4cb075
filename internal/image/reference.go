package image

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
)

// Reference is a normalized name of an image in a registry:
// docker.io/library/busybox:latest for "busybox".
type Reference struct {
	Host       string        // "docker.io", "localhost:5000"
	Repository string        // "library/busybox"
	Tag        string        // "latest" where neither tag nor digest was given
	Digest     digest.Digest // "" where none was given
}

// ParseReference reads what docker pull reads. The error is one line that
// quotes s.
func ParseReference(s string) (Reference, error) {
	named, err := reference.ParseNormalizedNamed(s)
	if err != nil {
		return Reference{}, fmt.Errorf("image reference %.300q: %s", s, reason(err))
	}
	r := Reference{Host: reference.Domain(named), Repository: reference.Path(named)}
	if t, ok := named.(reference.Tagged); ok {
		r.Tag = t.Tag()
	}
	if d, ok := named.(reference.Digested); ok {
		r.Digest = d.Digest()
	}
	if r.Tag == "" && r.Digest == "" {
		r.Tag = "latest"
	}
	return r, nil
}

// reason is what is wrong with a reference, without the reference: the parser
// repeats it raw, line breaks included.
func reason(err error) string {
	switch {
	case errors.Is(err, reference.ErrNameTooLong):
		return fmt.Sprintf("the repository has more than %d characters", reference.RepositoryNameTotalLengthMax)
	case errors.Is(err, digest.ErrDigestUnsupported), errors.Is(err, digest.ErrDigestInvalidLength), errors.Is(err, digest.ErrDigestInvalidFormat):
		return err.Error()
	case strings.HasSuffix(err.Error(), "must be lowercase"):
		return "the repository must be lowercase"
	case strings.HasSuffix(err.Error(), "64-byte hexadecimal strings"):
		return "it looks like an image ID; name a repository"
	}
	return "want [HOST/]NAME[:TAG][@DIGEST]"
}

// Identifier is what a Source resolves: the digest where there is one, else
// the tag.
func (r Reference) Identifier() string {
	if r.Digest != "" {
		return r.Digest.String()
	}
	return r.Tag
}

// Name is host and repository, without tag and digest.
func (r Reference) Name() string { return r.Host + "/" + r.Repository }

// String is the whole name; ParseReference reads it back as the same.
func (r Reference) String() string {
	s := r.Name()
	if r.Tag != "" {
		s += ":" + r.Tag
	}
	if r.Digest != "" {
		s += "@" + r.Digest.String()
	}
	return s
}

// Loopback tells whether the registry is on this machine, so that plain HTTP
// to it shows nothing to anybody else. Names that end in .localhost never
// leave the machine (RFC 6761, section 6.3).
func (r Reference) Loopback() bool { return LoopbackHost(r.Host) }

// LoopbackHost is Loopback for "host" or "host:port".
func LoopbackHost(host string) bool {
	name := host
	if h, _, err := net.SplitHostPort(host); err == nil {
		name = h
	}
	name = strings.TrimSuffix(strings.ToLower(strings.Trim(name, "[]")), ".")
	if name == "localhost" || strings.HasSuffix(name, ".localhost") {
		return true
	}
	addr, err := netip.ParseAddr(name)
	return err == nil && addr.IsLoopback()
}
