package history

import (
	"crypto/rand"
	"strings"
	"time"

	"github.com/oklog/ulid/v2"
)

// ShortID is how many of its last characters people see of an ID: 35 bits tell
// apart what one machine builds, and the first ones are only the time.
const ShortID = 7

// newID is a ULID in small letters: sorted by its time.
func newID(t time.Time) string {
	return strings.ToLower(ulid.MustNew(ulid.Timestamp(t), rand.Reader).String())
}

// ValidID tells whether id is one that NewID could have made: nothing else becomes
// part of a file's name.
func ValidID(id string) bool {
	_, err := ulid.ParseStrict(id)
	return err == nil && id == strings.ToLower(id)
}

// timeOf is the time in a valid ID, which is later than the clock was where that had
// been set back.
func timeOf(id string) time.Time {
	parsed, err := ulid.Parse(id)
	if err != nil {
		return time.Time{}
	}
	return ulid.Time(parsed.Time())
}

// Short is what people see of an ID, and may type.
func Short(id string) string { return id[max(len(id)-ShortID, 0):] }
