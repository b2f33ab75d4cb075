package report

// Checkup is what `lighter doctor` found; --format json prints it. Field names
// and the names of checks are stable; either may be added. Lists are never
// null.
type Checkup struct {
	Version     string            `json:"version"` // of lighter
	Machine     []Check           `json:"machine"`
	Compilers   []Check           `json:"compilers"`
	Pairs       []Check           `json:"pairs"`             // of tools, or a tool and the project, that are known to end badly
	Project     string            `json:"project,omitempty"` // the file or directory that targets are of
	Targets     []Check           `json:"targets"`           // what can be compiled here, by toolchain and platform
	Daemons     []Daemon          `json:"daemons"`
	Credentials []CredentialCheck `json:"credentials"`
	Registries  []RegistryCheck   `json:"registries"` // those that were named
}

// Check is one question and its answer.
type Check struct {
	Name   string     `json:"name"` // "runc", "push zstd"
	State  CheckState `json:"state"`
	Found  string     `json:"found,omitempty"` // what was found, or why it was not, in one clause
	Needed bool       `json:"needed"`          // without it the thing is of no use to lighter
	Fix    string     `json:"fix,omitempty"`   // the next step; several lines where a file has to be written
}

// CheckState is the answer.
type CheckState string

// The answers.
const (
	CheckOK      CheckState = "ok"
	CheckNo      CheckState = "no"
	CheckUnknown CheckState = "unknown" // it could not be asked
)

// Daemon is one container daemon of this machine.
type Daemon struct {
	Check
	Version   string `json:"version,omitempty"`
	ReadsZstd bool   `json:"readsZstd"` // by its version
}

// CredentialCheck is one registry that a credential is there for. No field
// holds any of its values.
type CredentialCheck struct {
	Registry string `json:"registry"`          // HOST or HOST/PATH
	Account  string `json:"account,omitempty"` // "" with an identity token
	Source   string `json:"source,omitempty"`  // file, or helper and file
	Problem  string `json:"problem,omitempty"` // why there is none after all
	Fix      string `json:"fix,omitempty"`
}

// RegistryCheck is a live probe of one registry.
type RegistryCheck struct {
	Registry   string   `json:"registry"`   // as it was named
	Repository string   `json:"repository"` // that was written to
	Checks     []Check  `json:"checks"`
	Left       []string `json:"left"` // what the registry did not let go
}

// OK says whether the registry can be worked with: everything needed is there.
func (r RegistryCheck) OK() bool {
	for _, c := range r.Checks {
		if c.Needed && c.State != CheckOK {
			return false
		}
	}
	return true
}

// OK says whether every registry that was named can be worked with.
func (c Checkup) OK() bool {
	for _, r := range c.Registries {
		if !r.OK() {
			return false
		}
	}
	return true
}
