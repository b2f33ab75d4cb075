package kitchen

import (
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/lighter-oci/lighter/internal/event"
	"github.com/lighter-oci/lighter/internal/history"
)

// A log is paged through and searched, while its build runs and afterwards.
func TestLogPages(t *testing.T) {
	s := kitchenFor(t, map[string]string{"shop": ""}, nil)
	rec, err := s.store.Begin(history.Begun{Project: "shop", Verb: "build", Who: "ann@desk", How: history.HowCLI})
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	rec.Add(event.Event{Step: &event.Step{ID: "sha256:1", Name: "[1/1] RUN make", Started: &now}})
	const total = 20_000
	for i := range total {
		text := fmt.Sprintf("line %d\n", i+1)
		switch {
		case i == 15_000:
			text = "\x1b[31mError:\x1b[0m <b>15001\n"
		case i == total-1:
			text = "the end"
		}
		rec.Add(event.Event{Log: &event.Log{Step: "sha256:1", Stream: 1, Data: []byte(text)}})
	}
	numbers := regexp.MustCompile(`<li id="[^"]*" value="(\d+)"`)
	for _, state := range []string{"running", "done"} {
		for _, tt := range []struct {
			query             string
			first, last, n    int
			has               string
			previous, further bool
		}{
			{"", 19801, 20000, 200, "the end", true, false},
			{"from=1", 1, 200, 200, "line 200<", false, true},
			{"from=14990", 14990, 15189, 200, "&lt;b&gt;15001", true, true},
			{"from=19990", 19990, 20000, 11, "line 19999<", true, false},
			{"from=20001", 19801, 20000, 200, "the end", true, false},
			{"before=15190", 14990, 15189, 200, `href="?from=15001#`, true, true},
			{"before=100", 1, 99, 99, "20000 lines", false, true},
			{"before=30000", 19801, 20000, 200, "the end", true, false},
			{"q=ERROR:+%3Cb%3E15", 15001, 15001, 1, "&lt;b&gt;15001", false, false},
			{"q=THE+END", 20000, 20000, 1, "the end", false, false},
			{"q=line", 1, 500, 500, "These are the first lines of more", false, false},
			{"q=line+150", 150, 15099, 110, "line 15000<", false, false},
			{"q=nothing%0Aline", 0, 0, 0, "No line has", false, false},
		} {
			code, page := request(t, s, "GET", "/b/"+rec.ID()+"/log/"+stepKey("sha256:1")+"?"+tt.query, "")
			var got []int
			for _, m := range numbers.FindAllStringSubmatch(page, -1) {
				n, _ := strconv.Atoi(m[1])
				got = append(got, n)
			}
			first, last := 0, 0
			if len(got) > 0 {
				first, last = got[0], got[len(got)-1]
			}
			if code != http.StatusOK || len(got) != tt.n || first != tt.first || last != tt.last || !slices.IsSorted(got) {
				t.Errorf("%s, %s: %d, %d lines from %d to %d", state, tt.query, code, len(got), first, last)
			}
			if has := regexp.MustCompile(regexp.QuoteMeta(tt.has)).MatchString(page); !has {
				t.Errorf("%s, %s: the page has no %s", state, tt.query, tt.has)
			}
			for rel, want := range map[string]bool{"prev": tt.previous, "next": tt.further} {
				if has := regexp.MustCompile(`rel="` + rel + `"`).MatchString(page); has != want {
					t.Errorf("%s, %s: a link to what is %s is %v", state, tt.query, rel, has)
				}
			}
		}
		if _, text := request(t, s, "GET", "/b/"+rec.ID()+"/log.txt", ""); strings.Count(text, "\n") != total ||
			!strings.Contains(text, "line 15000\nError: <b>15001\nline 15002\n") || !strings.HasSuffix(text, "line 19999\nthe end\n") {
			t.Errorf("%s: the text is %d lines and ends in %q", state, strings.Count(text, "\n"), text[max(0, len(text)-40):])
		}
		if state == "running" {
			if err := rec.End(t.Context(), history.Outcome{State: history.Done}); err != nil {
				t.Fatal(err)
			}
		}
	}
}
