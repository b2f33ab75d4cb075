package report

import (
	"fmt"
	"strconv"
	"strings"
)

// LogCSS is the style of Console's lines, each in an element of the class "log".
// Foregrounds are readable on every background, and all of them on the page's,
// in light and dark: a log that was made for a black terminal is read on white.
const LogCSS = `.log{white-space:pre-wrap;overflow-wrap:anywhere;tab-size:8;font:13px/20px ui-monospace,monospace;--i:var(--ink,light-dark(#1a1c1f,#e8eaed));--p:var(--paper,light-dark(#ffffff,#16181b))}` +
	`.log .bold{font-weight:700}.log .dim{color:var(--quiet,light-dark(#5b6068,#a2a8b0))}.log .italic{font-style:italic}.log .underline{text-decoration:underline}.log .strike{text-decoration:line-through}` +
	`.log .underline.strike{text-decoration:underline line-through}.log .inverse{color:var(--p);background:var(--i)}` +
	`.log a{color:inherit;text-decoration:underline}.log .control{outline:1px solid;border-radius:2px}.log .cut{font-style:italic}` +
	`.log .f0{color:light-dark(#1a1c1f,#b3b9c0)}.log .f1{color:light-dark(#a3160f,#ff9d94)}.log .f2{color:light-dark(#14602a,#7fd18c)}.log .f3{color:light-dark(#704b00,#e6bd5a)}` +
	`.log .f4{color:light-dark(#0b4fc0,#9bbffa)}.log .f5{color:light-dark(#8c1d8c,#e6a5ed)}.log .f6{color:light-dark(#005b66,#6fd3de)}.log .f7{color:light-dark(#4a4f57,#d4d8dd)}` +
	`.log .f8{color:light-dark(#53585f,#b3b9c0)}.log .f9{color:light-dark(#ab2018,#ffb1aa)}.log .f10{color:light-dark(#0f6630,#98e2a3)}.log .f11{color:light-dark(#675000,#f4d27a)}` +
	`.log .f12{color:light-dark(#2050b8,#b4cefb)}.log .f13{color:light-dark(#951c86,#efb5f3)}.log .f14{color:light-dark(#00606f,#93e3eb)}.log .f15{color:light-dark(#2b2e33,#ffffff)}` +
	`.log .b0{background:light-dark(#dcdfe3,#2b2f35)}.log .b1{background:light-dark(#fbdad7,#4f1a16)}.log .b2{background:light-dark(#cdeccf,#16411f)}.log .b3{background:light-dark(#f5e3b3,#453200)}` +
	`.log .b4{background:light-dark(#d3e3fd,#17356b)}.log .b5{background:light-dark(#f3d9f5,#4a1e4f)}.log .b6{background:light-dark(#c9ecf0,#0b3d44)}.log .b7{background:light-dark(#eceef1,#383d44)}` +
	`.log .b8{background:light-dark(#e2e5e9,#34383e)}.log .b9{background:light-dark(#ffe2df,#5a1d19)}.log .b10{background:light-dark(#ddf5df,#194522)}.log .b11{background:light-dark(#fbedc8,#4c3704)}` +
	`.log .b12{background:light-dark(#e2ecfe,#1b3a73)}.log .b13{background:light-dark(#f8e6f9,#522357)}.log .b14{background:light-dark(#dbf4f7,#0f434a)}.log .b15{background:light-dark(#f7f8f9,#3b4047)}`

// style is how characters look: what "Select Graphic Rendition" of ECMA-48 says.
type style struct {
	fg, bg uint8 // 1 … 16 are the colours 0 … 15; 0 is the page's

	bold, dim, italic, underline, inverse, strike bool

	control bool // a character that would not be seen
}

// class is the style for LogCSS. What is hidden or blinks is plainly shown.
func (s style) class() string {
	fg, bg := s.fg, s.bg
	inverse := s.inverse && fg == 0 && bg == 0
	if s.inverse {
		fg, bg = bg, fg
	}
	var c []string
	if fg > 0 {
		c = append(c, fmt.Sprintf("f%d", fg-1))
	}
	if bg > 0 {
		c = append(c, fmt.Sprintf("b%d", bg-1))
	}
	for _, on := range []struct {
		is   bool
		name string
	}{
		{s.bold, "bold"}, {s.dim && fg == 0 && bg == 0 && !inverse, "dim"}, {s.italic, "italic"}, {s.underline, "underline"},
		{inverse, "inverse"}, {s.strike, "strike"}, {s.control, "control"},
	} {
		if on.is {
			c = append(c, on.name)
		}
	}
	return strings.Join(c, " ")
}

// set follows the parameters of a sequence: "1;31", "38;5;208", "38:2::255:0:0".
func (s *style) set(parameters string) {
	if strings.Trim(parameters, "0123456789;:") != "" {
		return // somebody's own, such as ">4;2"
	}
	p := strings.Split(parameters, ";")
	for i := 0; i < len(p); i++ {
		code, sub, _ := strings.Cut(p[i], ":")
		n, err := strconv.Atoi(code)
		if err != nil && code != "" {
			continue // longer than any number
		}
		switch n {
		case 38, 48, 58:
			args := strings.Split(sub, ":")
			if sub == "" {
				args = p[i+1:]
			}
			colour, used := extended(args, sub != "")
			if sub == "" {
				i += used
			}
			if colour == 0 || n == 58 { // 58 is the underline's
				continue
			}
			if n == 38 {
				s.fg = colour
			} else {
				s.bg = colour
			}
		case 4:
			s.underline = sub != "0"
		default:
			s.one(n)
		}
	}
}

// one follows a parameter that stands by itself.
func (s *style) one(n int) {
	switch {
	case n == 0:
		*s = style{}
	case n == 1:
		s.bold = true
	case n == 2:
		s.dim = true
	case n == 3:
		s.italic = true
	case n == 7:
		s.inverse = true
	case n == 9:
		s.strike = true
	case n == 21:
		s.underline = true // twice
	case n == 22:
		s.bold, s.dim = false, false
	case n == 23:
		s.italic = false
	case n == 24:
		s.underline = false
	case n == 27:
		s.inverse = false
	case n == 29:
		s.strike = false
	case n >= 30 && n <= 37:
		s.fg = uint8(n - 30 + 1)
	case n == 39:
		s.fg = 0
	case n >= 40 && n <= 47:
		s.bg = uint8(n - 40 + 1)
	case n == 49:
		s.bg = 0
	case n >= 90 && n <= 97:
		s.fg = uint8(n - 90 + 9)
	case n >= 100 && n <= 107:
		s.bg = uint8(n - 100 + 9)
	}
}

// extended reads what follows 38 or 48, "5;N" or "2;R;G;B", and how much that
// is; 0 is none. With colons a colour space may stand before the three.
func extended(args []string, colons bool) (colour uint8, used int) {
	number := func(i int) int {
		if i >= len(args) {
			return -1
		}
		n, err := strconv.Atoi(args[i])
		if args[i] == "" {
			return 0
		}
		if err != nil || n < 0 || n > 255 {
			return -1
		}
		return n
	}
	switch number(0) {
	case 5:
		if n := number(1); n >= 0 {
			return of256(n), 2
		}
		return 0, min(2, len(args))
	case 2:
		first := 1
		if colons && len(args) >= 5 {
			first = 2
		}
		r, g, b := number(first), number(first+1), number(first+2)
		if r < 0 || g < 0 || b < 0 {
			return 0, min(4, len(args))
		}
		return nearest(r, g, b), 4
	}
	return 0, min(1, len(args))
}

// of256 is the colour of 16 that is the nearest to one of xterm's 256.
func of256(n int) uint8 {
	switch {
	case n < 16:
		return uint8(n + 1)
	case n >= 232:
		grey := 8 + 10*(n-232)
		return nearest(grey, grey, grey)
	}
	level := func(i int) int {
		if i == 0 {
			return 0
		}
		return 55 + 40*i
	}
	n -= 16
	return nearest(level(n/36), level(n/6%6), level(n%6))
}

// nearest is the colour of xterm's 16 that looks most like it, by "redmean",
// https://www.compuphase.com/cmetric.htm.
func nearest(r, g, b int) uint8 {
	best, least := 0, -1
	for i, c := range [16][3]int{
		{0, 0, 0}, {205, 0, 0}, {0, 205, 0}, {205, 205, 0}, {0, 0, 238}, {205, 0, 205}, {0, 205, 205}, {229, 229, 229},
		{127, 127, 127}, {255, 0, 0}, {0, 255, 0}, {255, 255, 0}, {92, 92, 255}, {255, 0, 255}, {0, 255, 255}, {255, 255, 255},
	} {
		dr, dg, db, mean := c[0]-r, c[1]-g, c[2]-b, (c[0]+r)/2
		d := (512+mean)*dr*dr/256 + 4*dg*dg + (767-mean)*db*db/256
		if least < 0 || d < least {
			best, least = i, d
		}
	}
	return uint8(best + 1)
}
