package term_test

import (
	"bytes"
	"testing"
	"time"

	"github.com/lighter-oci/lighter/internal/report"
	"github.com/lighter-oci/lighter/internal/term"
)

var findings = []report.Finding{
	{
		Kind: report.CacheMiss, Reason: report.MissFiles, File: "Dockerfile", Line: 7, Took: report.Seconds(41 * time.Second),
		Text: "COPY . . ran again: a\x1b[2J.c modified, util.c, main.go added, and 12 more; 3 steps after it ran again, too (41.3 s in all)",
	},
	{
		Kind: report.CacheMount, File: "Dockerfile", Line: 9, Text: "RUN npm ci downloads everything again whenever it runs: no cache mount for npm",
		Change: []string{`RUN --mount=type=cache,target=/root/.npm,and=a-long-line-that-must-be-copied-as-it-stands-there \`, "    npm ci", ""},
		Note:   "without npm cache clean",
	},
	{Kind: report.SentFiles, File: "Dockerfile", Line: 7, Text: "COPY . . sends target", Change: []string{"target"}, ChangeIn: ".dockerignore"},
}

// Unasked a finding is a line, with --explain what to change is below it.
func TestFindings(t *testing.T) {
	r := recorded(t, "warm").Report()
	for _, tt := range []struct {
		golden   string
		out      term.Output
		findings []report.Finding
		err      string
	}{
		{golden: "findings.golden", findings: findings},
		{golden: "findings-explain.golden", findings: findings, out: term.Output{Explain: true}},
		{golden: "findings-color.golden", findings: findings, out: term.Output{Explain: true, Color: true}},
		{golden: "findings-none.golden", out: term.Output{Explain: true}},
		{golden: "findings-failed.golden", out: term.Output{Explain: true}, err: "make: *** [all] Error 2"},
		{golden: "findings-quiet.golden", findings: findings, out: term.Output{Explain: true, Quiet: true}},
	} {
		t.Run(tt.golden, func(t *testing.T) {
			var words bytes.Buffer
			out := tt.out
			out.Err, out.Out = &words, &bytes.Buffer{}
			rep := r
			rep.Findings, rep.Summary.Error = tt.findings, tt.err
			if err := out.Report(rep); err != nil {
				t.Fatal(err)
			}
			golden(t, tt.golden, words.String())
		})
	}
}
