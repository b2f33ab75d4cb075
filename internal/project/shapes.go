package project

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/platforms"

	"github.com/lighter-oci/lighter/internal/codec"
	"github.com/lighter-oci/lighter/internal/image"
)

// shape is what a string may look like.
type shape struct {
	want    string              // "an image name, as …"
	fits    func(string) string // why it does not; "" where it does; nil takes everything that matches
	pattern string              // for editors, too; whole strings
	number  bool                // an integer will do
	once    bool                // in a list
	oneOf   []string            // all there are, for editors and for typos
}

// toolchains are the known ones.
var toolchains = []string{"go", "cargo", "cargo-zigbuild", "rust", "zig", "c", "c++"}

const (
	tagCharacters = `[A-Za-z0-9_{][A-Za-z0-9_.{}-]{0,127}`
	nameOrNumber  = `[A-Za-z0-9_][A-Za-z0-9_.-]*`
)

// shapes are what the tag "is" names.
var shapes = map[string]shape{
	"image":       {want: "an image name, as registry.example.com/team/app", fits: imageName},
	"base":        {want: "scratch or an image name, as gcr.io/distroless/static", fits: baseName},
	"tag":         {want: "a tag, as {version} or latest: letters, digits, _ . -", pattern: tagCharacters, fits: placeholders, once: true},
	"template":    {want: "a tag, with {version} or axes in it: letters, digits, _ . -", pattern: tagCharacters, once: true},
	"platform":    {want: "OS/ARCH, as linux/arm64", fits: platform, once: true},
	"compression": {want: "zstd[:1-22], gzip[:1-9] or uncompressed", fits: compression, once: true},
	"cache":       {want: "auto, a name in a registry, oci:DIR or gha", fits: cacheName},
	"context":     {want: "a directory, oci-layout://DIR, docker-image://REF or a URL", pattern: `[^\x00-\x1f]+`, fits: namedContext},
	"size":        {want: wantSize, pattern: sizePattern, fits: why(ParseSize)},
	"age":         {want: wantAge, pattern: agePattern, fits: why(ParseAge)},
	"outcome":     {want: "success or always", oneOf: []string{"success", "always"}},
	"toolchain":   {want: "one of " + strings.Join(toolchains, ", "), oneOf: toolchains},
	"version":     {want: "git, a file that has it, or the version itself, as 1.2.3", pattern: `\S(.*\S)?`},
	"word":        {want: "a string that is not empty", pattern: `[\s\S]+`},
	"feature":     {want: "the name of a feature", pattern: `[^\s,\x00-\x1f\x7f]+`, once: true},
	"binary":      {want: "the name of a binary", pattern: `[^\s/\x00-\x1f\x7f]+`, once: true},
	"include":     {want: "certificates, tzdata or tmp", oneOf: []string{"certificates", "tzdata", "tmp"}, once: true},
	"axis":        {want: "a value of letters, digits, _ . -", pattern: `[A-Za-z0-9_.-]+`, once: true},
	"command":     {want: "a command line, or an array of program and arguments", pattern: `[\s\S]+`},
	"path":        {want: "a path", pattern: `[^\x00]+`},
	"absolute":    {want: "an absolute path in the image, as /etc/app/", pattern: `/[^\x00]*`, fits: clean},
	"variable":    {want: "the name of an environment variable", pattern: `[A-Za-z_][A-Za-z0-9_]*`},
	"user":        {want: "a name or number, with :GROUP where wanted, as nonroot or 1000:1000", pattern: nameOrNumber + `(:` + nameOrNumber + `)?`, number: true, fits: user},
	"owner":       {want: "UID or UID:GID, as 1000:1000", pattern: `\d{1,10}(:\d{1,10})?`, number: true, fits: owner},
	"mode":        {want: `permissions in octal, as "0644" or 0o644`, pattern: `0o?[0-7]{1,4}`, number: true},
	"port":        {want: "a port, as 8080 or 53/udp", pattern: `\d{1,5}(/(tcp|udp|sctp))?`, number: true, fits: port, once: true},
}

// wrong says what a string lacks to be of a shape, or nothing.
func (s shape) wrong(text string) string {
	if s.oneOf != nil && !slices.Contains(s.oneOf, text) {
		return fmt.Sprintf("%.100q: want %s", text, s.want) + maybe(text, s.oneOf)
	}
	if s.pattern != "" && !regexp.MustCompile(`\A(?:`+s.pattern+`)\z`).MatchString(text) {
		return fmt.Sprintf("%.100q: want %s", text, s.want)
	}
	if s.fits == nil {
		return ""
	}
	if why := s.fits(text); why != "" {
		return fmt.Sprintf("%.100q: %s", text, why)
	}
	return ""
}

// maybe is a typo's correction, or nothing.
func maybe(text string, known []string) string {
	if n := nearest(text, known); n != "" {
		return "; did you mean " + n + "?"
	}
	return ""
}

func imageName(s string) string {
	ref, err := image.ParseReference(s)
	switch {
	case err != nil:
		return reason(err)
	case ref.Digest != "":
		return "a build decides its digest itself: name a tag only"
	}
	return ""
}

// reason is an error without the text that it quotes: "KIND "TEXT": WHY".
func reason(err error) string {
	_, why, ok := strings.Cut(err.Error(), `": `)
	if !ok {
		return err.Error()
	}
	return why
}

func baseName(s string) string {
	if s == "scratch" {
		return ""
	}
	if _, err := image.ParseReference(s); err != nil {
		return reason(err)
	}
	return ""
}

func platform(s string) string {
	if s == "local" {
		return ""
	}
	if p, err := platforms.Parse(s); err != nil || !strings.Contains(s, "/") || p.OS == "" {
		return "want OS/ARCH, as linux/arm64"
	}
	return ""
}

func compression(s string) string {
	if _, err := codec.Parse(s); err != nil {
		return reason(err)
	}
	return ""
}

func cacheName(s string) string {
	if s == "auto" || s == "gha" {
		return ""
	}
	if dir, ok := strings.CutPrefix(s, "oci:"); ok {
		if dir == "" {
			return "want oci:DIR"
		}
		return ""
	}
	if ref, err := image.ParseReference(s); err != nil {
		return reason(err)
	} else if ref.Digest != "" {
		return "a cache is written anew: name a tag, not a digest"
	}
	return ""
}

// namedContext refuses what no build can read. What is filled in later is looked
// at by the build.
func namedContext(s string) string {
	scheme, rest, ok := strings.Cut(s, "://")
	switch {
	case !ok:
		return ""
	case !slices.Contains([]string{"oci-layout", "docker-image", "http", "https", "git", "ssh"}, scheme) || rest == "":
		return "want a directory, oci-layout://DIR, docker-image://REF or a URL"
	case scheme == "docker-image" && !strings.Contains(rest, "{"):
		if _, err := image.ParseReference(rest); err != nil {
			return reason(err)
		}
	}
	return ""
}

// placeholder is what stands in braces.
var placeholder = regexp.MustCompile(`\{[^{}]*\}`)

// placeholders refuses a tag that would not be one once its placeholders are
// filled in. Axes of a matrix are filled in before.
func placeholders(s string) string {
	known := placeholderNames
	var unknown string
	filled := placeholder.ReplaceAllStringFunc(s, func(p string) string {
		if name := p[1 : len(p)-1]; !slices.Contains(known, name) && unknown == "" {
			unknown = fmt.Sprintf("{%s} is no placeholder; %s", name, didYouMean(name, known))
		}
		return "0"
	})
	switch {
	case unknown != "":
		return unknown
	case strings.ContainsAny(filled, "{}"):
		return "a brace is left open"
	}
	return ""
}

func clean(s string) string {
	if c := path.Clean(s); c != strings.TrimSuffix(s, "/") && s != "/" {
		return "want it without detours: " + c
	}
	return ""
}

func owner(s string) string {
	for id := range strings.SplitSeq(s, ":") {
		if n, err := strconv.ParseUint(id, 10, 32); err != nil || n == 1<<32-1 {
			return "no such ID: they end at 4294967294"
		}
	}
	return ""
}

// user refuses numbers that no user has; names are the image's.
func user(s string) string {
	for id := range strings.SplitSeq(s, ":") {
		if strings.Trim(id, "0123456789") == "" && owner(id) != "" {
			return owner(id)
		}
	}
	return ""
}

func port(s string) string {
	number, _, _ := strings.Cut(s, "/")
	if n, err := strconv.Atoi(number); err != nil || n < 1 || n > 65535 {
		return "want a port from 1 to 65535"
	}
	return ""
}
