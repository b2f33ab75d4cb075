package kitchen

import (
	"html"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/lighter-oci/lighter/internal/event"
	"github.com/lighter-oci/lighter/internal/history"
	"github.com/lighter-oci/lighter/internal/report"
)

// Where a step has lost the cache, the page names the line to blame, and behind
// which step another has followed.
func TestCompareNamesTheLine(t *testing.T) {
	s := kitchenFor(t, map[string]string{"shop": ""}, nil)
	var ids []string
	for _, cached := range []bool{true, false} {
		rec, err := s.store.Begin(history.Begun{Project: "shop", Verb: "build", Who: "ann@desk", How: history.HowCLI})
		if err != nil {
			t.Fatal(err)
		}
		now := time.Now()
		for _, step := range []event.Step{{ID: "sha256:copy", Name: "[1/2] COPY . ."}, {ID: "sha256:make", Name: "[2/2] RUN make"}} {
			end := now.Add(1e9)
			step.Started, step.Completed, step.Cached = &now, &end, cached
			rec.Add(event.Event{Step: &step})
		}
		o := history.Outcome{State: history.Done}
		if !cached {
			o.Findings = []report.Finding{{
				Kind: report.CacheMiss, Reason: report.MissFiles, File: "docker/<b>Dockerfile", Line: 7, Text: "COPY . . ran again: main.go modified",
				Ran: []string{"sha256:copy", "sha256:make"},
			}}
		}
		if err := rec.End(t.Context(), o); err != nil {
			t.Fatal(err)
		}
		ids = append(ids, rec.ID())
	}
	code, page := request(t, s, "GET", "/compare?a="+ids[0]+"&b="+ids[1], "")
	if code != http.StatusOK {
		t.Fatalf("%d %s", code, page)
	}
	rows := regexp.MustCompile(`(?s)<tr>.*?</tr>`).FindAllString(page, -1)
	for text, more := range map[string]string{"COPY . .": "", "RUN make": "follows from COPY . ."} {
		found := false
		for _, row := range rows {
			plain := html.UnescapeString(regexp.MustCompile(`<[^>]*>`).ReplaceAllString(row, ""))
			found = found || strings.HasPrefix(plain, text) && strings.Contains(plain, "docker/<b>Dockerfile:7 COPY . . ran again: main.go modified") && strings.Contains(plain, more)
		}
		if !found {
			t.Errorf("no row says why %s ran, and where: %s", text, strings.Join(rows, "\n"))
		}
	}
}
