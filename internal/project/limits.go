package project

import (
	"errors"
	"regexp"
	"strings"
	"time"

	"github.com/docker/go-units"
)

const (
	sizePattern = `\d+(\.\d+)? ?([kKmMgGtTpP]([iI]?[bB])?|[bB])?`
	agePattern  = `(\d+(\.\d+)?(ms|s|m|h))+`
)

const (
	wantSize = "a size such as 10GB"
	wantAge  = "a duration such as 720h"
)

// ParseSize reads a number of bytes, more than none: 10GB is 10^10, 10GiB is 10 * 2^30.
func ParseSize(s string) (int64, error) {
	parse := units.FromHumanSize
	if strings.HasSuffix(strings.ToLower(s), "ib") {
		parse = units.RAMInBytes
	}
	n, err := parse(s)
	if err != nil || n <= 0 || !whole(sizePattern, s) {
		return 0, errors.New("want " + wantSize)
	}
	return n, nil
}

// ParseAge reads a time that has passed, more than none: 720h, 1h30m.
func ParseAge(s string) (time.Duration, error) {
	d, err := time.ParseDuration(s)
	if err != nil || d <= 0 || !whole(agePattern, s) {
		return 0, errors.New("want " + wantAge)
	}
	return d, nil
}

func whole(pattern, s string) bool {
	return regexp.MustCompile(`\A(?:` + pattern + `)\z`).MatchString(s)
}

// why is what is wrong with a text, for a shape.
func why[T any](parse func(string) (T, error)) func(string) string {
	return func(s string) string {
		if _, err := parse(s); err != nil {
			return err.Error()
		}
		return ""
	}
}
