package cachemount

import "time"

// ExportOptions say what is kept of a directory. The zero value keeps all of it.
type ExportOptions struct {
	// MaxSize bounds the contents, bytes; 0 is no bound. What was of use longest
	// ago is left out first.
	MaxSize int64 `json:"maxSize,omitempty"`
	// MaxAge leaves out what was of no use for so long; 0 is no bound.
	MaxAge time.Duration `json:"maxAge,omitempty"`
}

// ImportOptions say when a directory becomes what the artifact has. With the
// zero value it does where it is empty or new, and where it is still as it was
// when it was last exported or imported.
type ImportOptions struct {
	// Replace gives up what the directory has, whatever that is.
	Replace bool `json:"replace,omitempty"`
}

// Exported is what an export did.
type Exported struct {
	Files int   `json:"files"`
	Size  int64 `json:"size"` // bytes of content, without holes
	Read  int64 `json:"read"` // bytes of content that had to be read
	New   int64 `json:"new"`  // bytes of content that no earlier pack had
	Sent  int64 `json:"sent"` // bytes of packs and tree
	// Expired and Evicted count files left out by age and by size.
	Expired int `json:"expired,omitempty"`
	Evicted int `json:"evicted,omitempty"`
	// Unkept counts what cannot be kept: sockets, devices, other file systems, files
	// that may not be read or kept changing.
	Unkept int `json:"unkept,omitempty"`
	// Repacked counts earlier packs that were given up for what little of them
	// was still in use.
	Repacked int `json:"repacked,omitempty"`
}

// ImportAction says what became of a directory.
type ImportAction string

// What an import can do.
const (
	Imported  ImportAction = "imported"  // the directory is what the artifact has
	Unchanged ImportAction = "unchanged" // it was that already
	Kept      ImportAction = "kept"      // it has changes of its own and was left alone
)

// ImportResult is what an import did.
type ImportResult struct {
	Action  ImportAction `json:"action"`
	Files   int          `json:"files"`
	Size    int64        `json:"size"`    // bytes of content, without holes
	Fetched int64        `json:"fetched"` // bytes of packs and tree that came
	Reused  int          `json:"reused"`  // files that were there already
	Unset   int          `json:"unset"`   // attributes that the file system does not take
}
