package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/lighter-oci/lighter/internal/event"
	"github.com/lighter-oci/lighter/internal/history"
	"github.com/lighter-oci/lighter/internal/report"
	"github.com/lighter-oci/lighter/internal/term"
)

type historyLogsCmd struct {
	buildArg
	Follow bool   `short:"f" help:"Go on until the build ends."`
	Step   string `placeholder:"N|TEXT" help:"Only of one step: its number in history show, or words of it."`
	Grep   string `placeholder:"TEXT" help:"Only lines with this text in them, whatever its case and colours."`
	Format string `enum:"text,json" default:"text" help:"text, or json: a line an event."`
}

// Run prints a log as it comes from the store: what it holds is a line a step.
func (c historyLogsCmd) Run(ctx context.Context, out *term.Output) error {
	if c.Grep != "" && c.Format == "json" {
		return usageError{errors.New("--grep: an event is not made of lines; take --format text")}
	}
	store, b, err := c.open(ctx, out)
	if err != nil {
		return err
	}
	defer store.Close()
	step, err := c.step(ctx, store, b)
	if err != nil {
		return err
	}
	events := store.Log(ctx, b.ID, step)
	buffered := bufio.NewWriterSize(out.Out, 64<<10)
	var to io.Writer = buffered
	if c.Follow { // who waits for a line gets it at once
		events, to = logsOf(store.Follow(ctx, b.ID, 0), step), out.Out
	}
	printed, err := c.print(ctx, to, store, b.ID, step, events)
	if flushed := buffered.Flush(); err == nil {
		err = flushed
	}
	if err != nil || printed {
		return err
	}
	who, what := "build "+history.Short(b.ID), "printed nothing"
	if step != "" {
		who = "this step of " + who
	}
	if !b.State.Over() && !c.Follow {
		what = "has printed nothing yet"
	}
	_, err = fmt.Fprintln(out.Err, who+" "+what)
	return err
}

// print answers whether there was anything.
func (c historyLogsCmd) print(ctx context.Context, to io.Writer, store *history.Store, id, step string, events iter.Seq2[event.Event, error]) (printed bool, err error) {
	if c.Format == "json" {
		for e, err := range events {
			if err == nil {
				err = writeEvent(to, e)
			}
			if err != nil {
				return true, err
			}
		}
		return true, ctx.Err()
	}
	p := logPrinter{to: to, store: store, id: id, alone: step != ""}
	if c.Grep != "" {
		p.only = history.Like(c.Grep)
	}
	for line, err := range history.LinesOf(events) {
		if err == nil {
			printed, err = true, p.line(ctx, line.Step, line.Text)
		}
		if err != nil {
			return printed, err
		}
	}
	return printed, ctx.Err()
}

// logsOf are the output of a step among events; of all where it is "".
func logsOf(events iter.Seq2[event.Event, error], step string) iter.Seq2[event.Event, error] {
	return func(yield func(event.Event, error) bool) {
		for e, err := range events {
			if err == nil && (e.Log == nil || step != "" && e.Log.Step != step) {
				continue
			}
			if !yield(e, err) {
				return
			}
		}
	}
}

// step finds the ID of what --step says.
func (c historyLogsCmd) step(ctx context.Context, store *history.Store, b history.Build) (string, error) {
	if c.Step == "" {
		return "", nil
	}
	rep, err := store.Report(ctx, b.ID)
	if err != nil {
		return "", err
	}
	if n, err := strconv.Atoi(c.Step); err == nil && n > 0 && n <= len(rep.Steps) {
		return rep.Steps[n-1].ID, nil
	}
	has := func(s report.Step) bool {
		return strings.Contains(strings.ToLower(s.Name), strings.ToLower(c.Step)) || s.ID == c.Step
	}
	i := slices.IndexFunc(rep.Steps, has)
	if i < 0 {
		return "", &noStepError{c.Step, history.Short(b.ID), len(rep.Steps)}
	}
	if more := slices.IndexFunc(rep.Steps[i+1:], has); more >= 0 {
		return "", usageError{fmt.Errorf("--step %q: %q and %q both have it: say which by its number, %d or %d",
			c.Step, report.Clean(rep.Steps[i].Text), report.Clean(rep.Steps[i+1+more].Text), i+1, i+2+more)}
	}
	return rep.Steps[i].ID, nil
}

// noStepError is a --step that a build has not.
type noStepError struct {
	step, id string
	steps    int
}

func (e *noStepError) Error() string {
	return fmt.Sprintf("--step %q: build %s has %s, and none is that", e.step, e.id, report.Plural(e.steps, "step"))
}

// Hint is the next step.
func (e *noStepError) Hint() string { return "`lighter history show " + e.id + "` numbers them" }

// logPrinter writes logs as lines of text, with nothing in them that a terminal
// would obey. Where several steps speak, each begins with its name.
type logPrinter struct {
	to    io.Writer
	store *history.Store
	id    string
	alone bool              // one step only
	only  *history.Likeness // lines; nil is all

	last  string // step that has spoken
	names map[string]string
}

func (p *logPrinter) line(ctx context.Context, step string, text []byte) error {
	if p.only != nil && !p.only.Has(text) {
		return nil
	}
	if !p.alone && step != p.last {
		p.last = step
		name, err := p.name(ctx, step)
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintln(p.to, "── "+name); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintln(p.to, report.CleanLine(string(text)))
	return err
}

// name looks a step up; one that has just begun is asked for again.
func (p *logPrinter) name(ctx context.Context, step string) (string, error) {
	if name, ok := p.names[step]; ok {
		return name, nil
	}
	rep, err := p.store.Report(ctx, p.id)
	if err != nil {
		return "", err
	}
	p.names = map[string]string{}
	for _, s := range rep.Steps {
		p.names[s.ID] = report.Clean(s.Name)
	}
	if p.names[step] == "" {
		p.names[step] = report.Clean(step)
	}
	return p.names[step], nil
}

// writeEvent writes one line of JSON.
func writeEvent(w io.Writer, v any) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return err
	}
	_, err = w.Write(append(raw, '\n'))
	return err
}

type historyExportCmd struct {
	buildArg
	Output string `short:"o" predictor:"file" placeholder:"FILE" help:"Write it there (default: standard output)."`
	Format string `enum:"json,svg" default:"json" help:"json, or svg: a picture of its timeline."`
	Lines  bool   `help:"A line an event, behind one with the build and its report, instead of one document."`
}

// Run exports.
func (c historyExportCmd) Run(ctx context.Context, out *term.Output) (err error) {
	if c.Lines && c.Format == "svg" {
		return usageError{errors.New("--lines: a picture has none")}
	}
	store, b, err := c.open(ctx, out)
	if err != nil {
		return err
	}
	defer store.Close()
	rep, err := store.Report(ctx, b.ID)
	if err != nil {
		return err
	}
	to := out.Out
	if c.Output != "" {
		f, err := os.OpenFile(c.Output, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, f.Close()) }()
		to = f
	}
	if c.Format == "svg" {
		_, err := io.WriteString(to, report.Timeline{Standalone: true}.SVG(&rep))
		return err
	}
	return c.write(ctx, to, store, b, rep)
}

// write goes through the events one by one: a log may be large.
func (c historyExportCmd) write(ctx context.Context, to io.Writer, store *history.Store, b history.Build, rep report.Report) error {
	head, err := json.Marshal(struct {
		Build  history.Build `json:"build"`
		Report report.Report `json:"report"`
	}{b, rep})
	if err != nil {
		return err
	}
	between, end := "\n", "\n"
	if !c.Lines {
		head = append(bytes.TrimSuffix(head, []byte("}")), `,"events":[`...)
		between, end = ",\n", "\n]}\n"
	}
	if _, err := to.Write(head); err != nil {
		return err
	}
	next := "\n"
	for e, err := range store.Events(ctx, b.ID) {
		if err != nil {
			return err
		}
		raw, err := json.Marshal(e)
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintf(to, "%s%s", next, raw); err != nil {
			return err
		}
		next = between
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	_, err = io.WriteString(to, end)
	return err
}
