package kitchen

import (
	"bytes"
	"embed"
	"fmt"
	"html/template"
	"net/http"
	"strings"
	"time"
	"unicode"

	"github.com/lighter-oci/lighter/internal/history"
	"github.com/lighter-oci/lighter/internal/report"
)

//go:embed templates
var templateFiles embed.FS

// pageNames are the pages, a file each beside the layout and the partials.
var pageNames = []string{"overview", "project", "build", "log", "history", "compare", "queue", "login", "tune", "probe", "error"}

// view is what every page knows.
type view struct {
	Title   string
	Here    string // the part of the navigation
	Who     string
	Login   bool // there is one
	Version string
	CSS, JS string // addresses
	Streams string // of what a worker runs
	Icon    string
	Main    any
}

func parsePages() (map[string]*template.Template, error) {
	pages := map[string]*template.Template{}
	for _, name := range pageNames {
		t, err := template.New(name).Funcs(words).ParseFS(templateFiles, "templates/layout.html", "templates/partials.html", "templates/"+name+".html")
		if err != nil {
			return nil, err
		}
		pages[name] = t
	}
	return pages, nil
}

// words are the functions of the templates.
var words = template.FuncMap{
	"bytes":   report.Bytes,
	"longer":  longer,
	"bigger":  bigger,
	"took":    func(s report.Seconds) string { return s.String() },
	"clean":   report.Clean,
	"short":   history.Short,
	"digest":  report.ShortDigest,
	"join":    func(list []string) string { return strings.Join(list, ", ") },
	"moment":  func(t time.Time) string { return t.UTC().Format(time.RFC3339) },
	"clock":   func(t time.Time) string { return t.Local().Format("2 Jan 15:04:05") },
	"ago":     func(t time.Time) string { return ago(time.Since(t)) },
	"stepKey": stepKey,
	"glyph":   glyph,
	"label":   history.Variants,
	"capital": func(s string) string { return strings.ToUpper(s[:1]) + s[1:] },
	"unit":    unit,
	"percent": func(part, all int) string { return fmt.Sprintf("%.0f %%", 100*float64(part)/float64(max(all, 1))) },
}

// unit sets the units of a figure apart from its digits, "1m 29s" or "3.21 MB".
func unit(figure string) template.HTML {
	var b strings.Builder
	letters := false
	for _, r := range figure {
		if is := unicode.IsLetter(r); is != letters {
			b.WriteString(map[bool]string{true: `<span class="u">`, false: `</span>`}[is])
			letters = is
		}
		b.WriteString(template.HTMLEscapeString(string(r)))
	}
	if letters {
		b.WriteString(`</span>`)
	}
	return template.HTML(b.String()) // escaped
}

// glyph stands before each word for a state, so that colour is never all there is.
func glyph(state any) string {
	return map[string]string{
		"queued": "◌", "running": "▸", "done": "✓", "failed": "✗", "killed": "■", "interrupted": "!",
		"lost-cache": "!", "new": "+", "slower": "↑", "faster": "↓", "gone": "−", "not-run": "·", "from-cache": "=",
		"pending": "·", "cached": "=", "run": "✓", "canceled": "–",
	}[fmt.Sprint(state)]
}

// longer is a difference in time, with its sign.
func longer(d report.Seconds) string {
	switch {
	case d > 0:
		return "+" + d.String()
	case d < 0:
		return "−" + (-d).String()
	}
	return "0"
}

// bigger is a difference in bytes, with its sign.
func bigger(n int64) string {
	switch {
	case n > 0:
		return "+" + report.Bytes(n)
	case n < 0:
		return "−" + report.Bytes(-n)
	}
	return "0"
}

// ago is how long something is past, for people.
func ago(d time.Duration) string {
	switch d = max(d, 0); {
	case d < 10*time.Second:
		return "now"
	case d < time.Minute:
		return fmt.Sprintf("%d s ago", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%d min ago", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h ago", int(d.Hours()))
	}
	return fmt.Sprintf("%d days ago", int(d.Hours()/24))
}

// page renders one. It is made whole before the first byte goes out.
func (s *Server) page(w http.ResponseWriter, r *http.Request, code int, name, title string, main any) {
	who, _ := s.door.who(r)
	v := view{
		Title: title, Here: name, Who: who, Login: s.door != nil && who != "", Version: s.opt.Version,
		CSS: s.assets.url("kitchen.css"), JS: s.assets.url("kitchen.js"), Streams: s.assets.url("streams.js"), Icon: s.assets.url("icon.svg"), Main: main,
	}
	var b bytes.Buffer
	if err := s.pages[name].ExecuteTemplate(&b, "layout", v); err != nil {
		s.opt.Warn(fmt.Sprintf("page %s: %v", name, err))
		http.Error(w, "this page could not be made: the server's log says why", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(code)
	_, _ = w.Write(bytes.Map(seen, b.Bytes()))
}

// seen takes out of a page what is not what it looks like: names of projects, tags and
// steps are others' text, which may turn the order of what stands beside it.
func seen(r rune) rune {
	if report.Bidirectional(r) || unicode.IsControl(r) && r != '\n' && r != '\t' {
		return '\ufffd'
	}
	return r
}
