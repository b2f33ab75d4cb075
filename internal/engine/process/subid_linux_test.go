package process

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseSubordinate(t *testing.T) {
	for _, c := range []struct {
		name, file string
		want       []idRange
	}{
		{"useradd's", "ann:100000:65536\nbob:165536:65536\n", []idRange{{1, 165536, 65536}}},
		{"by uid, no newline", "1001:300000:10", []idRange{{1, 300000, 10}}},
		{"several", "bob:500000:5\nann:1:1\nbob:400000:7\n", []idRange{{1, 500000, 5}, {6, 400000, 7}}},
		{"the same twice, by name and uid", "bob:100000:65536\n1001:100000:65536\n", []idRange{{1, 100000, 65536}}},
		{"holds our own id", "bob:1000:5\nbob:2000:5", []idRange{{1, 2000, 5}}},
		{"malformed", "bob\nbob:\nbob:1\nbob:x:1\nbob:1:0\nbob:-1:5\nbob:4294967295:1\nbob:4294967290:10\n#bob:1:1\n:1:1", nil},
		{"empty", "", nil},
	} {
		got := parseSubordinate([]byte(c.file), "bob", 1001, 1001)
		if d := cmp.Diff(c.want, got, cmp.AllowUnexported(idRange{})); d != "" {
			t.Errorf("%s: %s", c.name, d)
		}
	}
	if got := freeSubordinate([]byte("ann:100000:65536\n"), []byte("bob:200000:5\njunk"), nil); got != 200005 {
		t.Errorf("free from %d on, want 200005", got)
	}
}

// Whatever the file says, the kernel would take the map: ids go up from 1
// inside without a gap, nothing overlaps outside, and no id is 2³²-1.
func FuzzParseSubordinate(f *testing.F) {
	f.Add([]byte("bob:100000:65536\n1001:90000:20000\nbob:4294967000:295\n"), uint16(1001))
	f.Add([]byte("bob:0:4294967295\nbob:1:1"), uint16(1))
	f.Add([]byte(strings.Repeat("bob:1:1\nbob:3:2\n", 400)), uint16(7))
	f.Fuzz(func(t *testing.T, file []byte, own uint16) {
		ranges := parseSubordinate(file, "bob", 1001, int(own))
		all := append([]idRange{{0, uint32(own), 1}}, ranges...)
		if len(all) > maxRanges {
			t.Fatalf("%d lines", len(all))
		}
		next := uint64(0)
		for i, r := range all {
			if uint64(r.inside) != next || r.count == 0 {
				t.Fatalf("%+v does not begin at %d", r, next)
			}
			next += uint64(r.count)
			if next > maxID || uint64(r.outside)+uint64(r.count) > maxID {
				t.Fatalf("%+v ends beyond all ids", r)
			}
			for _, o := range all[:i] {
				if uint64(r.outside) < uint64(o.outside)+uint64(o.count) && uint64(o.outside) < uint64(r.outside)+uint64(r.count) {
					t.Fatalf("%+v and %+v overlap", o, r)
				}
			}
		}
	})
}

func TestParseStat(t *testing.T) {
	rest := " S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4711 20 21"
	for in, want := range map[string]procStat{
		"12 (lighter)" + rest:      {'S', 4711},
		"12 (od) d) (name)" + rest: {'S', 4711},
		"12 (a) S 1 2 (b) 3":       {},
		"":                         {},
		"12 (x)":                   {},
	} {
		if got := parseStat([]byte(in)); got != want {
			t.Errorf("%q: %v, want %v", in, got, want)
		}
	}
	if statOf(os.Getpid()).ticks == 0 || statOf(1<<30).ticks != 0 {
		t.Error("statOf ourselves or nobody")
	}
}

func TestOneLine(t *testing.T) {
	if got, want := oneLine("a\n\nb\r\n\x1b[1mc\x1b[0m\n  d  \n\n"), "b; [1mc[0m; d"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	long := oneLine(fmt.Sprint(strings.Repeat("ü", tailBytes)))
	if len(long) > tailBytes+len("…") || !strings.HasPrefix(long, "…ü") {
		t.Errorf("%d bytes: %q", len(long), long)
	}
}
