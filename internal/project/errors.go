package project

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/agext/levenshtein"
	"github.com/pelletier/go-toml/v2"
)

// Problem is one thing that a file says wrongly.
type Problem struct {
	File   string
	Line   int    // from 1
	Column int    // in characters, from 1
	Key    string // "variants.slim.tags[0]"; "" where no key is concerned
	Want   string // what is wrong, and what would be right
}

// Error is "FILE:LINE:COLUMN: KEY: WANT".
func (p *Problem) Error() string {
	where := fmt.Sprintf("%s:%d:%d: ", p.File, p.Line, p.Column)
	if p.Key != "" {
		where += p.Key + ": "
	}
	return where + p.Want
}

// problemsShown bounds what is said at once: who has more mends these first.
const problemsShown = 10

// document is a file with what was found to be wrong in it.
type document struct {
	file     string
	data     []byte
	problems []*Problem
}

// problem notes that what stands at an offset is wrong.
func (d *document) problem(at int, key, format string, args ...any) {
	line, column := place(d.data, at)
	d.problems = append(d.problems, &Problem{d.file, line, column, key, fmt.Sprintf(format, args...)})
}

// err is nil, or all that is wrong in the order of the file, one a line.
func (d *document) err() error {
	slices.SortStableFunc(d.problems, func(a, b *Problem) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	var all []error
	for i, p := range d.problems {
		if i == problemsShown {
			all = append(all, fmt.Errorf("and %d more", len(d.problems)-i))
			break
		}
		all = append(all, p)
	}
	return errors.Join(all...)
}

// syntax is what the TOML parser says, at its place.
func (d *document) syntax(err error) error {
	var at *toml.DecodeError
	if !errors.As(err, &at) {
		return fmt.Errorf("%s: %w", d.file, err)
	}
	line, column := at.Position()
	lines := bytes.SplitN(d.data, []byte("\n"), line+1)
	if line <= len(lines) { // count characters
		text := lines[line-1]
		column = utf8.RuneCount(text[:min(column-1, len(text))]) + 1
	}
	return &Problem{d.file, line, column, strings.Join(at.Key(), "."), strings.TrimPrefix(at.Error(), "toml: ")}
}

// place is the line and column of an offset.
func place(data []byte, at int) (line, column int) {
	before := data[:at]
	start := bytes.LastIndexByte(before, '\n') + 1
	return bytes.Count(before, []byte("\n")) + 1, utf8.RuneCount(before[start:]) + 1
}

// nearest is the known name that somebody who typed s may have meant, or "".
func nearest(s string, known []string) string {
	best, least := "", math.MaxInt
	for _, k := range known {
		if strings.EqualFold(strings.NewReplacer("-", "", "_", "").Replace(s), strings.ReplaceAll(k, "-", "")) {
			return k
		}
		d := levenshtein.Distance(s, k, nil)
		begun := len(s) >= 3 && strings.HasPrefix(k, s)
		if (begun || d <= (len(s)+2)/3) && d < least {
			best, least = k, d
		}
	}
	return best
}

// didYouMean is the end of an error about a name that is not known.
func didYouMean(s string, known []string) string {
	switch n := nearest(s, known); {
	case n != "":
		return fmt.Sprintf("did you mean %s?", n)
	case len(known) == 0:
		return "there are none"
	}
	return "known are " + strings.Join(known, ", ")
}
