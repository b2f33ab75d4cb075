package report

// Finding is one reason why a build was slow, with what to change.
type Finding struct {
	Kind   FindingKind `json:"kind"`
	Reason MissReason  `json:"reason,omitempty"` // of a cache miss
	File   string      `json:"file,omitempty"`   // the Dockerfile; "" where no line of it is to blame
	Line   int         `json:"line,omitempty"`   // 1-based
	Text   string      `json:"text"`             // one line
	// Change is the lines that should stand there, or the commands to run; empty
	// where there is nothing to change but what the user changed.
	Change   []string `json:"change"`
	ChangeIn string   `json:"changeIn,omitempty"` // the file that Change belongs into, where it is not File
	Note     string   `json:"note,omitempty"`     // what else the change needs

	Files     []ChangedFile `json:"files,omitempty"`     // of a cache miss, the first few
	MoreFiles int           `json:"moreFiles,omitempty"` // how many are not in Files
	Steps     int           `json:"steps,omitempty"`     // that ran because of it, the first included
	Ran       []string      `json:"ran,omitempty"`       // their IDs, the first first
	Took      Seconds       `json:"seconds,omitempty"`   // of those
	Bytes     int64         `json:"bytes,omitempty"`     // that need not be there
}

// FindingKind says what sort of thing was found.
type FindingKind string

// The kinds of findings.
const (
	CacheMiss  FindingKind = "cache-miss"  // a step that the cache did not answer, and why
	CacheMount FindingKind = "cache-mount" // a package manager without one
	CopyOrder  FindingKind = "copy-order"  // sources that come before the dependencies
	SentFiles  FindingKind = "context"     // files that an ignore file should hold back
	BaseLayers FindingKind = "base-layers" // base layers of another codec than the image's
)

// MissReason is the first thing in the chain that differed.
type MissReason string

// The reasons of a cache miss.
const (
	MissFiles       MissReason = "files"       // files of the context
	MissArgument    MissReason = "argument"    // a build argument
	MissInstruction MissReason = "instruction" // the text of an instruction
	MissBase        MissReason = "base"        // the base image
	MissContext     MissReason = "context"     // a named context or a remote source, which nobody looked into
	MissNoCache     MissReason = "no-cache"    // it was asked for
	MissFirstBuild  MissReason = "first-build" // nothing is known from before
	MissPruned      MissReason = "pruned"      // nothing differs: the cache is gone
)

// ChangedFile is a file that is not as it was in the build before.
type ChangedFile struct {
	Path   string `json:"path"`
	Change string `json:"change"` // added, modified or removed
}
