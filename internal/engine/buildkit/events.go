package buildkit

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/util/progress/progressui"

	"github.com/lighter-oci/lighter/internal/engine"
	"github.com/lighter-oci/lighter/internal/event"
)

// events turns BuildKit's status stream into lighter's.
type events struct {
	sink     engine.Sink
	hide     *redactor
	warnings []event.Warning
	logs     map[string][]byte   // tail of each step's output, for the error
	failed   string              // the step that failed, "" where none did
	optional bool                // the build goes on without the caches that it cannot write
	mayLose  bool                // caches are read that may lack what they promise
	losing   bool                // and still are: follow's
	anew     *client.SolveStatus // says that the build begins anew without them
}

// logTail is how much output of a failed step its error can quote, bytes.
const logTail = 4 << 10

func newEvents(sink engine.Sink, secrets map[string][]byte) *events {
	return &events{sink: sink, hide: newRedactor(secrets), logs: map[string][]byte{}}
}

// follow reads statuses until the build ends, feeding the live view and sink.
func (e *events) follow(ctx context.Context, in <-chan *client.SolveStatus, display *progressui.Display) error {
	show := make(chan *client.SolveStatus, 16)
	shown := make(chan error, 1)
	go func() {
		defer func() {
			for range show { // an early error of the view must not block the build
			}
		}()
		if display == nil {
			shown <- nil
			return
		}
		// The view outlives a cancelled build, to say what was cancelled.
		_, err := display.UpdateFrom(context.WithoutCancel(ctx), show)
		shown <- err
	}()
	for s := range in {
		e.hide.status(s)
		e.withoutCache(s)
		e.lost(s)
		e.unwritten(s)
		e.take(s)
		show <- s
	}
	if rest := e.hide.rest(); len(rest.Logs) > 0 {
		e.take(rest)
		show <- rest
	}
	close(show)
	return <-shown
}

// display opens BuildKit's live view, nil where none was asked for.
func (c *Client) display() (*progressui.Display, error) {
	if c.opt.Progress == nil {
		return nil, nil
	}
	mode := progressui.DisplayMode(c.opt.ProgressMode)
	if mode == "" {
		mode = progressui.AutoMode
	}
	d, err := progressui.NewDisplay(c.opt.Progress, mode)
	if err != nil {
		return nil, fmt.Errorf("--progress=%s: %w", mode, err)
	}
	return &d, nil
}

func (e *events) send(ev event.Event) {
	if ev.Time.IsZero() {
		ev.Time = time.Now()
	}
	e.sink(ev)
}

func (e *events) take(s *client.SolveStatus) {
	for _, v := range s.Vertexes {
		step := &event.Step{
			ID: v.Digest.String(), Name: v.Name,
			Started: v.Started, Completed: v.Completed, Cached: v.Cached, Error: v.Error,
		}
		for _, in := range v.Inputs {
			step.Inputs = append(step.Inputs, in.String())
		}
		name := event.ParseStepName(v.Name)
		step.Stage, step.Platform = name.Stage, name.Platform
		if v.Error != "" && e.failed == "" {
			e.failed = step.ID
		}
		e.send(event.Event{Step: step})
	}
	for _, st := range s.Statuses {
		if l := parseLayerStatus(st); l != nil {
			e.send(event.Event{Layer: l})
			continue
		}
		id := st.ID
		if st.Name != "" && !strings.Contains(id, st.Name) {
			id = st.Name + " " + id
		}
		e.send(event.Event{Progress: &event.Progress{
			Step: st.Vertex.String(), ID: id, Current: st.Current, Total: st.Total,
			Started: st.Started, Completed: st.Completed,
		}})
	}
	for _, l := range s.Logs {
		tail := slices.Concat(e.logs[l.Vertex.String()], l.Data)
		e.logs[l.Vertex.String()] = tail[max(0, len(tail)-logTail):]
		e.send(event.Event{Time: l.Timestamp, Log: &event.Log{Step: l.Vertex.String(), Stream: l.Stream, Data: l.Data}})
	}
	for _, w := range s.Warnings {
		e.warn(w)
	}
}

// cacheImport is the name of the step that reads a cache.
const cacheImport = "importing cache manifest from "

// configureImporter says where in BuildKit a registry was asked for a cache.
const configureImporter = "failed to configure registry cache importer: "

// withoutCache takes the failure of a cache that cannot be read for what it is:
// the build goes on without. One that nobody has written yet is not even that.
func (e *events) withoutCache(s *client.SolveStatus) {
	for _, v := range s.Vertexes {
		name, ok := strings.CutPrefix(v.Name, cacheImport)
		if !ok || v.Error == "" || strings.HasSuffix(v.Error, context.Canceled.Error()) {
			continue
		}
		w := event.Warning{Note: true, Short: "no cache in " + name + " yet"}
		if reason := strings.TrimPrefix(lastLine(v.Error), configureImporter); !strings.HasSuffix(reason, ": not found") {
			why := &BuildError{}
			if !why.request("no cache from "+name, theRegistry, reason) {
				// BuildKit's words come from the inside out: the last say what happened.
				why.What = "no cache from " + name + ": " + strings.TrimSpace(reason[strings.LastIndex(reason, "\": ")+1:])
			}
			w = event.Warning{Short: why.line()}
		}
		e.send(event.Event{Warning: &w})
		v.Error = ""
	}
}

// cacheExport is in the name of each step that writes a cache.
var cacheExport = regexp.MustCompile(`^exporting (?:cache )?to (registry|client directory|Amazon S3|Azure Blob Storage|GitHub Actions Cache)$`)

// unwritten takes the failure of a cache that the build may go on without for a
// warning: BuildKit says it in the live view only.
func (e *events) unwritten(s *client.SolveStatus) {
	for _, v := range s.Vertexes {
		if !e.optional || v.Error == "" || strings.HasSuffix(v.Error, context.Canceled.Error()) || !cacheExport.MatchString(v.Name) {
			continue
		}
		why := &BuildError{What: lastLine(v.Error)}
		if !why.registry() {
			why.What = writeCache + ": " + why.What
		}
		why.What = "the cache was not written" + strings.TrimPrefix(why.What, writeCache)
		e.send(event.Event{Warning: &event.Warning{Short: why.line()}})
	}
}

func (e *events) warn(w *client.VertexWarning) {
	out := event.Warning{Step: w.Vertex.String(), Short: string(w.Short), URL: w.URL}
	for _, d := range w.Detail {
		out.Detail = append(out.Detail, string(d))
	}
	if w.SourceInfo != nil {
		out.File = w.SourceInfo.Filename
	}
	if len(w.Range) > 0 && w.Range[0].Start != nil {
		out.Line = int(w.Range[0].Start.Line)
	}
	if slices.ContainsFunc(e.warnings, func(x event.Warning) bool { return x.Short == out.Short && x.File == out.File && x.Line == out.Line }) {
		return
	}
	e.warnings = append(e.warnings, out)
	e.send(event.Event{Warning: &out})
}
