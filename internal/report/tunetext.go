package report

import (
	"fmt"
	"slices"
	"strings"
)

// Headline is the recommendation in one line.
func (t *Tuning) Headline() string {
	l, ok := t.Best()
	if !ok {
		return "nothing was measured"
	}
	return fmt.Sprintf("%s for %s a build at %s · %s → %s in %s · pulled in %s",
		l.Name, Plural(t.PullsPerBuild, "pull"), t.Bandwidth, Bytes(t.Tar), Bytes(l.Size), l.Compress.Median, l.Pull.Took)
}

// Criterion says what is recommended and why, in one line.
func (t *Tuning) Criterion() string {
	return fmt.Sprintf("compressing + pushing + %d × pulling; the level where that is least is recommended", t.PullsPerBuild)
}

// Model says what a pull is made of.
func (t *Tuning) Model() string {
	return fmt.Sprintf("download, sha256 beside it, and unpacking of each layer when it is there and the one beneath is done: "+
		"the slower of decoding and of sha256 (%s) with writing files (%s)", t.Hash.Median, t.Write.Median)
}

// Basis says what was measured.
func (t *Tuning) Basis() string {
	of := fmt.Sprintf("all %s in %s", Bytes(t.Tar), Plural(len(t.Layers), "layer"))
	if t.Sample < t.Tar {
		of = fmt.Sprintf("%s of the %s in %s", Bytes(t.Sample), Bytes(t.Tar), Plural(len(t.Layers), "layer"))
	}
	return fmt.Sprintf("%s · medians on %s; times are of the whole image", of, Plural(t.Cores, "core"))
}

// Likeness names the levels that might be as good; "" where there are none.
func (t *Tuning) Likeness() string {
	if len(t.Alike) == 0 {
		return ""
	}
	return fmt.Sprintf("%s cannot be told from it here: the spread of the rounds is larger than the difference", list(t.Alike))
}

// Unmeasured names the levels left out; "" where there are none.
func (t *Tuning) Unmeasured() string {
	if len(t.LeftOut) == 0 {
		return ""
	}
	return fmt.Sprintf("no time for %s: raise --time-limit or take a smaller --sample", list(t.LeftOut))
}

func list(names []string) string {
	if n := len(names); n > 1 {
		return fmt.Sprintf("%s and %s", strings.Join(names[:n-1], ", "), names[n-1])
	}
	return names[0]
}

// Table is a row a level, in the order asked for.
func (t *Tuning) Table() Table {
	out := Table{Columns: []Column{
		{Name: "level"}, {Name: "size", Right: true}, {Name: "ratio", Right: true}, {Name: "compress", Right: true},
		{Name: "±", Right: true}, {Name: "MB/s", Right: true, Optional: true}, {Name: "CPU", Right: true, Optional: true},
		{Name: "decode", Right: true}, {Name: "parallel", Right: true, Optional: true}, {Name: "pull", Right: true},
		{Name: "cost", Right: true}, {Name: ""},
	}}
	for _, l := range t.Levels {
		parallel := ""
		if l.Parallel != nil {
			parallel = l.Parallel.Median.String()
		}
		out.Add(l.Name, Bytes(l.Size), Figures(l.Ratio), l.Compress.Median.String(), l.SpreadText(), Figures(t.Rate(l)),
			l.CPU.Median.String(), l.Decode.Median.String(), parallel, l.Pull.Took.String(), l.Cost.Median.String(), t.Verdict(l))
	}
	return out
}

// SpreadText is how far the rounds of compressing lie apart: "3 %", "once".
func (l Level) SpreadText() string {
	if l.Rounds < 2 {
		return "once"
	}
	return fmt.Sprintf("%.0f %%", l.Compress.Spread()*100)
}

// Verdict is what is said beside a level; mostly nothing.
func (t *Tuning) Verdict(l Level) string {
	switch {
	case l.Name == t.Recommended:
		return "best"
	case slices.Contains(t.Alike, l.Name):
		return "alike"
	}
	return ""
}

// Warnings are what a reader should know before believing the figures.
func (t *Tuning) Warnings() []string {
	var out []string
	for _, w := range slices.Concat([]string{t.Likeness(), t.Unmeasured()}, t.Notes) {
		if w != "" {
			out = append(out, w)
		}
	}
	return out
}

// smallSample is how many bytes compress in 25 ms at zstd:3 on two cores, of
// which starting takes a part that grows as the sample shrinks.
const smallSample = 8 << 20

// frame is what cannot be compressed on two cores at once, bytes.
const frame = 8 << 20

// Doubts are what the measurements themselves say against their times.
func (t *Tuning) Doubts() []string {
	var out []string
	if t.Sample < smallSample {
		out = append(out, Bytes(t.Sample)+" are too little to measure times well: trust the sizes, not the rest")
	}
	var had, spent float64
	for _, l := range t.Levels {
		had += float64(l.Compress.Median) * float64(t.Cores)
		spent += float64(l.CPU.Median)
	}
	// The last frames of a sample leave cores idle: with four for each that is
	// an eighth.
	if t.Sample >= int64(t.Cores)*4*frame && spent < 0.75*had {
		out = append(out, fmt.Sprintf("the cores worked on this for %.0f %% of the time: others were busy on the machine, or it is throttled; measure again when it is quiet", 100*spent/had))
	}
	return out
}
