package report_test

import (
	"slices"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"pgregory.net/rapid"

	"github.com/lighter-oci/lighter/internal/report"
)

func TestClean(t *testing.T) {
	for in, want := range map[string]string{
		"":                                "",
		"plain":                           "plain",
		" a \t b\r\n\v\fc\u0085d\u2028e ": "a b c d e",
		"\x1b[31mred\x1b[0m":              "red",
		"\x1b[38;5;196;1mx":               "x",
		"\x1b[?25lhidden cursor":          "hidden cursor",
		"\x1b]0;title\abc":                "bc",
		"\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\": "link",
		"\x1bP1;2|data\x1b\\x":                     "x",
		"\x1b_apc\u009cx":                          "x",
		"\x1b]first\x1b\\kept\a":                   "kept",
		"\x1b]never ended":                         "never ended",
		"\x1b]a\x1b]b\x01c\ad":                     "abcd",
		"\x1b(Bx":                                  "x",
		"\x1b7x\x1bcx":                             "xx",
		"\x1b":                                     "",
		"\x1b\x1b[31mx":                            "x",
		"\x1b[":                                    "",
		"\x1b[31":                                  "",
		"\x1b[31\x01m":                             "m",
		"\u009b31mx":                               "x",
		"\u009d0;t\u009cx":                         "x",
		"\u0084x":                                  "x",
		"\x1bDx":                                   "x", // IND in seven bits
		"a\x00b\x07c\x7fd":                         "abcd",
		"over\u202ewritten\u202c":                  "overwritten",
		"\ufeffbom\u200b":                          "bom",
		"👩\u200d💻":                                 "👩\u200d💻",
		"e\u0301":                                  "e\u0301",
		"bad \xff\xfe utf8":                        "bad \ufffd\ufffd utf8",
		"\xc2\x1b[m\x9b31m":                        "\ufffd\ufffd31m", // no U+009B comes together
	} {
		if got := report.Clean(in); got != want {
			t.Errorf("%q is %q, want %q", in, got, want)
		}
	}
}

// What a compiler points at with ^ stays above it.
func TestCleanLine(t *testing.T) {
	for in, want := range map[string]string{
		"  |     ^ \x1b[31mexpected\x1b[0m  \r\n": "  |     ^ expected",
		"\tmain.go:3:\tno way\n":                  "        main.go:3:      no way",
		"12345678\tx \t y":                        "12345678        x        y",
		" 10 %\r 90 %\r  done\r\n":                "  done",
		"a\u2028\u202e b":                         "a  b",
		" \t \n":                                  "",
	} {
		if got := report.CleanLine(in); got != want {
			t.Errorf("%q is %q, want %q", in, got, want)
		}
	}
}

// Hostile input costs no more time than it has bytes.
func TestCleanIsLinear(t *testing.T) {
	for _, s := range []string{"\x1b]", "\x1b]\a", "\x1b[", "\x1b]a\x1b", "\u009d"} {
		report.Clean(strings.Repeat(s, 1<<16)) // minutes, were it quadratic
	}
	report.Middle(strings.Repeat("e\u0301", 1<<16), 80)
}

// Nothing that a terminal would obey is left, and nothing that it would show
// is lost.
func FuzzClean(f *testing.F) {
	for _, s := range []string{"\x1b[31mred", "\x1b]0;t\a", "\u009b1m", "a\r\nb", "\u202e", "\xff", "\x1bP\x1b\\"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		c := report.Clean(s)
		if !utf8.ValidString(c) {
			t.Errorf("%q: %q is not UTF-8", s, c)
		}
		if i := strings.IndexFunc(c, func(r rune) bool {
			return unicode.IsControl(r) || unicode.Is(unicode.Cf, r) && r != '\u200d' || unicode.IsSpace(r) && r != ' '
		}); i >= 0 {
			t.Errorf("%q: %q has a control character at %d", s, c, i)
		}
		if strings.Contains(c, "  ") || strings.TrimSpace(c) != c {
			t.Errorf("%q: %q has more space than it needs", s, c)
		}
		if line := report.CleanLine(s); !strings.Contains(s, "\r") && report.Clean(line) != c {
			t.Errorf("%q: as a line it is %q, else %q", s, line, c)
		}
		if again := report.Clean(c); again != c {
			t.Errorf("%q: cleaned twice is %q, once %q", s, again, c)
		}
		if !strings.ContainsFunc(s, func(r rune) bool { return unicode.IsControl(r) || unicode.Is(unicode.Cf, r) }) && utf8.ValidString(s) {
			if want := strings.Join(strings.Fields(s), " "); c != want {
				t.Errorf("%q lost something: %q", s, c)
			}
		}
	})
}

func TestMiddle(t *testing.T) {
	for _, c := range []struct {
		s     string
		width int
		want  string
	}{
		{"RUN cargo build --release", 25, "RUN cargo build --release"},
		{"RUN cargo build --release", 19, "RUN cargo…--release"},
		{"abcdef", 4, "ab…f"},
		{"abcdef", 2, "a…"},
		{"abcdef", 1, "…"},
		{"abcdef", 0, ""},
		{"", 0, ""},
		{"日本語日本語", 7, "日…語"},
		{"日本語", 6, "日本語"},
		{"👩\u200d💻👩\u200d💻👩\u200d💻👩\u200d💻", 5, "👩\u200d💻…👩\u200d💻"},
		{"ae\u0301e\u0301e\u0301e\u0301z", 3, "a…z"},
	} {
		if got := report.Middle(c.s, c.width); got != c.want {
			t.Errorf("%q in %d is %q, want %q", c.s, c.width, got, c.want)
		}
	}
}

func FuzzMiddle(f *testing.F) {
	f.Add("RUN cargo build", 9)
	f.Add("日本語🇩🇪🇩🇪e\u0301", 5)
	f.Fuzz(func(t *testing.T, s string, width int) {
		s = report.Clean(s)
		m := report.Middle(s, width)
		if report.Width(m) > max(width, 0) {
			t.Errorf("%q in %d is %q, %d wide", s, width, m, report.Width(m))
		}
		if report.Width(s) <= width && m != s {
			t.Errorf("%q fits in %d and became %q", s, width, m)
		}
		if m != s && m != "" {
			i := strings.LastIndex(m, "…")
			if i < 0 {
				t.Errorf("%q in %d is cut without saying so: %q", s, width, m)
			}
		}
	})
}

func TestShortText(t *testing.T) {
	for in, want := range map[string]string{
		"":    "",
		"RUN": "RUN",
		"RUN --mount=type=cache,target=/c --network=none cargo build --release": "RUN cargo build --release",
		"RUN --mount=type=cache":                                   "RUN --mount=type=cache",
		"COPY --link --from=builder --chown=1:1 /a /b":             "COPY --from=builder /a /b",
		"ADD --checksum=sha256:1 https://x /y":                     "ADD https://x /y",
		"WORKDIR --x":                                              "WORKDIR --x",
		"FROM docker.io/library/rust:1@sha256:0123":                "FROM rust:1",
		"FROM docker.io/foo/bar":                                   "FROM foo/bar",
		"FROM ghcr.io/library/x:1":                                 "FROM ghcr.io/library/x:1",
		"RUN <<EOT\n\x1b[31mmake\x1b[0m \t all\nEOT":               "RUN <<EOT make all EOT",
		"RUN /bin/sh -c make all # buildkit":                       "RUN make all",
		"RUN |2 TARGETARCH=amd64 A=b c /bin/sh -c make # buildkit": "RUN make",
		"RUN env -i /bin/sh -c make":                               "RUN env -i /bin/sh -c make",
		"COPY /a /b # buildkit":                                    "COPY /a /b",
		"/bin/sh -c apt-get update":                                "RUN apt-get update",
		"/bin/sh -c #(nop)  CMD [\"sh\"]":                          "CMD [\"sh\"]",
		"load build definition from Dockerfile":                    "load build definition from Dockerfile",
	} {
		if got := report.ShortText(in); got != want {
			t.Errorf("%q is %q, want %q", in, got, want)
		}
	}
}

func lines(t report.Table, width int) string {
	return strings.Join(t.Render(width, nil), "\n")
}

func TestTable(t *testing.T) {
	var table report.Table
	if got := table.Render(80, nil); got != nil {
		t.Errorf("no rows give %q", got)
	}
	table.Columns = []report.Column{{Name: "name", Shrink: true}, {Name: "gone"}, {Name: "size", Right: true}, {Name: "note", Optional: true}, {Name: "end"}}
	table.Add("short", "", "1.2 MB", "", "x")
	table.Add("日本語/a-rather-long-name.txt", "", "812 B", "a note", "y", "one cell too many")
	table.Add("\x1b[31mevil\n")
	for width, want := range map[int]string{
		0: "" +
			"name                             size  note    end\n" +
			"short                          1.2 MB          x\n" +
			"日本語/a-rather-long-name.txt   812 B  a note  y\n" +
			"evil",
		40: "" +
			"name                   size  note    end\n" +
			"short                1.2 MB          x\n" +
			"日本語/a-…-name.txt   812 B  a note  y\n" +
			"evil",
		30: "" +
			"name                 size  end\n" +
			"short              1.2 MB  x\n" +
			"日本語/a…name.txt   812 B  y\n" +
			"evil",
		5: "" +
			"name            size  end\n" +
			"short         1.2 MB  x\n" +
			"日本語…e.txt   812 B  y\n" +
			"evil",
	} {
		if got := lines(table, width); got != want {
			t.Errorf("in %d columns:\n%s\nwant:\n%s", width, got, want)
		}
	}
	two := report.Table{Columns: []report.Column{{Name: "a", Shrink: true}, {Name: "b", Shrink: true}}}
	two.Add(strings.Repeat("x", 16), strings.Repeat("y", 40))
	if got := two.Render(40, nil)[1]; got != "xxxxxxxxxxxxxxxx  yyyyyyyyyyy…yyyyyyyyyy" {
		t.Errorf("the wider column did not give way: %q", got)
	}
	var cells []string
	table.Render(0, func(row, col int, cell string) string {
		if row == 0 {
			cells = append(cells, strings.Repeat("#", col)+cell)
		}
		return "<" + cell + ">"
	})
	if got := strings.Join(cells, "|"); got != "short|##1.2 MB|####x" {
		t.Errorf("styled cells are %q", got)
	}
}

// Whatever the cells: no line is wider than asked where the columns allow it,
// no line ends in blanks, and the columns stay under their heads.
// Pages, too, show no column of which nothing is known.
func TestTableFilled(t *testing.T) {
	table := report.Table{Columns: []report.Column{{Name: "a"}, {Name: "empty"}, {Name: "b", Right: true}}}
	table.Add("1", "", "2")
	table.Add("3")
	got := table.Filled()
	if len(got.Columns) != 2 || !got.Columns[1].Right || !slices.EqualFunc(got.Rows, [][]string{{"1", "2"}, {"3", ""}}, slices.Equal) {
		t.Errorf("%+v", got)
	}
}

func TestTableFits(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		table := report.Table{Columns: []report.Column{
			{Name: "a", Shrink: true}, {Name: "b", Right: true}, {Name: "c", Optional: true}, {Name: "d", Shrink: true, Optional: true},
		}}
		cell := rapid.OneOf(rapid.StringN(0, 40, -1), rapid.SampledFrom([]string{"", "日本語日本語日本語", "12.3 MB", "🇩🇪🇩🇪🇩🇪🇩🇪🇩🇪🇩🇪🇩🇪🇩🇪"}))
		for range rapid.IntRange(1, 5).Draw(t, "rows") {
			table.Add(cell.Draw(t, "a"), report.Bytes(rapid.Int64Min(0).Draw(t, "b")), cell.Draw(t, "c"), cell.Draw(t, "d"))
		}
		const least = 12 + 2 + 7 // what column a shrinks to, and b
		width := rapid.IntRange(least, 120).Draw(t, "width")
		for _, l := range table.Render(width, nil) {
			if report.Width(l) > width || strings.TrimRight(l, " ") != l {
				t.Fatalf("%q is %d wide in %d", l, report.Width(l), width)
			}
		}
	})
}

func TestWithoutArgs(t *testing.T) {
	for text, want := range map[string]string{
		"RUN |1 KEY=hush /bin/sh -c make # buildkit":         "RUN make # buildkit",
		"RUN |2 A=b=c D=e f /bin/sh -c make -c x":            "RUN make -c x",
		"RUN |1 KEY=a -c hush /bin/bash -o pipefail -c make": "RUN make",
		"RUN |1 KEY=hush powershell -Command make":           "RUN",
		"RUN /bin/sh -c make |1 A=b":                         "RUN /bin/sh -c make |1 A=b",
		"COPY a |1 /b":                                       "COPY a |1 /b",
		"RUN |":                                              "RUN",
	} {
		if got := report.WithoutArgs(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}
