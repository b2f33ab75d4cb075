package kitchen

import (
	"context"
	"html/template"
	"slices"

	"github.com/lighter-oci/lighter/internal/history"
	"github.com/lighter-oci/lighter/internal/report"
)

// mostPoints is how many builds a trend shows.
const mostPoints = 100

// trends are how time, size and cache went over the builds that are like the last
// one that ended well, and what those are.
func (s *Server) trends(ctx context.Context, p Project, recent []history.Build) (of string, pictures []template.HTML, err error) {
	i := slices.IndexFunc(recent, func(b history.Build) bool { return b.State == history.Done })
	if i < 0 {
		return "", nil, nil
	}
	like := recent[i]
	points, err := s.store.Trend(ctx, history.Filter{
		Dir: p.Dir, Verb: like.Verb, Variant: like.Variant, Top: true, States: []history.State{history.Done, history.Failed}, Limit: mostPoints,
	})
	if err != nil || len(points) < 2 {
		return "", nil, err
	}
	slices.Reverse(points)
	for _, c := range []struct {
		id, name string
		kind     report.TrendKind
		value    func(history.Point) float64
	}{
		{"trend-time", "build time", report.TrendTime, func(p history.Point) float64 { return p.Took.Duration().Seconds() }},
		{"trend-size", "image size", report.TrendBytes, func(p history.Point) float64 { return float64(p.Image) }},
		{"trend-cache", "steps from the cache", report.TrendShare, func(p history.Point) float64 { return float64(p.Cached) / float64(max(p.Steps, 1)) }},
	} {
		list := make([]report.TrendPoint, 0, len(points))
		known := false
		for _, p := range points {
			v := c.value(p)
			known = known || v > 0
			list = append(list, report.TrendPoint{Label: p.Started.Local().Format("2 Jan 15:04"), Value: v, Failed: p.State == history.Failed, None: c.kind == report.TrendBytes && v == 0 && p.State != history.Failed, Link: "/b/" + p.ID})
		}
		if known { // every text in the picture is escaped
			pictures = append(pictures, template.HTML(report.TrendChart{ID: c.id, Name: c.name, Kind: c.kind}.SVG(list)))
		}
	}
	of = like.Verb
	if like.Variant != "" {
		of += " " + history.Variants(like.Variant)
	}
	return of, pictures, nil
}
