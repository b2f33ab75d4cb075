package report_test

import (
	"encoding/xml"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// element is one of a picture.
type element struct {
	name     string
	attr     map[string]string
	children []*element
	text     string // of it and all in it
}

// parsed is a picture as XML has it, and nothing that could run or lead astray.
func parsed(t *testing.T, svg string) *element {
	t.Helper()
	root := &element{}
	stack := []*element{root}
	ids := map[string]bool{}
	d := xml.NewDecoder(strings.NewReader(svg))
	for {
		token, err := d.Token()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatalf("%v in:\n%s", err, svg)
		}
		switch token := token.(type) {
		case xml.StartElement:
			e := &element{name: token.Name.Local, attr: map[string]string{}}
			for _, a := range token.Attr {
				if _, twice := e.attr[a.Name.Local]; twice {
					t.Errorf("<%s> has %s twice", e.name, a.Name.Local)
				}
				e.attr[a.Name.Local] = a.Value
			}
			harmless(t, e)
			if id := e.attr["id"]; id != "" && ids[id] {
				t.Errorf("two of the ID %s", id)
			} else {
				ids[id] = true
			}
			top := stack[len(stack)-1]
			top.children = append(top.children, e)
			stack = append(stack, e)
		case xml.EndElement:
			stack = stack[:len(stack)-1]
		case xml.CharData:
			for _, e := range stack {
				e.text += string(token)
			}
		}
	}
	if len(root.children) != 1 || root.children[0].name != "svg" {
		t.Fatalf("no single svg:\n%s", svg)
	}
	return root.children[0]
}

var length = regexp.MustCompile(`^(-?[0-9]+(\.[0-9]+)?%?|5 5)$`)

func harmless(t *testing.T, e *element) {
	t.Helper()
	elements := []string{"svg", "title", "desc", "style", "defs", "pattern", "g", "a", "rect", "line", "circle", "path", "text", "tspan"}
	if !slices.Contains(elements, e.name) {
		t.Errorf("there is a <%s>", e.name)
	}
	for name, value := range e.attr {
		switch name {
		case "x", "y", "x1", "y1", "x2", "y2", "dx", "cx", "cy", "r", "rx", "width", "height", "stroke-width":
			if !length.MatchString(value) {
				t.Errorf("%s=%q", name, value)
			}
		case "class", "id", "role", "aria-labelledby", "aria-describedby", "viewBox", "xmlns", "d":
		case "patternUnits", "patternTransform", "fill", "href", "overflow":
		default:
			t.Errorf("<%s> has %s=%q", e.name, name, value)
		}
	}
}

// find is all elements for which is says so, e among them.
func (e *element) find(is func(*element) bool) []*element {
	var list []*element
	if is(e) {
		list = append(list, e)
	}
	for _, c := range e.children {
		list = append(list, c.find(is)...)
	}
	return list
}

func (e *element) has(class string) bool {
	return slices.Contains(strings.Fields(e.attr["class"]), class)
}

// drawn is a bar of a picture.
type drawn struct {
	class, title, label, href string
	y                         int
	x, w                      float64
}

func (d drawn) is(class string) bool { return slices.Contains(strings.Fields(d.class), class) }

func bars(t *testing.T, svg string) []drawn {
	t.Helper()
	var list []drawn
	for _, e := range parsed(t, svg).find(func(e *element) bool { return e.has("bar") }) {
		d := drawn{class: e.attr["class"], href: e.attr["href"]}
		for _, c := range e.children {
			switch c.name {
			case "title":
				d.title = c.text
			case "rect":
				d.x, d.w = 0, percent(t, c.attr["width"])
				if x, ok := c.attr["x"]; ok {
					d.x = percent(t, x)
				}
				d.y, _ = strconv.Atoi(c.attr["y"])
			case "svg":
				d.label = c.text
			}
		}
		list = append(list, d)
	}
	return list
}

func percent(t *testing.T, s string) float64 {
	t.Helper()
	v, err := strconv.ParseFloat(strings.TrimSuffix(s, "%"), 64)
	if err != nil || !strings.HasSuffix(s, "%") {
		t.Errorf("%q is no share of the width", s)
	}
	return v
}

// tidy says of bars that they are in the picture, on rows, and in none over one another.
func tidy(t *testing.T, svg string, list []drawn) {
	t.Helper()
	height, _ := strconv.Atoi(parsed(t, svg).attr["height"])
	rows := map[int][]drawn{}
	for _, b := range list {
		rows[b.y] = append(rows[b.y], b)
		end := 100.01
		if b.is("run") {
			end = 102.01
		}
		if b.x < 0 || b.w <= 0 || b.x+b.w > end || b.y+16 > height {
			t.Errorf("%q is outside: %v+%v at %d of %d", b.title, b.x, b.w, b.y, height)
		}
	}
	ys := slices.Sorted(maps.Keys(rows))
	for i := range ys[min(1, len(ys)):] {
		if ys[i+1]-ys[i] < 20 {
			t.Errorf("rows at %d and %d", ys[i], ys[i+1])
		}
	}
	for y, row := range rows {
		slices.SortFunc(row, func(a, b drawn) int { return int(1e4 * (a.x - b.x)) })
		for i := range row[1:] {
			if row[i].x+row[i].w > row[i+1].x+0.011 && !row[i].is("run") {
				t.Errorf("row %d: %q until %v, %q from %v", y, row[i].title, row[i].x+row[i].w, row[i+1].title, row[i+1].x)
			}
		}
	}
}

// sum is how many steps bars stand for.
func sum(list []drawn) int {
	n := 0
	for _, b := range list {
		var k int
		if _, err := fmt.Sscanf(b.title, "%d cached,", &k); err == nil {
			n += k
		} else if _, err := fmt.Sscanf(b.title, "%d short steps,", &k); err == nil {
			n += k
		} else {
			n++
		}
	}
	return n
}
