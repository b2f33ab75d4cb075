package report

import (
	"fmt"
	"strconv"
	"time"
)

// Bytes writes a size in decimal units with three figures: "812 B", "4.02 MB",
// "29.3 MB", "1.27 GB". Registries and disks count in powers of ten, so do we. No
// size is less than "0 B".
func Bytes(n int64) string {
	n = max(n, 0)
	if n < 1000 {
		return strconv.FormatInt(n, 10) + " B"
	}
	v := float64(n)
	for _, unit := range [...]string{"kB", "MB", "GB", "TB", "PB"} {
		v /= 1000
		if v < 999.5 {
			return Figures(v) + " " + unit
		}
	}
	return Figures(v/1000) + " EB"
}

// Figures writes a number of at least zero with three figures, or all of those
// before the point: "0.84", "3.21", "29.3", "312", "1024".
func Figures(v float64) string {
	switch {
	case v < 9.995:
		return strconv.FormatFloat(v, 'f', 2, 64)
	case v < 99.95:
		return strconv.FormatFloat(v, 'f', 1, 64)
	}
	return strconv.FormatFloat(v, 'f', 0, 64)
}

// Duration writes a time span: "0.84 s", "41.3 s", "1m 12s", "2h 04m".
// Negative spans, which clocks of two machines can yield, are "0.00 s".
func Duration(d time.Duration) string {
	d = max(d, 0)
	if d < 59_950*time.Millisecond {
		return Figures(d.Seconds()) + " s"
	}
	if s := d.Round(time.Second); s < time.Hour {
		return fmt.Sprintf("%dm %02ds", s/time.Minute, s%time.Minute/time.Second)
	}
	m := d.Round(time.Minute)
	return fmt.Sprintf("%dh %02dm", m/time.Hour, m%time.Hour/time.Minute)
}

// MBps is megabytes (10⁶) a second; 0 where it cannot be known.
func MBps(bytes int64, took time.Duration) float64 {
	if bytes <= 0 || took <= 0 {
		return 0
	}
	return float64(bytes) / 1e6 / took.Seconds()
}
