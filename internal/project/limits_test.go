package project_test

import (
	"testing"
	"time"

	"github.com/lighter-oci/lighter/internal/project"
)

func TestLimits(t *testing.T) {
	for text, want := range map[string]int64{
		"10GB": 10e9, "10gb": 10e9, "10 GB": 10e9, "10G": 10e9, "1.5kB": 1500, "2MiB": 2 << 20, "2mib": 2 << 20, "7": 7, "7b": 7,
		"": 0, "0": 0, "0GB": 0, "-1GB": 0, "10XB": 0, "GB": 0, "1e9": 0, "inf": 0, "NaNGB": 0, "10GBs": 0, " 10GB": 0, "0x10": 0,
	} {
		if got, err := project.ParseSize(text); got != want || (err == nil) != (want > 0) {
			t.Errorf("%q is %d, %v; want %d", text, got, err, want)
		}
	}
	for text, want := range map[string]time.Duration{
		"720h": 720 * time.Hour, "1h30m": 90 * time.Minute, "1.5h": 90 * time.Minute, "": 0, "0s": 0, "-1h": 0, "30d": 0, "h": 0, "5": 0, "9999999h": 0,
	} {
		if got, err := project.ParseAge(text); got != want || (err == nil) != (want > 0) {
			t.Errorf("%q is %v, %v; want %v", text, got, err, want)
		}
	}
}
