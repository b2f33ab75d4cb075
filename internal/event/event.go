// Package event owns what happened: the one vocabulary in which an engine, a
// pack or a registry tells its readers (terminal, JSON, history, dashboard)
// what they did, when, and how many bytes it took.
//
// It never renders, stores or decides anything, and it imports no other room.
package event

import "time"

// Event is one thing that happened in one build. Exactly one of the pointers
// is set. Events of one build are totally ordered by Seq.
type Event struct {
	Seq   uint64    `json:"seq"`             // 1, 2, 3 … within a build, once it is recorded
	Time  time.Time `json:"time"`            // when the writer saw it
	Build string    `json:"build,omitempty"` // the build it belongs to

	Step     *Step     `json:"step,omitempty"`
	Progress *Progress `json:"progress,omitempty"`
	Log      *Log      `json:"log,omitempty"`
	Layer    *Layer    `json:"layer,omitempty"`
	Mount    *Mount    `json:"mount,omitempty"`
	Warning  *Warning  `json:"warning,omitempty"`
	Result   *Result   `json:"result,omitempty"`
}

// Step is the state of one step (an instruction, an export, a push) at the
// time of the event. Later events with the same ID replace earlier ones, but a
// later event without Started takes no time away.
//
// A step can run more than once: BuildKit first asks for the cache key of a
// source and later does the work, each with its own Started and Completed.
// Writers pass both on as they come; a reader that wants one number joins the
// intervals, as package report does.
type Step struct {
	ID        string     `json:"id"` // digest of the vertex
	Name      string     `json:"name"`
	Stage     string     `json:"stage,omitempty"`    // "builder" in "[linux/amd64 builder 2/3] RUN make"
	Platform  string     `json:"platform,omitempty"` // "linux/amd64" there, where the name carries one
	Inputs    []string   `json:"inputs,omitempty"`   // IDs of the steps it waited for
	Started   *time.Time `json:"started,omitempty"`
	Completed *time.Time `json:"completed,omitempty"`
	Cached    bool       `json:"cached,omitempty"`
	Error     string     `json:"error,omitempty"`
}

// Progress is the state of one counted piece of work inside a step, such as a
// context transfer or a download. Current and Total are bytes where the work
// is counted in bytes; Total is 0 where it is not known.
//
// IDs are BuildKit's own: "transferring context:" and the like for what the
// client sends, a digest for a blob that is pulled, "copying files" for what
// is written to the client's disk (with or without "transferring " before it),
// anything else for work without bytes.
type Progress struct {
	Step      string     `json:"step"`
	ID        string     `json:"id"`
	Current   int64      `json:"current"`
	Total     int64      `json:"total,omitempty"`
	Started   *time.Time `json:"started,omitempty"`
	Completed *time.Time `json:"completed,omitempty"`
}

// Log is output of a step, as it came: not split into lines, escapes included.
type Log struct {
	Step    string `json:"step"`
	Stream  int    `json:"stream"` // 1 stdout, 2 stderr
	Data    []byte `json:"data"`
	Dropped int    `json:"dropped,omitempty"` // bytes that were let go of to stay under a limit
}

// LayerAction says what was done with a layer.
type LayerAction string

// What can happen to a layer between the engine and where it goes.
const (
	LayerCompressed LayerAction = "compressed" // a tar was made into a blob
	LayerConverted  LayerAction = "converted"  // a blob was made into another blob
	LayerReused     LayerAction = "reused"     // the blob existed and was right
	LayerPushed     LayerAction = "pushed"     // the blob travelled to a registry
	LayerLoaded     LayerAction = "loaded"     // the blob travelled to a daemon
	LayerWritten    LayerAction = "written"    // the blob went into a file or a directory
	LayerMounted    LayerAction = "mounted"    // the registry linked it from another repository
	LayerExists     LayerAction = "exists"     // the destination had it
)

// Layer is one thing done with one layer blob. Fields that the action does not
// know are zero.
type Layer struct {
	Action LayerAction   `json:"action"`
	Digest string        `json:"digest"`           // of the blob
	DiffID string        `json:"diffID,omitempty"` // of the tar
	Codec  string        `json:"codec,omitempty"`  // "zstd:3"
	In     int64         `json:"in,omitempty"`     // bytes of the tar
	Out    int64         `json:"out,omitempty"`    // bytes of the blob
	Took   time.Duration `json:"took,omitempty"`   // nanoseconds
	Where  string        `json:"where,omitempty"`  // repository, daemon or file it went to
}

// MountAction says what became of a cache mount that travels between machines.
type MountAction string

// What can happen to a cache mount.
const (
	MountRestored MountAction = "restored" // an empty one got what another machine sent
	MountKept     MountAction = "kept"     // it has contents of its own, which stay
	MountAbsent   MountAction = "absent"   // nobody has sent it yet
	MountSaved    MountAction = "saved"    // its contents were sent
	MountNewer    MountAction = "newer"    // another machine has sent newer contents meanwhile, and they stay
	MountFailed   MountAction = "failed"   // see Error; it is as it was
)

// MountAgent is what a client sends to an engine that is not lighter's, to carry cache
// mounts there.
const MountAgent = "lighter-agent"

// Mount is what became of one cache mount.
type Mount struct {
	Action   MountAction   `json:"action"`
	Name     string        `json:"name"` // as the Dockerfile has it; "" where it is about all
	Platform string        `json:"platform,omitempty"`
	Where    string        `json:"where"` // it came from, or went to
	Files    int           `json:"files"`
	Size     int64         `json:"size"`  // bytes of content
	Moved    int64         `json:"moved"` // bytes that travelled
	Took     time.Duration `json:"took"`  // nanoseconds
	// Left counts files that were left out by age, by size, or because they kept changing.
	Left  int    `json:"left,omitempty"`
	Error string `json:"error,omitempty"`
}

// Warning is advice about the input, such as a Dockerfile check, or something
// that went wrong and stops nothing.
type Warning struct {
	Note   bool     `json:"note,omitempty"` // nothing is wrong
	Step   string   `json:"step,omitempty"`
	Short  string   `json:"short"`
	Detail []string `json:"detail,omitempty"`
	URL    string   `json:"url,omitempty"`
	File   string   `json:"file,omitempty"`
	Line   int      `json:"line,omitempty"` // 1-based; 0 where unknown
}

// Result ends a build. Error is empty when it succeeded.
type Result struct {
	Error  string   `json:"error,omitempty"`
	Digest string   `json:"digest,omitempty"` // of the manifest or index
	Names  []string `json:"names,omitempty"`
}
