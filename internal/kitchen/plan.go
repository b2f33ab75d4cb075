package kitchen

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/lighter-oci/lighter/internal/project"
	"github.com/lighter-oci/lighter/internal/publish"
)

// Plan is what a release would be, as `lighter publish --dry-run` says it.
type Plan struct {
	Was     string   `json:"was,omitempty"`
	Version string   `json:"version"`
	Next    string   `json:"next,omitempty"` // what the commits since the last one would make of it
	Why     []string `json:"why,omitempty"`
	Checks  []string `json:"checks"`
	Images  []struct {
		Variant    string   `json:"variant,omitempty"`
		With       string   `json:"with"`
		Repository string   `json:"repository"`
		Tags       []string `json:"tags"`
		Platforms  []string `json:"platforms,omitempty"`
	} `json:"images"`
}

// plans are those that were made last, each with what it was made of.
type plans struct {
	mu   sync.Mutex
	kept map[string]keptPlan // by project and bump
}

type keptPlan struct {
	basis string
	plan  *Plan
}

// plan answers what a release would be: anew where anything has changed of what the
// last answer was made of. That is found out before it is asked for, so that what
// changes meanwhile makes the next one.
func (s *Server) plan(ctx context.Context, p Project, bump string) (*Plan, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	key := p.Slug + " " + bump
	basis := p.basis(ctx)
	s.plans.mu.Lock()
	last := s.plans.kept[key]
	s.plans.mu.Unlock()
	if basis != "" && last.basis == basis {
		return last.plan, nil
	}
	plan, err := s.makePlan(ctx, p, bump)
	if err != nil {
		return nil, err
	}
	s.plans.mu.Lock()
	defer s.plans.mu.Unlock()
	if s.plans.kept == nil {
		s.plans.kept = map[string]keptPlan{}
	}
	s.plans.kept[key] = keptPlan{basis, plan}
	return plan, nil
}

// basis is all that a plan is made of: the project's file, its version, commit and all
// tags, how far git's history reaches, what was broken off, and what lies in the
// directory, by which it is known what makes the images. "" is not known.
func (p Project) basis(ctx context.Context) string {
	path := filepath.Join(p.Dir, p.File)
	data, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	file, err := project.Parse(path, data)
	if err != nil {
		return ""
	}
	all := []any{string(data), p.Dir, p.Verbs}
	if version, err := file.FindVersion(ctx); err == nil {
		all = append(all, version.Number, version.File)
	}
	memory, err := publish.MemoryOf(path)
	if err != nil {
		return ""
	}
	pending, err := memory.Read()
	if err != nil {
		return ""
	}
	entries, err := os.ReadDir(p.Dir)
	if err != nil {
		return ""
	}
	all = append(all, pending)
	for _, e := range entries {
		all = append(all, e.Name())
	}
	for _, args := range [][]string{{"show-ref", "--head"}, {"rev-parse", "--path-format=absolute", "--git-path", "shallow"}} {
		cmd := exec.CommandContext(ctx, "git", args...)
		cmd.Dir = p.Dir
		out, err := cmd.Output()
		shallow, _ := os.ReadFile(strings.TrimSpace(string(out)))
		all = append(all, string(out), err != nil, string(shallow))
	}
	if ctx.Err() != nil {
		return ""
	}
	return fmt.Sprintf("%x", sha256.Sum256(fmt.Appendf(nil, "%q", all)))
}

// makePlan asks for it: the same command that publishes, and so the same answer.
func (s *Server) makePlan(ctx context.Context, p Project, bump string) (*Plan, error) {
	args := []string{"publish", "--dry-run", "--format=json", "--project=" + filepath.Join(p.Dir, p.File)}
	if bump != "" {
		args = append(args, "--bump="+bump)
	}
	cmd := exec.CommandContext(ctx, s.opt.Program, args...)
	var said, out bytes.Buffer
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = p.Dir, s.opt.Env, &out, &said
	cmd.WaitDelay = time.Second
	if err := cmd.Run(); err != nil {
		first, _, _ := strings.Cut(strings.TrimPrefix(strings.TrimSpace(said.String()), "lighter: "), "\n")
		return nil, errors.New(cmp.Or(first, err.Error()))
	}
	var plan Plan
	return &plan, json.Unmarshal(out.Bytes(), &plan)
}
