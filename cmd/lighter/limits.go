package main

import (
	"time"

	"github.com/lighter-oci/lighter/internal/project"
)

// size is a flag in bytes, as 10GB; 0 where it is not given.
type size int64

// UnmarshalText implements encoding.TextUnmarshaler.
func (s *size) UnmarshalText(text []byte) error {
	n, err := project.ParseSize(string(text))
	*s = size(n)
	return err
}

// age is a flag that is a time which has passed, as 720h; 0 where it is not given.
type age time.Duration

// UnmarshalText implements encoding.TextUnmarshaler.
func (a *age) UnmarshalText(text []byte) error {
	d, err := project.ParseAge(string(text))
	*a = age(d)
	return err
}
