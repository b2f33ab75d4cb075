package kitchen

import (
	"html"
	"html/template"

	"github.com/lighter-oci/lighter/internal/report"
)

// lineRenderer makes lines of a log safe to show.
type lineRenderer struct{}

func (r *lineRenderer) line(raw []byte, whole bool) template.HTML {
	return template.HTML(html.EscapeString(report.Clean(string(raw))))
}
