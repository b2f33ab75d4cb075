package report

import (
	"bytes"
	_ "embed" // the page
	"html/template"
	"strings"
)

//go:embed tune.html
var tunePage string

// page is what the template shows.
type page struct {
	*Tuning
	Subject   string // cleaned
	Picture   template.HTML
	Heads     []string
	Rows      []pageRow
	LayerRows [][4]string
}

type pageRow struct {
	Name   string
	Cells  []string
	Says   string
	Chosen bool
}

// shortName is of a digest its first figures, of a path all of it.
func (l TunedLayer) shortName() string {
	if strings.HasPrefix(l.Name, "sha256:") || strings.HasPrefix(l.Name, "sha512:") {
		return ShortDigest(l.Name)
	}
	return Clean(l.Name)
}

// HTML is the whole report as one file: no scripts, nothing from elsewhere.
func (t *Tuning) HTML() ([]byte, error) {
	tmpl, err := template.New("tune").Parse(tunePage)
	if err != nil {
		return nil, err
	}
	p := page{Tuning: t, Subject: Clean(t.Subject), Picture: template.HTML(t.SVG())} // every text in the picture is escaped
	table := t.Table()
	for _, c := range table.Columns {
		p.Heads = append(p.Heads, c.Name)
	}
	last := len(table.Columns) - 1
	p.Heads[last] = "verdict"
	for i, row := range table.Rows {
		p.Rows = append(p.Rows, pageRow{row[0], row[1:last], row[last], t.Levels[i].Name == t.Recommended})
	}
	for _, l := range t.Layers {
		now := ""
		if l.Blob > 0 {
			now = Bytes(l.Blob)
		}
		p.LayerRows = append(p.LayerRows, [4]string{l.shortName(), now, Bytes(l.Tar), Bytes(l.Sample)})
	}
	var b bytes.Buffer
	if err := tmpl.Execute(&b, p); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}
