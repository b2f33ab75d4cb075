package report

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Bandwidth is how fast a network is, in bytes a second. Networks are sold in
// bits and shown in bytes, both in powers of ten.
type Bandwidth int64

// ParseBandwidth reads "100mbit", "2.5gbit", "512 kbit/s", "100MB/s". Bits may
// be written in any case. Bytes need their "/s": "100MB" is a size, and "1gb"
// could be either. The error is one line that says what is possible.
func ParseBandwidth(s string) (Bandwidth, error) {
	text := strings.ReplaceAll(s, " ", "")
	end := strings.LastIndexAny(text, "0123456789.") + 1
	v, err := strconv.ParseFloat(text[:end], 64)
	unit := text[end:]
	bits := strings.TrimSuffix(strings.ToLower(unit), "/s")
	scale := map[string]float64{"kbit": 1e3 / 8, "mbit": 1e6 / 8, "gbit": 1e9 / 8}[bits]
	if scale == 0 {
		scale = map[string]float64{"kB/s": 1e3, "KB/s": 1e3, "MB/s": 1e6, "GB/s": 1e9}[unit]
	}
	if err != nil || scale == 0 || math.IsNaN(v) || v < 0 {
		return 0, fmt.Errorf("bandwidth %.100q: write it as 100mbit, 1gbit or 100MB/s", s)
	}
	if v *= scale; v < 125 || v > 1e15 { // between 1 kbit/s and what no wire carries
		return 0, fmt.Errorf("bandwidth %.100q is no network's: use 1kbit to 8000000gbit", s)
	}
	return Bandwidth(math.Round(v)), nil
}

// String is in bits: "1 Gbit/s", "2.5 Gbit/s", "12.8 Mbit/s".
func (b Bandwidth) String() string {
	v, unit := float64(b)*8/1e3, "kbit/s"
	for _, larger := range [...]string{"Mbit/s", "Gbit/s"} {
		if v >= 999.95 {
			v, unit = v/1e3, larger
		}
	}
	return strconv.FormatFloat(math.Round(v*10)/10, 'f', -1, 64) + " " + unit
}

// Time is what n bytes take.
func (b Bandwidth) Time(n float64) time.Duration {
	return time.Duration(n / float64(b) * float64(time.Second))
}
