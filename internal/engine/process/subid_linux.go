package process

import (
	"iter"
	"strconv"
	"strings"
)

// idRange maps count ids from inside a namespace on to outside.
type idRange struct{ inside, outside, count uint32 }

// maxRanges is the kernel's limit of lines in a map; user_namespaces(7).
const maxRanges = 340

// maxID is no id: -1 means "no change" to chown and others.
const maxID = 1<<32 - 1

// parseSubordinate returns what /etc/subuid or /etc/subgid (subuid(5)) grants
// a user, who is named there by login name or uid. The ranges follow each
// other inside from id 1 on; own is the user's own id outside, root inside.
// What the kernel would refuse counts as absent: malformed lines, ranges that
// hold own, and ranges that overlap an earlier one.
func parseSubordinate(file []byte, login string, uid, own int) []idRange {
	var ranges []idRange
	next := uint64(1)
	for line := range subordinateLines(file) {
		if line.name != login && line.name != strconv.Itoa(uid) {
			continue
		}
		taken := line.start <= uint64(own) && uint64(own) < line.end()
		for _, r := range ranges {
			taken = taken || (line.start < uint64(r.outside)+uint64(r.count) && uint64(r.outside) < line.end())
		}
		if taken {
			continue
		}
		ranges = append(ranges, idRange{uint32(next), uint32(line.start), uint32(line.count)})
		if len(ranges) == maxRanges-1 {
			break
		}
		next += line.count
	}
	return ranges
}

// freeSubordinate returns the first id above everything that the files grant
// to anybody, and at least 100000, where useradd starts (login.defs(5)).
func freeSubordinate(files ...[]byte) uint64 {
	free := uint64(100000)
	for _, file := range files {
		for line := range subordinateLines(file) {
			free = max(free, line.end())
		}
	}
	return free
}

type subordinateLine struct {
	name         string
	start, count uint64
}

func (l subordinateLine) end() uint64 { return l.start + l.count }

// subordinateLines yields the well-formed lines, name:start:count.
func subordinateLines(file []byte) iter.Seq[subordinateLine] {
	return func(yield func(subordinateLine) bool) {
		for text := range strings.Lines(string(file)) {
			name, rest, _ := strings.Cut(strings.TrimSpace(text), ":")
			first, count, ok := strings.Cut(rest, ":")
			if !ok || name == "" {
				continue
			}
			start, errStart := strconv.ParseUint(first, 10, 32)
			n, errCount := strconv.ParseUint(count, 10, 32)
			if errStart != nil || errCount != nil || n == 0 || start+n > maxID {
				continue
			}
			if !yield(subordinateLine{name, start, n}) {
				return
			}
		}
	}
}

// mapArgs are the arguments of newuidmap and newgidmap behind the pid: own is
// root inside, and the subordinate ids follow.
func mapArgs(own int, ranges []idRange) []string {
	args := []string{"0", strconv.Itoa(own), "1"}
	for _, r := range ranges {
		for _, n := range []uint32{r.inside, r.outside, r.count} {
			args = append(args, strconv.FormatUint(uint64(n), 10))
		}
	}
	return args
}
