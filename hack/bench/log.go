package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"time"

	"github.com/lighter-oci/lighter/internal/event"
	"github.com/lighter-oci/lighter/internal/history"
)

const logBytes = 100 << 20

// logs measures pages of a log of 100 MB, and searches in it, in the dashboard and on
// the command line, while its build runs and when it has ended.
func logs(ctx context.Context, opt options) error {
	state := filepath.Join(opt.dir, "log")
	store, err := history.Open(history.Options{Dir: state})
	if err != nil {
		return err
	}
	defer store.Close()
	rec, err := store.Begin(history.Begun{Project: "project-0", Verb: "build", Who: "ann@desk", How: "cli"})
	if err != nil {
		return err
	}
	lines := writeLog(rec)
	url, stop, err := startKitchen(ctx, opt, state)
	if err != nil {
		return err
	}
	defer stop()
	var figures []figure
	for _, is := range []string{"runs", "ended"} {
		more, err := logFigures(ctx, opt, state, url, rec.ID(), is, lines)
		if err != nil {
			return err
		}
		figures = append(figures, more...)
		began := time.Now()
		if err := rec.End(ctx, history.Outcome{State: history.Done}); err != nil {
			return err
		}
		if is == "runs" {
			fmt.Printf("%d lines taken in in %.1f s\n", lines, time.Since(began).Seconds())
		}
	}
	return judge(figures)
}

// writeLog is what a compiler says, in pieces as an engine passes them on.
func writeLog(rec *history.Recorder) (lines int) {
	now := time.Now()
	rec.Add(event.Event{Time: now, Step: &event.Step{ID: "sha256:1", Name: "[1/1] RUN make", Started: &now}})
	var piece []byte
	for written := 0; written < logBytes; lines++ {
		n := len(piece)
		piece = fmt.Appendf(piece, "\x1b[32m[%7d]\x1b[0m cc -O2 -Wall -c \"src/part-%d/unit%d.c\" -o build/unit%d.o\n", lines, lines%97, lines, lines)
		written += len(piece) - n
		if len(piece) > 2<<10 || written >= logBytes {
			rec.Add(event.Event{Time: time.Now(), Log: &event.Log{Step: "sha256:1", Stream: 1, Data: piece}})
			piece = nil
		}
	}
	rec.Add(event.Event{Time: time.Now(), Log: &event.Log{Step: "sha256:1", Stream: 2, Data: []byte("undefined reference to `main'\n")}})
	return lines + 1
}

func logFigures(ctx context.Context, opt options, state, url, id, is string, lines int) ([]figure, error) {
	_, page, err := asked(url + "/b/" + id)
	if err != nil {
		return nil, err
	}
	m := regexp.MustCompile(`/b/[^/]*/log/[0-9a-f]+`).FindString(page)
	if m == "" {
		return nil, errors.New("the page names no log")
	}
	var figures []figure
	for _, q := range []struct {
		name, query string
		most        float64
	}{
		{"first page", "?from=1", 0.2}, {"page in the middle", fmt.Sprintf("?from=%d", lines/2), 0.2}, {"last page", "?before=99999999", 0.2},
		{"search of a last line", "?q=UNDEFINED+reference", 2}, {"search of what all have", "?q=build/unit", 2},
	} {
		var took []float64
		for range 5 {
			s, _, err := asked(url + m + q.query)
			if err != nil {
				return nil, err
			}
			took = append(took, s)
		}
		figures = append(figures, atMost(fmt.Sprintf("%s of 100 MB, build %s, s", q.name, is), medianOf(took), q.most))
	}
	for _, args := range [][]string{{"--grep", "UNDEFINED reference"}, {}} {
		began := time.Now()
		cmd := exec.CommandContext(ctx, opt.lighter, append([]string{"history", "logs"}, args...)...)
		cmd.Env, cmd.Stderr = append(os.Environ(), history.Variable+"="+state), os.Stderr
		if err := cmd.Run(); err != nil {
			return nil, err
		}
		fmt.Printf("history logs %v, build %s: %.2f s\n", args, is, time.Since(began).Seconds())
	}
	return figures, nil
}

// asked is a page, and how long it took in seconds.
func asked(url string) (float64, string, error) {
	began := time.Now()
	resp, err := http.Get(url)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	page, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", url, resp.Status)
	}
	return time.Since(began).Seconds(), string(page), err
}
