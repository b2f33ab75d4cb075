package image

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
)

// Transport says what keeps an image, by the names that skopeo gave them
// (containers-transports(5)).
type Transport string

// The transports.
const (
	InRegistry      Transport = "docker"         // docker://HOST/NAME:TAG, or the name alone
	InLayout        Transport = "oci"            // oci:DIR[:REF]
	InArchive       Transport = "oci-archive"    // oci-archive:FILE[:REF]
	InDockerArchive Transport = "docker-archive" // docker-archive:FILE[:NAME:TAG]
	InDocker        Transport = "docker-daemon"  // docker-daemon:NAME:TAG
	InContainerd    Transport = "containerd"     // containerd:NAME:TAG
)

var transports = []Transport{InRegistry, InLayout, InArchive, InDockerArchive, InDocker, InContainerd}

// Location is where an image is, or goes: what a user types.
type Location struct {
	Transport Transport
	Path      string // of a directory or file; "" in registries and daemons
	Ref       string // what is asked for there; "" for the only image of a path
}

// ParseLocation reads TRANSPORT:WHERE. What names no transport is in a registry.
// The error is one line that quotes s.
func ParseLocation(s string) (Location, error) {
	if rest, ok := strings.CutPrefix(s, "docker://"); ok {
		return registryLocation(rest)
	}
	name, rest, ok := strings.Cut(s, ":")
	if !ok || !slices.Contains(transports, Transport(name)) {
		if strings.Contains(s, "://") {
			return Location{}, fmt.Errorf("image location %.300q: unknown transport; use docker://, or one of %s", s, transportNames())
		}
		l, err := registryLocation(s)
		if err != nil {
			err = fmt.Errorf("%w; what is in no registry begins with one of %s", err, transportNames())
		}
		return l, err
	}
	l := Location{Transport: Transport(name)}
	switch l.Transport {
	case InRegistry:
		return Location{}, fmt.Errorf("image location %.300q: want docker://HOST/NAME:TAG", s)
	case InDocker, InContainerd:
		if _, err := digest.Parse(rest); err == nil && l.Transport == InDocker {
			l.Ref = rest // an image ID
			return l, nil
		}
		ref, err := ParseReference(rest)
		if err != nil {
			return l, err
		}
		l.Ref = ref.String()
		return l, nil
	}
	l.Path, l.Ref = splitPath(rest)
	if l.Path == "" {
		return l, fmt.Errorf("image location %.300q: want %s:PATH[:REF]", s, l.Transport)
	}
	return l, nil
}

func registryLocation(s string) (Location, error) {
	ref, err := ParseReference(s)
	if err != nil {
		return Location{}, err
	}
	return Location{Transport: InRegistry, Ref: ref.String()}, nil
}

func transportNames() string {
	var names []string
	for _, t := range transports[1:] {
		names = append(names, string(t)+":")
	}
	return strings.Join(names, " ")
}

// splitPath parts PATH[:REF] at the first colon behind which no path goes on. A
// drive letter's colon is part of the path.
func splitPath(s string) (dir, ref string) {
	from := len(filepath.VolumeName(s))
	if i := strings.IndexByte(s[from:], ':'); i >= 0 {
		return s[:from+i], s[from+i+1:]
	}
	return s, ""
}

// String is the location as ParseLocation reads it.
func (l Location) String() string {
	switch {
	case l.Transport == InRegistry:
		return "docker://" + l.Ref
	case l.Path == "":
		return string(l.Transport) + ":" + l.Ref
	case l.Ref == "":
		return string(l.Transport) + ":" + l.Path
	}
	return string(l.Transport) + ":" + l.Path + ":" + l.Ref
}

// Short is the location for a line that people read, or copy into a command:
// String, without what a name in a registry need not say.
func (l Location) Short() string {
	if l.Transport == InRegistry {
		return strings.TrimPrefix(l.Ref, "docker.io/library/")
	}
	return l.String()
}
