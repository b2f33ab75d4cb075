package event

import (
	"strconv"
	"strings"
)

// StepKind says what sort of work a step is.
type StepKind string

// The kinds of steps.
const (
	StepInstruction StepKind = "instruction" // RUN, COPY, … or whatever another frontend runs
	StepSource      StepKind = "source"      // FROM, a named context, git, http: brings something in
	StepImport      StepKind = "import"      // reads a cache manifest
	StepExport      StepKind = "export"      // makes and sends the result or its cache
	StepInternal    StepKind = "internal"    // the engine's own: Dockerfile, metadata, credentials
)

// StepName is what the name of a BuildKit vertex says. The Dockerfile frontend
// writes "[platform stage index/total] text", leaves out the platform where one
// is built and the stage where there is one only, and pads the index; the rest
// of BuildKit writes "[group] text" or plain text.
// Source: prefixCommand in frontend/dockerfile/dockerfile2llb/convert.go.
type StepName struct {
	Kind     StepKind
	Stage    string // "builder"; "stage-1" for one without a name
	Platform string // "linux/amd64"; "linux/amd64->arm64" where a stage cross-compiles
	Index    int    // 1 … Total; 0 outside a stage
	Total    int
	Group    string // "internal", "auth", "context NAME" in "[group] text"
	Text     string // what follows the brackets, or the whole name
}

// ParseStepName takes the name of a step apart. Every name has an answer: one
// of no known shape is an instruction of which only Text is known.
func ParseStepName(name string) StepName {
	name = strings.TrimSpace(name)
	inside, text, ok := brackets(name)
	if !ok {
		return StepName{Kind: kindOf(name), Text: name}
	}
	if n, ok := parsePlace(inside); ok {
		n.Text = text
		n.Kind = StepInstruction
		if strings.HasPrefix(text, "FROM ") {
			n.Kind = StepSource
		}
		return n
	}
	n := StepName{Kind: StepInternal, Group: inside, Text: text}
	if strings.HasPrefix(inside, "context ") {
		n.Kind = StepSource
	}
	return n
}

// brackets splits "[inside] text".
func brackets(name string) (inside, text string, ok bool) {
	rest, ok := strings.CutPrefix(name, "[")
	if !ok {
		return "", "", false
	}
	inside, text, ok = strings.Cut(rest, "] ")
	inside = strings.TrimSpace(inside)
	if !ok || inside == "" || strings.ContainsAny(inside, "[]") {
		return "", "", false
	}
	return inside, strings.TrimSpace(text), true
}

// parsePlace reads "platform stage index/total". A platform has a slash, a
// stage has none.
func parsePlace(inside string) (StepName, bool) {
	var n StepName
	f := strings.Fields(inside)
	last := len(f) - 1
	index, total, ok := strings.Cut(f[last], "/")
	if !ok {
		return n, false
	}
	var err1, err2 error
	n.Index, err1 = strconv.Atoi(index)
	n.Total, err2 = strconv.Atoi(total)
	if err1 != nil || err2 != nil || n.Index < 1 || n.Total < n.Index {
		return StepName{}, false
	}
	f = f[:last]
	if len(f) > 0 && strings.Contains(f[0], "/") {
		n.Platform, f = f[0], f[1:]
	}
	if len(f) > 0 && !strings.Contains(f[0], "/") {
		n.Stage, f = f[0], f[1:]
	}
	return n, len(f) == 0
}

// kindOf classifies names without brackets by how BuildKit begins them.
func kindOf(name string) StepKind {
	for _, p := range [...]struct {
		prefix string
		kind   StepKind
	}{
		{"exporting ", StepExport},
		{"pushing ", StepExport},
		{"loading ", StepExport},
		{"sending ", StepExport},
		{"importing cache ", StepImport},
		{"resolve ", StepInternal},
		{"Verifying ", StepInternal},
		{"verifying ", StepInternal},
		{"docker-image://", StepSource},
		{"oci-layout://", StepSource},
		{"local://", StepSource},
		{"git://", StepSource},
		{"https://", StepSource},
		{"http://", StepSource},
	} {
		if strings.HasPrefix(name, p.prefix) {
			return p.kind
		}
	}
	return StepInstruction
}
