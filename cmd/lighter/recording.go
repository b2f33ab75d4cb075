package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/lighter-oci/lighter/internal/event"
	"github.com/lighter-oci/lighter/internal/history"
	"github.com/lighter-oci/lighter/internal/kitchen"
	"github.com/lighter-oci/lighter/internal/project"
	"github.com/lighter-oci/lighter/internal/report"
	"github.com/lighter-oci/lighter/internal/term"
)

// What made an image, where it is no engine with an address.
const (
	embeddedEngine = "embedded"
	thisMachine    = "this machine"
)

// recording is one build on its way into the history. What cannot be recorded is
// one warning, and fails nothing; a nil one records nothing.
type recording struct {
	*history.Recorder
	store   *history.Store
	out     *term.Output
	outcome history.Outcome
	args    map[string]string // build arguments, whose values are not recorded
	secrets *strings.Replacer // of a project, in what its own commands print; nil has none

	git  sync.WaitGroup
	warn sync.Once
}

// startRecording begins one. src is a directory that git may know.
func startRecording(ctx context.Context, out *term.Output, b history.Begun, src string) *recording {
	r := &recording{out: out}
	store, err := history.Open(history.Options{Warn: r.warning})
	if errors.Is(err, history.ErrOff) {
		return nil
	}
	if err != nil {
		r.warning(err)
		return nil
	}
	b.Who, b.How = history.Who(), history.HowCLI
	if u, err := url.Parse(b.Engine); err == nil && u.Host != "" {
		b.Engine = u.Redacted()
	}
	if b.Parent == "" { // else the parent has used them
		if id, how, by := told(); id != "" {
			b.ID, b.How, b.Who = id, how, cmp.Or(by, b.Who)
		}
	}
	rec, err := store.Begin(b)
	if err != nil {
		r.warning(errors.Join(err, store.Close()))
		return nil
	}
	r.store, r.Recorder = store, rec
	if info, err := os.Stat(src); err == nil && info.IsDir() {
		r.git.Go(func() {
			if h := project.HeadOf(ctx, src); h != (project.Head{}) {
				rec.Source(history.Source{Commit: h.Commit, Branch: h.Branch, Dirty: h.Dirty})
			}
		})
	}
	return r
}

// record begins the build's record in the history. A check is no build.
func (b *buildCmd) record(ctx context.Context, out *term.Output, flags *engineFlags, args map[string]string) *recording {
	if b.Check {
		return nil
	}
	dir := cmp.Or(b.bake, b.Context)
	if b.proj.Path != "" {
		dir = b.proj.Dir()
	}
	begun := history.Begun{
		Parent: b.release, Verb: "build", Variant: b.Variant, Platforms: b.Platform, Version: b.version, Names: b.Tag,
		Engine: cmp.Or(flags.EngineAddr, embeddedEngine),
	}
	begun.Project, begun.Dir = place(dir)
	rec := startRecording(ctx, out, begun, dir)
	if rec != nil {
		rec.args = args
	}
	return rec
}

// told is what a dashboard that started this process says of the build, once: what
// this process starts is no part of it. ID and way have to make sense, or nothing counts.
func told() (id, how, who string) {
	id, how, who = os.Getenv(kitchen.IDVariable), os.Getenv(kitchen.HowVariable), os.Getenv(kitchen.WhoVariable)
	for _, name := range []string{kitchen.IDVariable, kitchen.HowVariable, kitchen.WhoVariable} {
		_ = os.Unsetenv(name)
	}
	if !history.ValidID(id) || !slices.Contains([]string{history.HowCLI, history.HowKitchen, history.HowAPI}, how) {
		return "", "", ""
	}
	return id, how, who
}

// warning says once that something was not recorded.
func (r *recording) warning(err error) {
	if r.out.Quiet {
		return
	}
	r.warn.Do(func() { fmt.Fprintln(r.out.Err, "warning: "+report.Clean(err.Error())) })
}

// add records an event.
func (r *recording) add(e event.Event) {
	if r == nil {
		return
	}
	if e.Step != nil {
		step := *e.Step
		step.Name, step.Error = r.hide(step.Name), r.hide(step.Error)
		e.Step = &step
	}
	if e.Result != nil {
		result := *e.Result
		result.Error = r.hide(result.Error)
		e.Result = &result
	}
	r.Add(e)
}

// hide takes secrets out of a text, and the values of build arguments out of an
// instruction in which BuildKit has filled them in.
func (r *recording) hide(text string) string {
	if r.secrets != nil {
		text = r.secrets.Replace(text)
	}
	for name, value := range r.args {
		text = withoutValue(text, name, value)
	}
	return text
}

// shortestHidden is below what nobody keeps to himself, bytes: values such as "on"
// would tear words apart.
const shortestHidden = 4

// withoutValue puts the name of an argument where its value stands as a word.
func withoutValue(text, name, value string) string {
	if len(value) < shortestHidden {
		return text
	}
	inWord := func(s string) bool {
		return s != "" && (s[0] == '_' || s[0] >= '0' && s[0] <= '9' || s[0]|32 >= 'a' && s[0]|32 <= 'z')
	}
	var b strings.Builder
	for {
		i := strings.Index(text, value)
		if i < 0 {
			return b.String() + text
		}
		end := i + len(value)
		if i > 0 && inWord(text[i-1:]) && inWord(value) || inWord(text[end:]) && inWord(value[len(value)-1:]) {
			b.WriteString(text[:end])
		} else {
			b.WriteString(text[:i] + "$" + name)
		}
		text = text[end:]
	}
}

// id is the build's; "" of what is not recorded.
func (r *recording) id() string {
	if r == nil {
		return ""
	}
	return r.ID()
}

// told keeps what a report says beyond the events.
func (r *recording) told(stages []string, proofs []report.Proof, findings []report.Finding) {
	if r == nil {
		return
	}
	r.outcome.Stages = stages
	for _, p := range proofs {
		p.Layers = slices.Clone(p.Layers)
		for i := range p.Layers {
			p.Layers[i].Name = r.hide(p.Layers[i].Name)
		}
		r.outcome.Proofs = append(r.outcome.Proofs, p)
	}
	for _, f := range findings {
		f.Text, f.Note, f.Change = r.hide(f.Text), r.hide(f.Note), slices.Clone(f.Change)
		for i := range f.Change {
			f.Change[i] = r.hide(f.Change[i])
		}
		r.outcome.Findings = append(r.outcome.Findings, f)
	}
}

// step records one of lighter's own from here to the call of what it answers.
func (r *recording) step(id, name string) func(error) {
	started := time.Now()
	s := event.Step{ID: id, Name: name, Started: &started}
	r.add(event.Event{Step: &s})
	return func(err error) {
		done, ended := s, time.Now()
		done.Completed = &ended
		if err != nil {
			done.Error = err.Error()
		}
		r.add(event.Event{Step: &done})
	}
}

// end takes the build into the history, with how it ended.
func (r *recording) end(ctx context.Context, err error) {
	if r == nil {
		return
	}
	r.git.Wait()
	o := r.outcome
	o.State = history.Done
	var code codeError
	var usage usageError
	switch {
	case err == nil:
	case errors.As(err, &usage):
		if err := errors.Join(r.Drop(), r.store.Close()); err != nil {
			r.warning(err)
		}
		return
	case errors.Is(context.Cause(ctx), errInterrupted):
		o.State, o.Error = history.Killed, errInterrupted.Error()
	case errors.Is(context.Cause(ctx), errAlone):
		o.State, o.Error = history.Interrupted, errAlone.Error()
	case errors.As(err, &code) && code.err == nil:
		o.State, o.Error = history.Failed, "a pushed layer is not as it was asked for"
	default:
		o.State, o.Error = history.Failed, r.hide(err.Error())
	}
	// Also of who was interrupted: it takes some milliseconds.
	if err := errors.Join(r.End(context.WithoutCancel(ctx), o), r.store.Close()); err != nil {
		r.warning(err)
	}
}

// place is a directory or URL that is built, and what the history calls it. A URL
// may have what logs in, which nobody remembers.
func place(dir string) (name, abs string) {
	if dir == "-" {
		return "stdin", ""
	}
	abs = absolute(dir)
	if real, err := filepath.EvalSymlinks(abs); err == nil {
		abs = real
	}
	if u, err := url.Parse(dir); err == nil && u.Host != "" {
		u.User, u.RawQuery = nil, ""
		abs = u.String()
	}
	name, _, _ = strings.Cut(path.Base(filepath.ToSlash(abs)), "#")
	return strings.TrimSuffix(name, ".git"), abs
}

// follower is a build's events on their way into a report and the history, from any
// goroutine.
type follower struct {
	rec  *recording
	mu   sync.Mutex
	fold report.Build
}

func (f *follower) add(e event.Event) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fold.Add(e)
	f.rec.add(e)
}

func (f *follower) mount(m event.Mount) { f.add(event.Event{Time: time.Now(), Mount: &m}) }

func (f *follower) warn(short string) {
	f.add(event.Event{Time: time.Now(), Warning: &event.Warning{Short: short}})
}
