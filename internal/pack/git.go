package pack

import (
	"context"
	"net/url"
	"os"
	"os/exec"
	"regexp"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Origin are the annotations that say which source an image was made of: what
// git knows of a directory, nothing where it is in no repository.
func Origin(ctx context.Context, dir string) map[string]string {
	out := map[string]string{}
	// -dirty is said of what is under version control only: build directories
	// and the like change nothing.
	if revision := git(ctx, dir, "describe", "--always", "--exclude=*", "--abbrev=40", "--dirty"); revision != "" {
		out[ocispec.AnnotationRevision] = revision
	}
	if source := sourceURL(git(ctx, dir, "remote", "get-url", "origin")); source != "" {
		out[ocispec.AnnotationSource] = source
	}
	return out
}

func git(ctx context.Context, dir string, args ...string) string {
	cmd := exec.CommandContext(ctx, "git", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GIT_OPTIONAL_LOCKS=0")
	out, err := cmd.Output()
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(out))
}

// scp is git's short form of an SSH URL: user@host:path.
var scp = regexp.MustCompile(`\A(?:[^@/:]+@)?([^/:]+):([^/].*)\z`)

// sourceURL is a remote as a URL that anybody can open: https, and without what
// logs in. A path on this machine is none.
func sourceURL(remote string) string {
	if m := scp.FindStringSubmatch(remote); m != nil && !strings.Contains(remote, "://") {
		remote = "https://" + m[1] + "/" + m[2]
	}
	u, err := url.Parse(remote)
	if err != nil || u.Hostname() == "" {
		return ""
	}
	switch u.Scheme {
	case "https", "http":
	case "ssh", "git", "git+ssh":
		u.Scheme, u.Host = "https", u.Hostname()
	default:
		return ""
	}
	u.User, u.RawQuery, u.Fragment = nil, "", ""
	u.Path = strings.TrimSuffix(u.Path, ".git")
	return u.String()
}
