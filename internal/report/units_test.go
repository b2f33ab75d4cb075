package report_test

import (
	"encoding/json"
	"math"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/lighter-oci/lighter/internal/report"
)

func TestBytes(t *testing.T) {
	for n, want := range map[int64]string{
		-1:                  "0 B",
		0:                   "0 B",
		812:                 "812 B",
		999:                 "999 B",
		1000:                "1.00 kB",
		9_994:               "9.99 kB",
		9_995:               "10.0 kB",
		9_996:               "10.0 kB",
		99_960:              "100 kB",
		999_499:             "999 kB",
		999_500:             "1.00 MB",
		29_300_000:          "29.3 MB",
		999_500_000:         "1.00 GB",
		1_270_000_000:       "1.27 GB",
		5_000_000_000_000:   "5.00 TB",
		999_500_000_000_000: "1.00 PB",
		math.MaxInt64:       "9.22 EB",
		math.MinInt64:       "0 B",
	} {
		if got := report.Bytes(n); got != want {
			t.Errorf("%d is %q, want %q", n, got, want)
		}
	}
	// Seven columns hold any size.
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.Int64().Draw(t, "bytes")
		if s := report.Bytes(n); len(s) > 7 || strings.Contains(s, "1000 ") {
			t.Fatalf("%d is %q", n, s)
		}
	})
}

func TestDuration(t *testing.T) {
	for d, want := range map[time.Duration]string{
		-time.Second:                     "0.00 s",
		0:                                "0.00 s",
		840 * time.Millisecond:           "0.84 s",
		9_994 * time.Millisecond:         "9.99 s",
		9_996 * time.Millisecond:         "10.0 s",
		41_260 * time.Millisecond:        "41.3 s",
		59_949 * time.Millisecond:        "59.9 s",
		59_950 * time.Millisecond:        "1m 00s",
		72 * time.Second:                 "1m 12s",
		time.Hour - 501*time.Millisecond: "59m 59s",
		time.Hour - 499*time.Millisecond: "1h 00m",
		124 * time.Minute:                "2h 04m",
		100 * time.Hour:                  "100h 00m",
	} {
		if got := report.Duration(d); got != want {
			t.Errorf("%v is %q, want %q", d, got, want)
		}
		if got := report.Seconds(d).String(); got != want {
			t.Errorf("%v as Seconds is %q", d, got)
		}
	}
}

func TestRates(t *testing.T) {
	if got := report.MBps(322_000_000, 2*time.Second); got != 161 {
		t.Errorf("MBps is %v", got)
	}
	for _, zero := range []float64{report.MBps(0, 1), report.MBps(1, 0), report.MBps(-1, 1), report.MBps(1, -1)} {
		if zero != 0 {
			t.Errorf("unknown rate is %v", zero)
		}
	}
	for v, want := range map[float64]string{0: "0.00", 3.214: "3.21", 9.996: "10.0", 46.86: "46.9", 99.96: "100", 1024.4: "1024"} {
		if got := report.Figures(v); got != want {
			t.Errorf("%v is %q, want %q", v, got, want)
		}
	}
}

func TestSecondsJSON(t *testing.T) {
	for s, want := range map[report.Seconds]string{
		0:                                       "0",
		report.Seconds(1500 * time.Millisecond): "1.5",
		report.Seconds(72_413_250_400):          "72.41325",
		report.Seconds(400):                     "0",
		report.Seconds(600):                     "0.000001",
	} {
		got, err := json.Marshal(s)
		if err != nil || string(got) != want {
			t.Errorf("%d ns is %s (%v), want %s", s, got, err, want)
		}
	}
	for _, bad := range []string{`"1"`, `null`, `1e300`, `-1e300`} {
		var s report.Seconds
		if err := json.Unmarshal([]byte(bad), &s); err == nil && bad != "null" {
			t.Errorf("%s was read as %v", bad, s)
		}
	}
}
