package main

import (
	"cmp"
	"context"
	"strings"
	"time"

	"github.com/lighter-oci/lighter/internal/event"
	"github.com/lighter-oci/lighter/internal/history"
	"github.com/lighter-oci/lighter/internal/publish"
	"github.com/lighter-oci/lighter/internal/term"
)

// record begins the release's record in the history. Each image has its own.
func (p *publishCmd) record(ctx context.Context, out *term.Output, flags *engineFlags, r *release) *recording {
	begun := history.Begun{
		Verb: "publish", Variant: strings.Join(p.Variant, ","), Platforms: p.Platform, Version: r.Version, Engine: cmp.Or(flags.EngineAddr, embeddedEngine),
	}
	for _, img := range r.Images {
		for _, tag := range img.Tags {
			begun.Names = append(begun.Names, img.Repository+":"+tag)
		}
	}
	begun.Project, begun.Dir = place(r.proj.Dir())
	rec := startRecording(ctx, out, begun, r.proj.Dir())
	if rec != nil {
		rec.secrets = hidden(r.proj)
	}
	return rec
}

// checked records a check, with what one that failed has printed.
func (r *recording) checked(c publish.Checked) {
	if r == nil {
		return
	}
	ended := time.Now()
	started := ended.Add(-c.Took)
	step := event.Step{ID: "check " + c.Name, Name: "check " + c.Name, Started: &started, Completed: &ended}
	if c.Err != nil {
		step.Error = c.Err.Error()
		r.add(event.Event{Log: &event.Log{Step: step.ID, Stream: 2, Data: []byte(r.hide(string(c.Output)))}})
	}
	r.add(event.Event{Step: &step})
}

// tagged records what a release has set.
func (r *recording) tagged(tags []publish.Tagged) {
	res := event.Result{}
	for _, t := range tags {
		res.Names = append(res.Names, t.Name)
		res.Digest = cmp.Or(res.Digest, t.Digest.String())
	}
	r.add(event.Event{Result: &res})
}
