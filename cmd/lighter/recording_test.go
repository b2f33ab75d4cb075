package main

import "testing"

// The value of a build argument is hidden where it stands as a word, and tears no other
// word apart.
func TestWithoutValue(t *testing.T) {
	for _, c := range [][3]string{
		{"RUN login hush-1", "hush-1", "RUN login $KEY"},
		{"hush-1", "hush-1", "$KEY"},
		{"RUN a=hush-1;b=hush-1", "hush-1", "RUN a=$KEY;b=$KEY"},
		{"RUN unhushed", "hush", "RUN unhushed"},
		{"RUN hush_1 hush", "hush", "RUN hush_1 $KEY"},
		{"RUN HUSHed 9hush", "hush", "RUN HUSHed 9hush"},
		{"RUN x--hush", "--hush", "RUN x$KEY"},
		{"RUN on", "on", "RUN on"},
		{"RUN echo abc", "abc", "RUN echo abc"},
		{"RUN echo abcd", "abcd", "RUN echo $KEY"},
	} {
		if got := withoutValue(c[0], "KEY", c[1]); got != c[2] {
			t.Errorf("%q without %q: %q, want %q", c[0], c[1], got, c[2])
		}
	}
}
