package main

import (
	"os"
	"path/filepath"
	"strings"

	"github.com/lighter-oci/lighter/internal/engine"
	"github.com/lighter-oci/lighter/internal/explain"
	"github.com/lighter-oci/lighter/internal/report"
)

// findings says why a build was slow, and remembers it for the next one. A
// slow build is explained without being asked; JSON and the history have all there
// is to say. cache says which engine's build cache answered.
func (b *buildCmd) findings(cache string, req engine.Request, resp *engine.Response, rep report.Report) (shown, all []report.Finding) {
	shown = []report.Finding{}
	if resp.Outline == nil {
		return shown, shown
	}
	store := records()
	key := explain.Key(cache, absolute(req.Context), absolute(resp.Outline.File), req.Target, strings.Join(req.Platforms, ","))
	in := explain.Input{
		Request: req, Outline: resp.Outline, Context: resp.Context, BaseDiffIDs: resp.BaseDiffIDs, Report: rep,
		Before: store.Load(key),
	}
	if explain.Slow(rep) {
		shown = explain.Findings(in)
	}
	in.All = true
	all = explain.Findings(in)
	if b.Explain || b.Format == "json" {
		shown = all
	}
	// What could not be remembered is not missed before the next build, which
	// then says that it knows of none.
	_ = store.Save(key, explain.RecordOf(in), in.Before)
	return shown, all
}

// records is where builds are remembered; it may be removed at any time.
func records() explain.Store {
	dir, err := os.UserCacheDir()
	if err != nil { // no HOME: the next one knows nothing
		return explain.Store{}
	}
	return explain.Store{Dir: filepath.Join(dir, "lighter", "builds")}
}

// absolute is a path from the root, or a URL as it is.
func absolute(path string) string {
	if abs, err := filepath.Abs(path); err == nil && !strings.Contains(path, "://") {
		return abs
	}
	return path
}
