package term

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/lighter-oci/lighter/internal/report"
)

// unbounded is the width of what goes to a file or a pipe.
const unbounded = 1 << 20

// outScreen is for results, which go to Out.
func (o *Output) outScreen() screen {
	if o.OutWidth <= 0 {
		return screen{width: unbounded}
	}
	return screen{width: max(o.OutWidth, 40), color: o.Color}
}

// Inspection shows an image on Out. With proofs that were asked for, they are
// all there is to say.
func (o *Output) Inspection(i report.Inspection) error {
	if o.JSON {
		if err := o.Encode(i); err != nil {
			return fmt.Errorf("write the report: %w", err)
		}
		s := screen{width: o.width(), color: o.Color}
		for _, p := range i.Proofs {
			if !p.OK() {
				s.proof(p)
			}
		}
		io.WriteString(o.Err, s.String()) //nolint:errcheck // there is nowhere left to say it
		return nil
	}
	s := o.outScreen()
	for _, p := range i.Proofs {
		s.proof(p)
	}
	if len(i.Proofs) == 0 {
		s.inspection(i)
	}
	_, err := io.WriteString(o.Out, s.String())
	return err
}

// Raw writes JSON that came from outside to Out: to a file or a pipe byte for
// byte, to a terminal without what that would obey.
func (o *Output) Raw(b []byte) error {
	if o.OutWidth > 0 {
		b = append(escapeControls([]byte(strings.ReplaceAll(string(b), "\r", ""))), '\n')
	}
	_, err := o.Out.Write(b)
	return err
}

func (s *screen) inspection(i report.Inspection) {
	s.line(s.paint(bold, report.Clean(i.Image)))
	s.line("  " + report.Clean(i.Headline()))
	s.line("  " + s.paint(dim, report.Clean(i.Digest)))
	s.pairs("annotation", i.Annotations)
	for _, p := range i.Platforms {
		s.line("")
		s.platform(p, i)
	}
	if len(i.Attestations)+len(i.Artifacts) > 0 {
		s.line("")
		s.attached(i)
	}
}

func (s *screen) platform(p report.PlatformImage, i report.Inspection) {
	s.line(s.paint(bold, report.Clean(p.Headline())))
	if p.Digest != i.Digest {
		s.line("  " + s.paint(dim, report.Clean(p.Digest)))
		s.pairs("annotation", p.Annotations)
	}
	s.pairs("in index", p.IndexAnnotations)
	s.config(p.Config)
	encoders, epoch := p.Encoders()
	s.value("encoder", strings.Join(encoders, ", "))
	if epoch != nil {
		s.value("epoch", fmt.Sprintf("%s (SOURCE_DATE_EPOCH=%d)", epoch.UTC().Format(time.DateTime), epoch.Unix()))
	}
	s.below(p.LayerTable().Render(s.width-2, s.head))
	for n, l := range p.Layers {
		if l.TypeProblem != "" {
			s.hang(s.paint(yellow, "!")+" ", 2, report.Clean(fmt.Sprintf("layer %d, %s, is %s by the name of %s: %s",
				n+1, report.ShortDigest(l.Digest), l.Codec, l.MediaType, l.TypeProblem)))
		}
		if l.RecordError != "" {
			s.hang(s.paint(yellow, "!")+" ", 2, report.Clean(fmt.Sprintf("layer %d, %s: %s", n+1, report.ShortDigest(l.Digest), l.RecordError)))
		}
	}
}

// config shows what is set.
func (s *screen) config(c report.ImageConfig) {
	if c.Created != nil && !c.Created.IsZero() { // year 1 is what tools write that do not know
		s.value("created", c.Created.UTC().Format(time.DateTime)+" UTC")
	}
	s.value("author", c.Author)
	s.value("entrypoint", array(c.Entrypoint))
	s.value("cmd", array(c.Cmd))
	s.value("user", c.User)
	s.value("workdir", c.Workdir)
	for n, e := range c.Env {
		s.value(once("env", n), e.Name+"="+e.Value)
	}
	s.value("ports", strings.Join(c.Ports, " "))
	s.value("volumes", strings.Join(c.Volumes, " "))
	s.value("stop signal", c.StopSignal)
	s.pairs("label", c.Labels)
}

// array is a command as Dockerfiles write it.
func array(args []string) string {
	if len(args) == 0 {
		return ""
	}
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false) // && is no less a command than others
	if err := enc.Encode(args); err != nil {
		return strings.Join(args, " ")
	}
	return b.String()
}

// once is a label for the first of several lines.
func once(label string, n int) string {
	if n > 0 {
		return ""
	}
	return label
}

// pairs shows a map, a line an entry.
func (s *screen) pairs(label string, m map[string]string) {
	for n, key := range slices.Sorted(maps.Keys(m)) {
		s.value(once(label, n), key+"="+m[key])
	}
}

// valueColumn is where values begin, behind their labels.
const valueColumn = 15

// value is a line of the config, or several; nothing where there is no value.
func (s *screen) value(label, text string) {
	text = report.Clean(text)
	if text == "" {
		return
	}
	s.hang("  "+s.paint(dim, label)+strings.Repeat(" ", valueColumn-2-len(label)), valueColumn, text)
}

// attached shows what in the index is no image.
func (s *screen) attached(i report.Inspection) {
	t := report.Table{Columns: []report.Column{
		{Name: "attached"}, {Name: ""}, {Name: "type", Shrink: true}, {Name: "to"}, {Name: "size", Right: true},
	}}
	for _, a := range i.Attestations {
		to := a.Platform
		if to == "" {
			to = report.ShortDigest(a.Subject)
		}
		if len(a.Predicates) == 0 {
			t.Add(report.ShortDigest(a.Digest), "attestation", "", to, report.Bytes(a.Size))
		}
		for n, p := range a.Predicates {
			name := report.PredicateName(p)
			if name == "" {
				name = "attestation"
			}
			if n > 0 {
				t.Add("", name, p)
				continue
			}
			t.Add(report.ShortDigest(a.Digest), name, p, to, report.Bytes(a.Size))
		}
	}
	for _, a := range i.Artifacts {
		t.Add(report.ShortDigest(a.Digest), "artifact", a.Kind, "", report.Bytes(a.Size))
	}
	for n, l := range t.Render(s.width, nil) {
		if n == 0 {
			l = s.paint(dim, l)
		}
		s.line(l)
	}
}
