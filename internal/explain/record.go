package explain

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"io/fs"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/lighter-oci/lighter/internal/engine"
	"github.com/lighter-oci/lighter/internal/event"
)

// Record is what a build was made of, to hold the next one against. Build
// arguments and the words of the Dockerfile, which can hold a secret, are in it
// as keyed hashes only; the contents of files are not in it at all.
type Record struct {
	Version int               `json:"version"`
	Salt    []byte            `json:"salt"`
	Args    map[string]string `json:"args"`   // build arguments, and flags that steps depend on → hash
	Bases   map[string]string `json:"bases"`  // stage and platform → digest of its base image
	Stages  []recordedStage   `json:"stages"` // in the Dockerfile's order
	// Files is a line for each file of the context, by path: size, mode, modification
	// time (ns), sum, path. 100,000 of them as objects would take five times as
	// long to read.
	Files []string `json:"files"`
}

type recordedStage struct {
	Name  string   `json:"name"`
	Base  string   `json:"base"`  // hash of what FROM names
	Chain []string `json:"chain"` // hashes of everything it rests on and says
}

const recordVersion = 1

// RecordOf is the record of a build. Sums of files that were not read this time
// come from the record before.
func RecordOf(in Input) Record {
	r := Record{Version: recordVersion, Salt: make([]byte, 16), Args: map[string]string{}, Bases: bases(in)}
	if in.Before != nil {
		r.Salt = in.Before.Salt
	} else {
		rand.Read(r.Salt) // which ends the program rather than fail
	}
	for name, value := range arguments(in.Request) {
		r.Args[name] = r.hash(value)
	}
	for i, st := range in.Outline.Stages {
		rs := recordedStage{Name: st.Name, Base: r.hash(st.Base)}
		for _, c := range chain(in.Outline, i, len(st.Instructions)-1) {
			rs.Chain = append(rs.Chain, r.hash(c.Text))
		}
		r.Stages = append(r.Stages, rs)
	}
	r.Files = make([]string, len(in.Context))
	before := in.Before.cursor()
	for i, f := range in.Context {
		now := fingerprintOf(f)
		if line, was, ok := before.at(f.Path); ok && now.sum == 0 && was.size == now.size && was.mode == now.mode && was.time == now.time {
			r.Files[i] = line
			continue
		}
		r.Files[i] = now.line(f.Path)
	}
	return r
}

// hash is a short keyed hash: enough to tell two values apart, and of no use
// to a dictionary that was made for others.
func (r *Record) hash(value string) string {
	m := hmac.New(sha256.New, r.Salt)
	m.Write([]byte(value))
	return hex.EncodeToString(m.Sum(nil)[:12])
}

// arguments are the build arguments, and by the names of their flags what else
// of a command line the engine makes part of a step.
func arguments(req engine.Request) map[string]string {
	args := maps.Clone(req.BuildArgs)
	if args == nil {
		args = map[string]string{}
	}
	for flag, value := range map[string]string{
		"--add-host":      strings.Join(req.AddHosts, ","),
		"--network":       strings.TrimPrefix(req.Network, "default"),
		"--ulimit":        strings.Join(req.Ulimits, ","),
		"--cgroup-parent": req.CgroupParent,
	} {
		if value != "" {
			args[flag] = value
		}
	}
	if req.ShmSize > 0 {
		args["--shm-size"] = strconv.FormatInt(req.ShmSize, 10)
	}
	for name, value := range req.NamedContexts {
		args[namedContext+name] = value
	}
	return args
}

const namedContext = "--build-context "

var digestAt = regexp.MustCompile(`@(sha256:[0-9a-f]{64})`)

// bases are the digests of base images, as the engine resolved them.
func bases(in Input) map[string]string {
	out := map[string]string{}
	for _, s := range in.Report.Steps {
		if m := digestAt.FindStringSubmatch(s.Name); m != nil && s.Kind == event.StepSource && s.Total > 0 {
			name := s.Stage
			if name == "" && len(in.Outline.Stages) == 1 {
				name = in.Outline.Stages[0].Name
			}
			out[baseKey(name, s.Platform)] = m[1]
		}
	}
	return out
}

func baseKey(stage, platform string) string { return strings.TrimSpace(stage + " " + platform) }

// stage is the record of a stage by its name; nil where it had none.
func (r *Record) stage(name string) *recordedStage {
	i := slices.IndexFunc(r.Stages, func(s recordedStage) bool { return s.Name == name })
	if i < 0 {
		return nil
	}
	return &r.Stages[i]
}

// fingerprint tells a file from another state of itself.
type fingerprint struct {
	size int64
	mode uint32
	time int64 // ns; 0 of what is no regular file
	sum  uint32
}

func fingerprintOf(f engine.ContextFile) fingerprint {
	p := fingerprint{size: f.Size, mode: f.Mode, sum: f.Sum}
	if !f.ModTime.IsZero() {
		p.time = f.ModTime.UnixNano()
	}
	return p
}

func (p fingerprint) dir() bool { return fs.FileMode(p.mode).IsDir() }

// same tells whether a file has not changed in a way that the cache looks at:
// not its time but what is in it. Where nobody knows that, the time decides.
func (p fingerprint) same(o fingerprint) bool {
	if p.size != o.size || p.mode != o.mode {
		return false
	}
	if p.sum != 0 && o.sum != 0 {
		return p.sum == o.sum
	}
	return p.time == o.time
}

func (p fingerprint) line(path string) string {
	b := make([]byte, 0, 64+len(path))
	b = append(strconv.AppendInt(b, p.size, 36), ' ')
	b = append(strconv.AppendUint(b, uint64(p.mode), 36), ' ')
	b = append(strconv.AppendInt(b, p.time, 36), ' ')
	b = append(strconv.AppendUint(b, uint64(p.sum), 36), ' ')
	return string(append(b, path...))
}

// parseFile reads what line wrote.
func parseFile(line string) (path string, p fingerprint, ok bool) {
	var n [4]int64
	for i := range n {
		word, rest, found := strings.Cut(line, " ")
		v, err := strconv.ParseInt(word, 36, 64)
		if err != nil || !found {
			return "", p, false
		}
		n[i], line = v, rest
	}
	return line, fingerprint{n[0], uint32(n[1]), n[2], uint32(n[3])}, true //nolint:gosec // written as such
}

// cursor goes through the files of a record beside those of a context: both
// are sorted, and a map of 100,000 would cost more than the rest.
func (r *Record) cursor() *cursor {
	if r == nil {
		return &cursor{}
	}
	return &cursor{lines: r.Files}
}

type cursor struct {
	lines []string
	path  string
	is    fingerprint
	read  bool // path and is are those of lines[0]
}

// next is the first file that was not passed; ok is false behind the last. Lines
// that cannot be read are left out.
func (c *cursor) next() (path string, is fingerprint, ok bool) {
	for !c.read && len(c.lines) > 0 {
		if c.path, c.is, c.read = parseFile(c.lines[0]); !c.read {
			c.lines = c.lines[1:]
		}
	}
	return c.path, c.is, c.read
}

// pass leaves the first file behind.
func (c *cursor) pass() {
	if _, _, ok := c.next(); ok {
		c.lines, c.read = c.lines[1:], false
	}
}

// at finds a path, which comes behind those that were asked for before, and
// leaves behind what comes before it.
func (c *cursor) at(want string) (line string, is fingerprint, ok bool) {
	for {
		path, is, ok := c.next()
		switch {
		case !ok || path > want:
			return "", is, false
		case path == want:
			return c.lines[0], is, true
		}
		c.pass()
	}
}
