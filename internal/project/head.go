package project

import (
	"context"
	"os"
	"os/exec"
	"strings"
)

// Head is what git says of a directory: the commit and the branch that are checked
// out, and whether files under version control are not as there. It is the zero
// value where git says nothing.
type Head struct {
	Commit string
	Branch string // "" of no branch
	Dirty  bool
}

// HeadOf asks git, once and without waiting for its locks. It looks at every file
// under version control: of 70,000 that takes 0.2 s.
func HeadOf(ctx context.Context, dir string) Head {
	cmd := exec.CommandContext(ctx, "git", "status", "--porcelain=v2", "--branch", "--untracked-files=no")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "LC_ALL=C", "GIT_OPTIONAL_LOCKS=0")
	out, err := cmd.Output()
	if err != nil {
		return Head{}
	}
	var h Head
	for l := range strings.Lines(string(out)) {
		l = strings.TrimRight(l, "\n")
		if oid, ok := strings.CutPrefix(l, "# branch.oid "); ok && oid != "(initial)" {
			h.Commit = oid
		}
		if branch, ok := strings.CutPrefix(l, "# branch.head "); ok && branch != "(detached)" {
			h.Branch = branch
		}
		h.Dirty = h.Dirty || !strings.HasPrefix(l, "#")
	}
	return h
}
