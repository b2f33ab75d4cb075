package report

import "strings"

// Table is rows of text under heads, laid out for a width in columns of a
// terminal. It has no lines, boxes or colours. Columns in which every cell is
// empty are left out.
type Table struct {
	Columns []Column
	Rows    [][]string // as many cells as columns, or fewer; cleaned when rendered
}

// Column says how a column is laid out.
type Column struct {
	Name     string // the head
	Right    bool   // aligned right, for numbers
	Shrink   bool   // cells may be cut in the middle, down to shrinkTo
	Optional bool   // left out where it does not fit
}

const (
	gap      = "  " // between columns
	shrinkTo = 12   // columns of the terminal: below that a name says nothing
)

// Add appends a row. Missing cells are empty.
func (t *Table) Add(cells ...string) { t.Rows = append(t.Rows, cells) }

// Render is the lines of the table, heads first; none where there are no rows.
// A width of 0 is unlimited. Where even shrunken and optional columns do not
// help, lines are longer than width.
//
// style, which may be nil, dresses a padded cell and must not change its
// width; the row of the heads is -1.
func (t Table) Render(width int, style func(row, col int, cell string) string) []string {
	if len(t.Rows) == 0 {
		return nil
	}
	t = t.cleaned()
	cols, widths := t.layout(width)
	if style == nil {
		style = func(_, _ int, cell string) string { return cell }
	}
	lines := make([]string, 0, len(t.Rows)+1)
	for row := -1; row < len(t.Rows); row++ {
		var line strings.Builder
		pad := "" // owed spaces: written only before another cell
		for i, c := range cols {
			cell := Middle(t.cell(row, c), widths[i])
			fill := strings.Repeat(" ", widths[i]-Width(cell))
			if i > 0 {
				pad += gap
			}
			if t.Columns[c].Right {
				cell, fill = fill+cell, ""
			}
			if strings.TrimSpace(cell) == "" {
				pad += cell + fill
				continue
			}
			line.WriteString(pad)
			line.WriteString(style(row, c, cell))
			pad = fill
		}
		lines = append(lines, line.String())
	}
	return lines
}

// Filled is the table without the columns in which every cell is empty.
func (t Table) Filled() Table {
	t = t.cleaned()
	cols, _ := t.layout(0)
	out := Table{}
	for _, c := range cols {
		out.Columns = append(out.Columns, t.Columns[c])
	}
	for _, row := range t.Rows {
		cells := make([]string, 0, len(cols))
		for _, c := range cols {
			cells = append(cells, row[c])
		}
		out.Add(cells...)
	}
	return out
}

// cell is a head where row is -1.
func (t Table) cell(row, col int) string {
	if row < 0 {
		return t.Columns[col].Name
	}
	return t.Rows[row][col]
}

// cleaned is a copy without anything a terminal would obey.
func (t Table) cleaned() Table {
	rows := make([][]string, len(t.Rows))
	for i, row := range t.Rows {
		rows[i] = make([]string, len(t.Columns))
		for j := range min(len(row), len(t.Columns)) {
			rows[i][j] = Clean(row[j])
		}
	}
	return Table{Columns: t.Columns, Rows: rows}
}

// layout chooses the columns to show and their widths: first those that may
// shrink do, widest first, then optional ones go, last first.
func (t Table) layout(width int) (cols, widths []int) {
	for c := range t.Columns {
		for _, row := range t.Rows {
			if row[c] != "" {
				cols = append(cols, c)
				break
			}
		}
	}
	for {
		widths = widths[:0]
		total := max(len(cols)-1, 0) * len(gap)
		for _, c := range cols {
			w := 0
			for row := -1; row < len(t.Rows); row++ {
				w = max(w, Width(t.cell(row, c)))
			}
			widths = append(widths, w)
			total += w
		}
		if width <= 0 || t.shrink(cols, widths, total-width) {
			return cols, widths
		}
		last := -1
		for i, c := range cols {
			if t.Columns[c].Optional {
				last = i
			}
		}
		if last < 0 {
			return cols, widths
		}
		cols = append(cols[:last], cols[last+1:]...)
	}
}

// shrink takes excess columns off those that may shrink and says whether that
// was enough.
func (t Table) shrink(cols, widths []int, excess int) bool {
	for ; excess > 0; excess-- {
		widest := -1
		for i, c := range cols {
			if t.Columns[c].Shrink && widths[i] > shrinkTo && (widest < 0 || widths[i] > widths[widest]) {
				widest = i
			}
		}
		if widest < 0 {
			return false
		}
		widths[widest]--
	}
	return true
}
