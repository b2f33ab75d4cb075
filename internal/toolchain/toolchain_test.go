package toolchain_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lighter-oci/lighter/internal/toolchain"
)

func TestNumber(t *testing.T) {
	for line, want := range map[string]string{
		"go version go1.26.0 linux/amd64":               "1.26.0",
		"go version go1.27rc1 linux/amd64":              "1.27rc1",
		"gcc (Debian 12.2.0-14+deb12u1) 12.2.0":         "12.2.0",
		"cargo 1.95.0 (f2d3ce0bd 2026-03-21)":           "1.95.0",
		"Debian clang version 14.0.6":                   "14.0.6",
		"Apple clang version 15.0.0 (clang-1500.3.9.4)": "15.0.0",
		"0.13.0":                 "0.13.0",
		"0.14.0-dev.1+abc":       "0.14.0-dev.1+abc",
		"runc version 1.1.5+ds1": "1.1.5+ds1",
		"gcc (GCC) 13.2.1 20231011 (Red Hat 13.2.1-4)": "13.2.1",
		"": "",
	} {
		if got := toolchain.Number(line); got != want {
			t.Errorf("%q: %q, want %q", line, got, want)
		}
	}
}

// What is in the path is found and asked, what is not is named, and the first
// of a language counts.
func TestFind(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("PATH", dir)
	for name, script := range map[string]string{
		"clang": "echo clang version 14.0.6",
		"go":    `test "$1" = version && test "$GOTOOLCHAIN" = local && echo go version go1.26.1 linux/amd64`,
		"cargo": "exit 1",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	var got []string
	for _, c := range toolchain.Find(t.Context()) {
		s := c.Language + "=" + c.Name + " " + c.Version
		if c.Path == "" {
			s = c.Language + " none"
		}
		if c.Err != nil {
			s += "failed"
		}
		got = append(got, s)
	}
	want := "Go=go 1.26.1; C=clang 14.0.6; Rust=cargo failed; C, any target none"
	if s := strings.Join(got, "; "); s != want {
		t.Errorf("%s\nwant %s", s, want)
	}
}
