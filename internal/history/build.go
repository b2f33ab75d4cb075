package history

import (
	"cmp"
	"os"
	"os/user"
	"strings"
	"time"

	"github.com/lighter-oci/lighter/internal/event"
	"github.com/lighter-oci/lighter/internal/report"
)

// State says how far a build got.
type State string

// The states of a build.
const (
	Queued      State = "queued"
	Running     State = "running"
	Done        State = "done"
	Failed      State = "failed"
	Killed      State = "killed"      // somebody stopped it
	Interrupted State = "interrupted" // its process died
)

// Over tells whether nothing more will come.
func (s State) Over() bool { return s != Queued && s != Running }

// Variants is how people read what a build says of its variant, or of several: that of
// the project itself is "" or, on a command line, ".".
func Variants(names string) string {
	list := strings.Split(names, ",")
	for i, name := range list {
		if name == "" || name == "." {
			list[i] = "default"
		}
	}
	return strings.Join(list, ", ")
}

// Who is the user at this machine, as Begun has it.
func Who() string {
	name, host := cmp.Or(os.Getenv("USER"), "somebody"), "this machine"
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	if h, err := os.Hostname(); err == nil {
		host = h
	}
	return name + "@" + host
}

// By which way a build was started.
const (
	HowCLI     = "cli"
	HowKitchen = "kitchen"
	HowAPI     = "api"
)

// Begun is what is known of a build when it begins. There is no place in it for
// values of build arguments, secrets or the environment.
type Begun struct {
	ID        string   `json:"id"` // "" lets Begin choose
	Parent    string   `json:"parent,omitempty"`
	Project   string   `json:"project"` // its name
	Dir       string   `json:"dir,omitempty"`
	Verb      string   `json:"verb"` // build, pack, publish, convert
	Variant   string   `json:"variant,omitempty"`
	Platforms []string `json:"platforms,omitempty"`
	Version   string   `json:"version,omitempty"`
	Source
	Who     string    `json:"who"` // user@host
	How     string    `json:"how"` // cli, kitchen, api
	Engine  string    `json:"engine,omitempty"`
	Names   []string  `json:"names,omitempty"` // of the image
	Started time.Time `json:"started"`         // by the clock then; the zero time is now
}

// Source is what was built, as git knows it. It may become known later than a build
// begins.
type Source struct {
	Commit string `json:"commit,omitempty"`
	Branch string `json:"branch,omitempty"`
	Dirty  bool   `json:"dirty,omitempty"` // files were not as in Commit
}

// Outcome is how a build ended, and what its report says beyond the events.
type Outcome struct {
	State    State            `json:"state"`
	Error    string           `json:"error,omitempty"`
	Stages   []string         `json:"stages,omitempty"` // as in report.Build
	Proofs   []report.Proof   `json:"proofs,omitempty"`
	Findings []report.Finding `json:"findings,omitempty"`
}

// Build is one row of the history.
type Build struct {
	Begun
	State   State            `json:"state"`
	Ended   time.Time        `json:"ended,omitzero"`
	Took    report.Seconds   `json:"seconds"` // so far, where it is running
	Error   string           `json:"error,omitempty"`
	Digest  string           `json:"digest,omitempty"`
	Image   int64            `json:"imageBytes"`
	Pushed  int64            `json:"pushedBytes"`
	Moved   int64            `json:"movedBytes"`
	Steps   report.StepCount `json:"steps"`
	Slowest string           `json:"slowest,omitempty"` // the text of a step
	Log     int64            `json:"logBytes"`          // that were recorded
	Stored  int64            `json:"storedBytes"`       // that it takes in the history
}

// fill takes over what the row shows of a report.
func (b *Build) fill(r report.Report) {
	b.Digest, b.Steps = r.Summary.Digest, r.Summary.Steps
	b.Image, b.Pushed, b.Moved = r.Summary.Image.Total, r.Summary.Moved.Pushed, r.Summary.Moved.Total
	if r.Summary.Slowest != nil {
		b.Slowest = r.Summary.Slowest.Text
	}
	if len(r.Summary.Names) > 0 {
		b.Names = r.Summary.Names
	}
}

// line is one line of a journal: the first has Begun, the last Ended, one may have
// Source, each other an event.
type line struct {
	Begun  *Begun  `json:"begun,omitempty"`
	Source *Source `json:"source,omitempty"`
	Ended  *ended  `json:"ended,omitempty"`
	event.Event
	Log *logged `json:"log,omitempty"` // in place of the event's
}

type ended struct {
	Outcome
	Time time.Time `json:"time"`
}

// logged is an event.Log whose data is text where it can be: shorter than
// base64, three times better to compress, and good to read.
type logged struct {
	Step    string `json:"step"`
	Stream  int    `json:"stream"`
	Text    string `json:"text,omitempty"`
	Data    []byte `json:"data,omitempty"`
	Dropped int    `json:"dropped,omitempty"`
}

// SumUp makes the numbers of a release those of the builds that it is made of, if
// any: steps of its own come from no cache.
func SumUp(s *report.Summary, parts []Build) {
	if len(parts) == 0 {
		return
	}
	s.Steps, s.Moved = report.StepCount{}, report.Moved{}
	for _, p := range parts {
		s.Steps.Total += p.Steps.Total
		s.Steps.Cached += p.Steps.Cached
		s.Moved.Total += p.Moved
		s.Moved.Pushed += p.Pushed
	}
}
