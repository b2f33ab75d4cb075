package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/lighter-oci/lighter/internal/event"
	"github.com/lighter-oci/lighter/internal/history"
)

const (
	kitchenBuilds   = 10_000
	kitchenWatchers = 20 // one of them a page in Chromium
	kitchenLines    = 100
)

// kitchens measures the dashboard: how long a line of a log is on its way from the
// process that writes it to who watches, and how long a long history takes to list.
func kitchens(ctx context.Context, opt options) error {
	state := filepath.Join(opt.dir, "history")
	store, err := history.Open(history.Options{Dir: state, Warn: func(err error) { fmt.Fprintln(os.Stderr, err) }})
	if err != nil {
		return err
	}
	defer store.Close()
	if err := fillHistory(ctx, store); err != nil {
		return err
	}
	url, stop, err := startKitchen(ctx, opt, state)
	if err != nil {
		return err
	}
	defer stop()
	var figures []figure
	for _, page := range []struct{ name, path string }{
		{"history", "/history"}, {"history of one state", "/history?state=failed"}, {"overview", "/"}, {"history as JSON", "/api/v1/builds"},
	} {
		var took []float64
		for range 30 {
			began := time.Now()
			resp, err := http.Get(url + page.path)
			if err != nil {
				return err
			}
			_, err = io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
			if err != nil || resp.StatusCode != http.StatusOK {
				return errors.Join(err, fmt.Errorf("%s: %s", page.path, resp.Status))
			}
			took = append(took, time.Since(began).Seconds())
		}
		figures = append(figures, atMost(fmt.Sprintf("%s with %d builds, s", page.name, kitchenBuilds), medianOf(took), 0.05))
	}
	streams, page, err := lateness(ctx, store, url)
	if err != nil {
		return err
	}
	return judge(append(figures,
		atMost(fmt.Sprintf("a line to a stream, %d watchers, s", kitchenWatchers), medianOf(streams), 0.15),
		atMost("a line to a page in Chromium, s", medianOf(page), 0.15)))
}

// fillHistory records builds of the last week.
func fillHistory(ctx context.Context, store *history.Store) error {
	began := time.Now()
	for i := range kitchenBuilds {
		at := began.Add(-time.Duration(kitchenBuilds-i) * time.Minute)
		rec, err := store.Begin(history.Begun{
			Project: fmt.Sprintf("project-%d", i%7), Dir: fmt.Sprintf("/src/project-%d", i%7), Verb: "build", Who: "ann@desk", How: "cli", Started: at,
		})
		if err != nil {
			return err
		}
		for n := range 5 {
			end := at.Add(time.Second)
			id := fmt.Sprintf("sha256:%d", n)
			rec.Add(event.Event{Time: at, Step: &event.Step{ID: id, Name: fmt.Sprintf("[%d/5] RUN make part-%d", n+1, n), Started: &at, Completed: &end, Cached: n < i%5}})
			rec.Add(event.Event{Time: end, Log: &event.Log{Step: id, Stream: 1, Data: []byte("made part " + strconv.Itoa(n) + "\n")}})
			at = end
		}
		o := history.Outcome{State: history.Done}
		if i%20 == 0 {
			o = history.Outcome{State: history.Failed, Error: "exit code 2"}
		}
		if err := rec.End(ctx, o); err != nil {
			return err
		}
	}
	fmt.Printf("%d builds recorded in %.0f s\n", kitchenBuilds, time.Since(began).Seconds())
	return nil
}

var serving = regexp.MustCompile(`serving at (http://\S+)/;`)

func startKitchen(ctx context.Context, opt options, state string) (url string, stop func(), err error) {
	dir := filepath.Join(opt.dir, "project-0")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", nil, err
	}
	if err := os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte("FROM scratch\n"), 0o644); err != nil {
		return "", nil, err
	}
	cmd := exec.CommandContext(ctx, opt.lighter, "kitchen", "--listen", "127.0.0.1:0", dir)
	cmd.Env = append(os.Environ(), history.Variable+"="+state)
	said, err := cmd.StderrPipe()
	if err != nil {
		return "", nil, err
	}
	if err := cmd.Start(); err != nil {
		return "", nil, err
	}
	stop = func() { _ = cmd.Process.Signal(os.Interrupt); _ = cmd.Wait() }
	in := bufio.NewScanner(said)
	for in.Scan() {
		if m := serving.FindStringSubmatch(in.Text()); m != nil {
			go func() { _, _ = io.Copy(io.Discard, said) }()
			return m[1], stop, nil
		}
	}
	stop()
	return "", nil, fmt.Errorf("lighter kitchen did not begin to serve: %w", errors.Join(in.Err(), io.ErrUnexpectedEOF))
}

// lateness writes lines that say when they were written, and answers how much later
// each was with each watcher, in seconds.
func lateness(ctx context.Context, store *history.Store, url string) (streams, page []float64, err error) {
	rec, err := store.Begin(history.Begun{Project: "project-0", Verb: "build", Who: "ann@desk", How: "cli"})
	if err != nil {
		return nil, nil, err
	}
	now := time.Now()
	rec.Add(event.Event{Time: now, Step: &event.Step{ID: "sha256:1", Name: "[1/1] RUN make", Started: &now}})
	write := func(text string) {
		rec.Add(event.Event{Time: time.Now(), Log: &event.Log{Step: "sha256:1", Stream: 1, Data: []byte(text + "\n")}})
	}
	write("ready")
	chrome, cancel := chromedp.NewExecAllocator(ctx, append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath("chromium"), chromedp.NoSandbox)...)
	defer cancel()
	chrome, cancel = chromedp.NewContext(chrome)
	defer cancel()
	// A frame later the line is drawn.
	const observe = `window.late = []; new MutationObserver(list => { for (const m of list) for (const e of m.addedNodes) {
		const at = /^at (\d+)/.exec(e.textContent); if (at) requestAnimationFrame(() => late.push(Date.now() - Number(at[1]))); } })
		.observe(document.getElementById("steps"), { childList: true, subtree: true })`
	if err := chromedp.Do(chrome, chromedp.Navigate(url+"/b/"+rec.ID()), chromedp.WaitReady(chromedp.CSS(".lines li")), chromedp.Evaluate[chromedp.Void](observe)); err != nil {
		return nil, nil, err
	}
	var mu sync.Mutex
	var all sync.WaitGroup
	for range kitchenWatchers - 1 {
		all.Go(func() {
			late, failed := watchLines(ctx, url+"/events?of="+rec.ID()+".running.0.0")
			mu.Lock()
			defer mu.Unlock()
			streams, err = append(streams, late...), errors.Join(err, failed)
		})
	}
	time.Sleep(2 * time.Second)
	for range kitchenLines {
		write(fmt.Sprintf("at %d", time.Now().UnixMilli()))
		time.Sleep(97 * time.Millisecond) // in step with nothing
	}
	time.Sleep(time.Second)
	inPage, failed := chromedp.Run(chrome, chromedp.Evaluate[[]float64](`late`))
	err = errors.Join(failed, rec.End(ctx, history.Outcome{State: history.Done}))
	all.Wait()
	for _, ms := range inPage {
		page = append(page, ms/1000)
	}
	if len(page) < kitchenLines || len(streams) < kitchenLines*(kitchenWatchers-1) {
		err = errors.Join(err, fmt.Errorf("the page had %d lines and the streams %d", len(page), len(streams)))
	}
	return streams, page, err
}

// watchLines reads a stream until the build is over.
func watchLines(ctx context.Context, url string) (late []float64, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	in := bufio.NewReaderSize(resp.Body, 1<<20)
	for {
		text, err := in.ReadString('\n')
		if err != nil || strings.Contains(text, `"is":"over"`) {
			return late, err
		}
		now := time.Now().UnixMilli()
		data, ok := strings.CutPrefix(text, "data: {")
		if !ok {
			continue
		}
		var heard struct {
			News struct{ Logs []struct{ Lines [][2]any } }
		}
		if err := json.Unmarshal([]byte("{"+data), &heard); err != nil {
			return late, err
		}
		for _, l := range heard.News.Logs {
			for _, line := range l.Lines {
				var at int64
				if words, ok := line[1].(string); ok {
					if _, err := fmt.Sscanf(words, "at %d", &at); err == nil {
						late = append(late, float64(now-at)/1000)
					}
				}
			}
		}
	}
}
