package report_test

import (
	"bytes"
	"encoding/xml"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/lighter-oci/lighter/internal/report"
)

func htmlOf(lines []report.LogLine) string {
	var s []string
	for _, l := range lines {
		s = append(s, l.HTML)
	}
	return strings.Join(s, "\n")
}

func TestConsole(t *testing.T) {
	link := func(url, text string) string {
		return `<a href="` + url + `" rel="noopener noreferrer nofollow">` + text + `</a>`
	}
	for _, tt := range []struct{ in, want string }{
		{"plain\n", "plain"},
		{"a\r\n\nb\n", "a\n\nb"},
		{"<b>&\"'\n", "&lt;b&gt;&amp;&#34;&#39;"},

		{"\x1b[31mred\x1b[0m and \x1b[1;4mmore\x1b[m\n", `<span class="f1">red</span> and <span class="bold underline">more</span>`},
		{"\u009b32mgreen\n", `<span class="f2">green</span>`},
		{"\x1b[31mred\nstill\x1b[39m no\n", `<span class="f1">red</span>` + "\n" + `<span class="f1">still</span> no`},
		{"\x1b[91;103mx\x1b[49my\n", `<span class="f9 b11">x</span><span class="f9">y</span>`},
		{"\x1b[1;2;3;9mx\x1b[22;23;29my\n", `<span class="bold dim italic strike">x</span>y`},
		{"\x1b[7mx\x1b[31my\x1b[42mz\x1b[27mw\n", `<span class="inverse">x</span><span class="b1">y</span><span class="f2 b1">z</span><span class="f1 b2">w</span>`},
		{"\x1b[4:3mcurly\x1b[4:0mno\n", `<span class="underline">curly</span>no`},
		{"\x1b[38;5;9mx\x1b[38;5;196my\x1b[38;5;232mz\n", `<span class="f9">xy</span><span class="f0">z</span>`},
		{"\x1b[38;2;255;10;10mx\x1b[38:2::0:200:0my\x1b[48:5:4mz\n", `<span class="f9">x</span><span class="f2">y</span><span class="f2 b4">z</span>`},
		{"\x1b[58;5;1;31mx\n", `<span class="f1">x</span>`},
		{"\x1b[38;5mx\x1b[38mx\x1b[38;5;999mx\x1b[48;2;1mx\x1b[38;9mx\x1b[999999999999999999999mx\n", "xxxxxx"},
		{"\x1b[>4;2mx\x1b[?1mx\x1b[1 mx\n", "xxx"}, // not about colours

		{" 10%\r 50%\r100%\n", "100%"},
		{"downloading 9 MB\r\x1b[Kdone\n", "done"},
		{"longer\rab\n", "abnger"},
		{"\x1b[31mold\r\x1b[0mn\n", `n<span class="f1">ld</span>`},
		{"ab\b\bc\b\b\b\bd\n", "db"},
		{"abc\b\x1b[1Kx\n", "  x"},
		{"abc\x1b[2Kx\n", "   x"},
		{"a\x1b[2;5H\x1b[3Ab\x1b[10Cc\x1b[?25l\n", "abc"},

		{"\x1b]0;title\a\x1b]2;title\x1b\\\x1bP1$x\x1b\\\x1b_x\u009cx\n", "x"},
		{"\x1b]8;;https://example.com/a?b=c&d=\"\x1b\\see\x1b]8;;\x1b\\ it\n", link("https://example.com/a?b=c&amp;d=&#34;", "see") + " it"},
		{"\x1b]8;id=1;http://example.com\a\x1b[1msee\n\x1b[0mnext\n", link("http://example.com", `<span class="bold">see</span>`) + "\nnext"},
		{"\x1b]8;;javascript:alert(1)\asee\n", "see"},
		{"\x1b]8;;https:example.com\asee\x1b]8;;//example.com\asee\x1b]8;;file:///etc/passwd\asee\n", "seeseesee"},
		{"\x1b]8;;https://registry.example@evil.example/\asee\n", "see"},
		{"\x1b]8;;https://" + strings.Repeat("a", 3000) + "\asee\n", "see"},
		{"\x1b]8;;https://a\u202eb/\asee\x1b]8;;https://a/?\xff\asee\n", "seesee"},

		{"a\xff\xc3b\n", "a\ufffd\ufffdb"},
		{"a\u202eb\u2066c\n", `a<span class="control">⟨U+202E⟩</span>b<span class="control">⟨U+2066⟩</span>c`},
		{"a\u200bb\u00adc\x00\x07\x7fd\ufeff\n", "abcd"},
		{"e\u0301\u0301 👩\u200d🚀\n", "e\u0301\u0301 👩\u200d🚀"},
		{"z" + strings.Repeat("\u0301", 5000) + "y\n", "z" + strings.Repeat("\u0301", 8) + "y"},
		{"\ta\u2028b\u0085c\fd\u00a0\n", "\ta b c d\u00a0"},
	} {
		var c report.Console
		lines := c.Write([]byte(tt.in))
		if got := htmlOf(lines); got != tt.want {
			t.Errorf("%q:\n got %q\nwant %q", tt.in, got, tt.want)
		}
		readable(t, lines)

		// However it is cut, it is the same.
		var bytewise report.Console
		var apart []report.LogLine
		for _, b := range []byte(tt.in) {
			apart = append(apart, bytewise.Write([]byte{b})...)
		}
		if diff := cmp.Diff(lines, apart); diff != "" {
			t.Errorf("%q, a byte at a time:\n%s", tt.in, diff)
		}
	}
}

func TestConsoleLine(t *testing.T) {
	var c report.Console
	c.Write([]byte("\x1b[32mdone\n 50%\x1b["))
	if got := c.Line().HTML; got != `<span class="f2"> 50%</span>` {
		t.Error(got)
	}
	c.Write([]byte("0m\r100"))
	if got := c.Line().HTML; got != `100<span class="f2">%</span>` {
		t.Error(got)
	}
}

func TestConsoleLongLines(t *testing.T) {
	c := report.Console{MaxLine: 10}
	for _, tt := range []struct{ in, want string }{
		{strings.Repeat("x", 10) + "\n", "xxxxxxxxxx"},
		{strings.Repeat("x", 1234) + "\n", "xxxxxxxxxx … 1224 more characters"},
		{strings.Repeat("x", 1234) + "\ry\n", "yxxxxxxxxx … 1224 more characters"},
		{strings.Repeat("x", 1234) + "\r\x1b[Ky\n", "y"},
		{strings.Repeat("x", 12) + "\x1b[K\n", "xxxxxxxxxx … 2 more characters"},
		{strings.Repeat("x", 12) + "\x1b[2Ky\n", strings.Repeat(" ", 10) + " … 3 more characters"},
		{"\x1b]" + strings.Repeat("x", 5000), ""},
		{"\n", "xxxxxxxxxx … 4990 more characters"}, // never a sequence
	} {
		if lines := c.Write([]byte(tt.in)); tt.want != "" && (len(lines) != 1 || lines[0].Text != tt.want) {
			t.Errorf("%.20q: %q, want %q", tt.in, lines, tt.want)
		}
	}
}

var allowed = regexp.MustCompile(`^(<span class="([a-z0-9]+ )*[a-z0-9]+">|</span>|<a href="https?://[^"<>\s]+" rel="noopener noreferrer nofollow">|</a>|[^<>"]+)*$`)

// readable says of lines that they hold nothing but text, spans and links, and
// what the text says.
func readable(t *testing.T, lines []report.LogLine) {
	t.Helper()
	for _, l := range lines {
		if !allowed.MatchString(l.HTML) || strings.ContainsAny(l.HTML, "\n\r\x00\x1b\u202e") || !utf8.ValidString(l.HTML) {
			t.Errorf("%q", l.HTML)
		}
		var text strings.Builder
		d := xml.NewDecoder(strings.NewReader("<p>" + l.HTML + "</p>"))
		for {
			token, err := d.Token()
			if err != nil {
				if err.Error() != "EOF" {
					t.Errorf("%v in %q", err, l.HTML)
				}
				break
			}
			if s, ok := token.(xml.CharData); ok {
				text.Write(s)
			}
		}
		if text.String() != l.Text {
			t.Errorf("%q says %q, and Text %q", l.HTML, text.String(), l.Text)
		}
	}
}

func FuzzConsole(f *testing.F) {
	for _, s := range []string{
		"\x1b[31mred\x1b[0m\n", "10%\r20%\r\n", "\x1b]8;;https://a.example/?\"'<>\x1b\\x\x1b]8;;\a\n", "\x1b]0;t\a\x1b[38;5;208mx\x1b[48:2::1:2:3my", "\xff\u202e<script>&\x9b\u009b",
		"a\bb\x1b[1K\x1b[2K\x1b[K", "\x1b(B\x1bP\x1b\\\x1b", "\x1b]8;;http://%zz\a.\x1b]8;;http://\u2028x y\a.",
	} {
		f.Add([]byte(s), uint(3))
	}
	f.Fuzz(func(t *testing.T, data []byte, cut uint) {
		data = append(data, '\n')
		var c report.Console
		lines := c.Write(data)
		readable(t, lines)
		readable(t, []report.LogLine{c.Line()})
		if len(lines) != bytes.Count(data, []byte{'\n'}) && !bytes.ContainsAny(data, "\x1b\u0090\u0098\u009d\u009e\u009f") {
			t.Errorf("%d lines", len(lines))
		}
		var halves report.Console
		k := int(cut % uint(len(data)))
		apart := append(halves.Write(data[:k]), halves.Write(data[k:])...)
		if len(data) < 4096 && !slices.Equal(apart, lines) {
			t.Errorf("cut at %d: %q, whole: %q", k, apart, lines)
		}
		// Where nothing is written over, it is the text that Clean shows elsewhere.
		if bytes.ContainsAny(data, "\r\b\u009b\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\ufffe\uffff") || regexp.MustCompile(`\x1b\[[0-9]*K`).Match(data) || !utf8.Valid(data) {
			return
		}
		var all []string
		for _, l := range lines {
			all = append(all, l.Text)
		}
		// Accents beyond the eighth are left out.
		if got, want := report.Clean(strings.Join(all, "\n")), report.Clean(string(data)); got != want && len(data) < 4096 && !regexp.MustCompile(`[\p{Mn}\p{Me}\x{200d}]`).Match(data) {
			t.Errorf("%q is shown as %q, and Clean says %q", data, got, want)
		}
	})
}

// Whatever a log was coloured for: WCAG 2.2 asks a ratio of 4.5 for text.
func TestLogContrast(t *testing.T) {
	colours := map[string][2]string{}
	for _, m := range regexp.MustCompile(`\.log \.([fb]\d+)\{[a-z]+:light-dark\((#\w{6}),(#\w{6})\)\}`).FindAllStringSubmatch(report.LogCSS, -1) {
		colours[m[1]] = [2]string{m[2], m[3]}
	}
	colours["bp"], colours["fi"] = [2]string{"#ffffff", "#16181b"}, [2]string{"#1a1c1f", "#e8eaed"}
	if len(colours) != 34 {
		t.Fatalf("%d colours", len(colours))
	}
	for f, fg := range colours {
		for b, bg := range colours {
			if f[0] != 'f' || b[0] != 'b' {
				continue
			}
			for mode := range 2 {
				l1, l2 := luminance(t, fg[mode]), luminance(t, bg[mode])
				if ratio := (max(l1, l2) + 0.05) / (min(l1, l2) + 0.05); ratio < 4.5 {
					t.Errorf("%s on %s (%s on %s): %.2f", f, b, fg[mode], bg[mode], ratio)
				}
			}
		}
	}
}

func luminance(t *testing.T, colour string) float64 {
	t.Helper()
	sum := 0.0
	for i, weight := range []float64{0.2126, 0.7152, 0.0722} {
		n, err := strconv.ParseUint(colour[1+2*i:3+2*i], 16, 8)
		if err != nil {
			t.Fatal(err)
		}
		v := float64(n) / 255
		if v <= 0.04045 {
			v /= 12.92
		} else {
			v = math.Pow((v+0.055)/1.055, 2.4)
		}
		sum += weight * v
	}
	return sum
}

func BenchmarkConsole(b *testing.B) {
	data := []byte(strings.Repeat("\x1b[32m   Compiling\x1b[0m serde v1.0.219 (/src/serde)\n#12 4.312 npm warn deprecated inflight@1.0.6: This module is not supported\n", 1000))
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		var c report.Console
		if n := len(c.Write(data)); n != 2000 {
			b.Fatal(n)
		}
	}
}
