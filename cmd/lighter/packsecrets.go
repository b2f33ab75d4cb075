package main

import (
	"bytes"
	"cmp"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/lighter-oci/lighter/internal/event"
	"github.com/lighter-oci/lighter/internal/project"
)

// hiddenMost bounds what is read of a secret's file, bytes: what a build takes.
const hiddenMost = 500 << 10

// hidden replaces the values of a project's secrets in what compilers and checks
// say, line by line, as a build does in what its steps say. A value of less than
// four bytes would tear words apart.
func hidden(proj project.Project) *strings.Replacer {
	var values []string
	for _, s := range proj.Secrets {
		value := os.Getenv(s.Env)
		if s.File != "" {
			if info, err := os.Stat(inProject(proj, s.File)); err != nil || !info.Mode().IsRegular() {
				continue // which a build says
			}
			if f, err := os.Open(inProject(proj, s.File)); err == nil {
				b, _ := io.ReadAll(io.LimitReader(f, hiddenMost))
				_, value = f.Close(), string(b)
			}
		}
		for line := range strings.Lines(value) {
			if line = strings.TrimSpace(line); len(line) >= 4 {
				values = append(values, line)
			}
		}
	}
	slices.SortFunc(values, func(a, b string) int { return cmp.Compare(len(b), len(a)) }) // the longest first
	var pairs []string
	for _, v := range values {
		pairs = append(pairs, v, "[secret]")
	}
	return strings.NewReplacer(pairs...)
}

// hiding passes events on without secrets: logs in whole lines, so that no value
// stands in two of them. It is called from one goroutine at a time.
type hiding struct {
	hide *strings.Replacer
	part map[string][]byte // of a line, by step
	to   func(event.Event)
}

func (h *hiding) add(e event.Event) {
	switch {
	case e.Log != nil:
		all := slices.Concat(h.part[e.Log.Step], e.Log.Data)
		whole := bytes.LastIndexByte(all, '\n') + 1
		h.part[e.Log.Step] = slices.Clone(all[whole:])
		if whole == 0 {
			return
		}
		log := *e.Log
		log.Data = []byte(h.hide.Replace(string(all[:whole])))
		e.Log = &log
	case e.Step != nil && e.Step.Completed != nil && len(h.part[e.Step.ID]) > 0:
		rest := h.part[e.Step.ID]
		delete(h.part, e.Step.ID)
		h.to(event.Event{Time: e.Time, Log: &event.Log{Step: e.Step.ID, Stream: 2, Data: []byte(h.hide.Replace(string(rest)) + "\n")}})
	}
	h.to(e)
}
