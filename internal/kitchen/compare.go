package kitchen

import (
	"html/template"
	"net/http"

	"github.com/lighter-oci/lighter/internal/history"
	"github.com/lighter-oci/lighter/internal/report"
)

// compareView is two builds side by side.
type compareView struct {
	A       history.Build `json:"a"`
	B       history.Build `json:"b"`
	Picture template.HTML `json:"-"`
	report.Comparison
}

// compared reads the builds that a request names, by their IDs or the ends of them.
func (s *Server) compared(r *http.Request) (v compareView, err error) {
	var reports [2]report.Report
	for i, b := range []*history.Build{&v.A, &v.B} {
		name := clip(r.URL.Query().Get([]string{"a", "b"}[i]))
		id, err := s.store.Find(r.Context(), name)
		if err == nil {
			*b, err = s.store.Build(r.Context(), id)
		}
		if err == nil {
			reports[i], err = s.store.Report(r.Context(), id)
		}
		if err != nil {
			return v, err
		}
	}
	v.Comparison = report.Compare(reports[0], reports[1])
	return v, nil
}

func (s *Server) comparePage(w http.ResponseWriter, r *http.Request) {
	v, err := s.compared(r)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	v.Picture = template.HTML(report.ComparisonChart{}.SVG(&v.Comparison)) // every text in it is escaped
	s.page(w, r, http.StatusOK, "compare", "Compare", v)
}

func (s *Server) apiCompare(r *http.Request) (any, error) { return s.compared(r) }
