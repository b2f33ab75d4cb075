package report

import (
	"bytes"
	"regexp"
)

// wrong are lines that the first look is for.
var wrong = regexp.MustCompile(`(?i)\b(error|fatal|panic|failed|failure|cannot|not found|denied|traceback|undefined)\b`)

// harmless are lines that only speak of such words.
var harmless = regexp.MustCompile(`(?i)\b(0|no) (errors?|failed|failures?)\b|--[a-z-]*error|\berror[-_.]?(chain|code|v?\d|free)`)

// hints are what each of those lines has in it: most lines are done with here.
var hints = [][]byte{
	[]byte("rror"), []byte("RROR"), []byte("atal"), []byte("ATAL"), []byte("anic"), []byte("ail"), []byte("AIL"),
	[]byte("annot"), []byte("ot found"), []byte("enied"), []byte("aceback"), []byte("ndefined"),
}

// Wrong tells whether a line of a log, colours and all, looks like an error.
func Wrong(line []byte) bool {
	for _, h := range hints {
		if bytes.Contains(line, h) {
			if bytes.IndexByte(line, '\x1b') >= 0 {
				line = []byte(Clean(string(line)))
			}
			return wrong.Match(line) && !harmless.Match(line)
		}
	}
	return false
}
