package main

import (
	"cmp"
	"context"
	"strings"

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

// check records a check from here to the call of what it answers, with what one
// that failed has printed.
func (r *recording) check(name string) func(publish.Checked) {
	id := "check " + name
	ended := r.step(id, id)
	return func(c publish.Checked) {
		if r != nil && c.Err != nil {
			r.add(event.Event{Log: &event.Log{Step: id, Stream: 2, Data: []byte(r.hide(string(c.Output)))}})
		}
		ended(c.Err)
	}
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
