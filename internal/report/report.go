// Package report owns the answers that the events of one build hold: how long,
// how much from cache, how many bytes, what was slowest, which stages ran
// together, which chain of steps set the pace, and what became of each layer.
//
// Everything here is a pure function of events and of what a caller read back
// from a registry. It never prints, colours, stores or waits, and knows no
// clock.
package report

import (
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/lighter-oci/lighter/internal/event"
)

// Report is what --format json prints after a build. Field names are stable;
// fields may be added. Sizes are bytes, times are seconds with microseconds
// behind the point, lists are never null.
type Report struct {
	Summary  Summary         `json:"summary"`
	Steps    []Step          `json:"steps"`        // in the order they started; those that never did last
	Stages   []Stage         `json:"stages"`       // in the Dockerfile's order where known, else of their first step
	Overlaps []Overlap       `json:"overlaps"`     // longest first
	Path     []PathStep      `json:"criticalPath"` // first to last
	Layers   []Layer         `json:"layers"`       // in the image's order where known, else of appearance
	Proofs   []Proof         `json:"proofs"`       // what the registry's own bytes say, one for each variant
	Mounts   []event.Mount   `json:"mounts"`       // cache mounts that came from, or went to another machine
	Warnings []event.Warning `json:"warnings"`
	Findings []Finding       `json:"findings"` // what cost the most first
}

// Summary is the build in one screen.
type Summary struct {
	Build   string    `json:"build,omitempty"`
	Error   string    `json:"error,omitempty"`  // empty when it succeeded
	Digest  string    `json:"digest,omitempty"` // of the manifest or index
	Names   []string  `json:"names"`
	Started time.Time `json:"started"` // the first event
	Took    Seconds   `json:"seconds"` // from there to the result, or to the last event so far
	Steps   StepCount `json:"steps"`
	Slowest *Step     `json:"slowest,omitempty"` // of every kind; absent where nothing took time
	Moved   Moved     `json:"movedBytes"`
	Image   Image     `json:"imageBytes"`
}

// StepCount counts instructions: what a Dockerfile says, apart from FROM. An
// instruction that BuildKit runs as several vertices counts once.
type StepCount struct {
	Total    int `json:"total"`
	Cached   int `json:"cached"`
	Run      int `json:"run"`
	Failed   int `json:"failed"`
	Canceled int `json:"canceled"` // stopped because another failed or the user left
	Running  int `json:"running"`  // only in a report made before the end
	Pending  int `json:"pending"`  // known, never started
}

// Moved is the bytes that travelled, each blob counted once per way it went.
type Moved struct {
	Total   int64 `json:"total"`
	Context int64 `json:"context"` // from the client to the engine: build context, Dockerfile
	Pulled  int64 `json:"pulled"`  // base images and remote cache
	Pushed  int64 `json:"pushed"`  // layers to registries
	Loaded  int64 `json:"loaded"`  // layers to daemons of this machine
	Written int64 `json:"written"` // files and layers to the client's disk
	Mounts  int64 `json:"mounts"`  // contents of cache mounts, both ways, and the agent that carries them
}

// Image is the layer bytes of the result, each blob counted once.
type Image struct {
	Total  int64 `json:"total"`
	Made   int64 `json:"made"`   // compressed or converted in this build
	Pushed int64 `json:"pushed"` // travelled to a registry
	Kept   int64 `json:"kept"`   // the registry had or linked them, or the daemon had them
}

// State is how far a step got.
type State string

// The states of a step.
const (
	Pending  State = "pending"
	Running  State = "running"
	Cached   State = "cached"
	Run      State = "run"
	Failed   State = "failed"
	Canceled State = "canceled"
)

// Step is one instruction of a Dockerfile, or one other thing the engine did.
type Step struct {
	ID       string         `json:"id"`   // of its first vertex
	Name     string         `json:"name"` // as the engine gave it, control characters included
	Kind     event.StepKind `json:"kind"`
	Stage    string         `json:"stage,omitempty"`
	Platform string         `json:"platform,omitempty"`
	Index    int            `json:"index,omitempty"` // within the stage, 1-based
	Total    int            `json:"total,omitempty"` // of the stage
	Text     string         `json:"text"`            // the name as people read it: "RUN cargo build"; see ShortText
	State    State          `json:"state"`
	Started  *time.Time     `json:"started,omitempty"` // on the engine's clock
	Took     Seconds        `json:"seconds"`           // time in which it ran, without gaps
	Runs     []Stretch      `json:"runs,omitempty"`    // where there are gaps: when it ran
	Error    string         `json:"error,omitempty"`
}

// Stretch is a stretch of time in which a step ran.
type Stretch struct {
	Started time.Time `json:"started"`
	Took    Seconds   `json:"seconds"`
}

// Stage is one stage of a Dockerfile for one platform.
type Stage struct {
	Name     string     `json:"name"`
	Platform string     `json:"platform,omitempty"`
	State    StageState `json:"state"`
	Steps    int        `json:"steps"` // instructions
	Cached   int        `json:"cached"`
	Started  *time.Time `json:"started,omitempty"` // the first instruction that was not cached
	Took     Seconds    `json:"seconds"`           // time in which at least one such instruction ran
}

// StageState says whether a stage did anything.
type StageState string

// The states of a stage.
const (
	StageRun    StageState = "run"
	StageCached StageState = "cached" // needed, but nothing had to run
	StageNever  StageState = "never"  // not needed, or not reached
)

// Label is the stage as BuildKit names it: "linux/amd64 builder", "builder".
func (s Stage) Label() string {
	if s.Platform == "" {
		return s.Name
	}
	if s.Name == "" {
		return s.Platform
	}
	return s.Platform + " " + s.Name
}

// Overlap is two stages whose instructions ran at the same time.
type Overlap struct {
	A    string  `json:"a"` // labels
	B    string  `json:"b"`
	Took Seconds `json:"seconds"` // for how long together
}

// PathStep is one link of the chain that set the pace: making any of them
// faster makes the build faster, until another chain is the longest.
type PathStep struct {
	Step
	Wait Seconds `json:"waitSeconds"` // between the end of what it waited for and its own start
}

// Seconds is a duration that reads and writes JSON as a number of seconds,
// rounded to microseconds.
type Seconds time.Duration

// MarshalJSON writes 1.5 for a second and a half.
func (s Seconds) MarshalJSON() ([]byte, error) {
	us := time.Duration(s).Round(time.Microsecond).Microseconds()
	return strconv.AppendFloat(nil, float64(us)/1e6, 'f', -1, 64), nil
}

// UnmarshalJSON reads what MarshalJSON wrote.
func (s *Seconds) UnmarshalJSON(b []byte) error {
	f, err := strconv.ParseFloat(string(b), 64)
	if err != nil || math.Abs(f) > math.MaxInt64/1e9 {
		return fmt.Errorf("%q is no number of seconds", b)
	}
	*s = Seconds(math.Round(f*1e6)) * Seconds(time.Microsecond)
	return nil
}

// Duration is the same as a time.Duration.
func (s Seconds) Duration() time.Duration { return time.Duration(s) }

// String is the duration in words of package units: "0.84 s", "1m 12s".
func (s Seconds) String() string { return Duration(time.Duration(s)) }
