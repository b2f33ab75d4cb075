package term

import (
	"bytes"
	"encoding/json"
	"fmt"
	"unicode"
)

// Encode writes v as JSON to Out, indented by two spaces, with nothing in it that
// a terminal would obey.
func (o *Output) Encode(v any) error {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(v); err != nil {
		return err
	}
	_, err := o.Out.Write(escapeControls(b.Bytes()))
	return err
}

// escapeControls writes characters that a terminal obeys and encoding/json
// lets through (DEL, the C1 controls, format characters) as \uXXXX, which is
// the same JSON. Outside of strings JSON has none of them.
func escapeControls(raw []byte) []byte {
	if !bytes.ContainsFunc(raw, obeyed) {
		return raw
	}
	var b bytes.Buffer
	for _, r := range string(raw) {
		switch {
		case !obeyed(r):
			b.WriteRune(r)
		case r > 0xffff: // as UTF-16, which JSON escapes are
			r -= 0x10000
			fmt.Fprintf(&b, `\u%04x\u%04x`, 0xd800+r>>10, 0xdc00+r&0x3ff)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.Bytes()
}

func obeyed(r rune) bool {
	return unicode.IsControl(r) && r != '\n' || unicode.Is(unicode.Cf, r)
}
