package engine

import "time"

// Outline is what a Dockerfile says before anything is built. Words are
// expanded as far as build arguments and the file itself tell; one that needs
// more (the base image's environment, the target platform) keeps its "$".
type Outline struct {
	File   string // as a user names it: "Dockerfile", "deploy/app.Dockerfile"
	Ignore string // the ignore file that governs the context, or the one that would
	Args   []Instruction
	Stages []Stage
}

// Stage is one FROM and what follows it.
type Stage struct {
	Instruction         // FROM itself
	Name         string // "stage-1" for one without a name
	Base         string // an image, "scratch", or an earlier stage
	Parent       int    // index of that stage; -1 where Base is none
	Instructions []Instruction
}

// Instruction is one instruction. Fields that its word has no use for are zero.
type Instruction struct {
	Word  string // "RUN"
	Line  int    // 1-based, where it begins
	Text  string // as written, on one line, here-documents behind it
	First string // the first line of its source, as it stands in the file

	Value   string            // USER, WORKDIR
	Env     map[string]string // ENV, and ARG with its value where it has one
	Names   []string          // ARG
	Script  string            // RUN, in shell form and without its flags
	Sources []string          // COPY, ADD: from the context unless From is set
	Exclude []string          // COPY, ADD: patterns
	Dest    string            // COPY, ADD
	From    string            // COPY: a stage, its number, an image or a named context
	Offline bool              // RUN --network=none
	Mounts  []Mount           // RUN
}

// Mount is one RUN --mount.
type Mount struct {
	Type    string // bind, cache, tmpfs, secret, ssh
	From    string // as Instruction.From
	Source  string
	Target  string
	ID      string // of a cache; its target where none is given
	Sharing string // of a cache: shared, private, locked
}

// ContextFile is one file, link or directory of the context, as the engine was
// told of it: what the ignore file holds back, and what no instruction reads, is
// not there.
type ContextFile struct {
	Path    string // slash-separated, relative to the context
	Size    int64  // bytes; 0 for what is no regular file
	Mode    uint32 // an fs.FileMode
	ModTime time.Time
	// Sum is a CRC-32C of what is in it (of a link: where it points); 0 where
	// nobody read it, because the engine had it from an earlier build.
	Sum uint32
}

// StageNames are the stages that would show up in a build's steps, in their
// order and as BuildKit names them; nil where there is one stage only, which
// goes by no name. It says which stages a build had no use for.
func (o *Outline) StageNames() []string {
	if o == nil || len(o.Stages) < 2 {
		return nil
	}
	var names []string
	for _, s := range o.Stages {
		for _, in := range s.Instructions {
			if in.IsStep() {
				names = append(names, s.Name)
				break
			}
		}
	}
	return names
}

// IsStep tells whether the engine makes a step of the instruction.
func (in Instruction) IsStep() bool {
	switch in.Word {
	case "RUN", "COPY", "ADD", "WORKDIR":
		return true
	}
	return false
}
