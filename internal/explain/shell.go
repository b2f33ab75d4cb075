package explain

import (
	"path"
	"regexp"
	"slices"
	"strings"
)

// commands takes a shell script apart into its simple commands, each as words
// without quotes. It reads what Dockerfiles have: lists, pipes, groups, loops,
// comments, nested sh -c. What a command substitution prints is not known, its
// commands are.
func commands(script string) [][]string {
	var list [][]string
	var words []string
	var word strings.Builder
	started := false
	endWord := func() {
		if started {
			words = append(words, word.String())
		}
		word.Reset()
		started = false
	}
	endCommand := func() {
		endWord()
		if c := bare(words); len(c) > 0 {
			list = append(list, nested(c)...)
		}
		words = nil
	}
	quote := byte(0)
	for i := 0; i < len(script); i++ {
		c := script[i]
		switch {
		case quote == '\'' && c != '\'', quote == '"' && c != '"' && c != '\\':
			word.WriteByte(c)
		case quote != 0 && c == quote:
			quote = 0
		case c == '\\' && i+1 < len(script):
			if i++; script[i] != '\n' {
				word.WriteByte(script[i])
				started = true
			}
		case c == '\'' || c == '"':
			quote, started = c, true
		case c == '#' && !started:
			for i+1 < len(script) && script[i+1] != '\n' {
				i++
			}
		case c == '>' && started && strings.Trim(word.String(), "0123456789") == "":
			word.Reset() // the number of a redirection
			started = false
			i = skipRedirection(script, i)
		case c == '>' || c == '<':
			endWord()
			i = skipRedirection(script, i)
		case strings.IndexByte(";|&\n()`", c) >= 0:
			endCommand()
		case c == ' ' || c == '\t' || c == '\r':
			endWord()
		default:
			word.WriteByte(c)
			started = true
		}
	}
	endCommand()
	return list
}

// skipRedirection is the index of the last byte of ">> file", "2>&1" or "< file".
func skipRedirection(script string, i int) int {
	for i+1 < len(script) && strings.IndexByte("<>&-", script[i+1]) >= 0 {
		i++
	}
	for i+1 < len(script) && (script[i+1] == ' ' || script[i+1] == '\t') {
		i++
	}
	for i+1 < len(script) && strings.IndexByte(" \t\r\n;|&()", script[i+1]) < 0 {
		i++
	}
	return i
}

var assignment = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*=`)

// bare is a command without what stands in front of it: assignments, keywords,
// and commands that run another.
func bare(words []string) []string {
	for len(words) > 0 {
		switch w := words[0]; {
		case assignment.MatchString(w), slices.Contains(fronts, w):
			words = words[1:]
		case w == "env" || w == "sudo" || w == "nice" || w == "xvfb-run":
			words = words[1:]
			for len(words) > 0 && strings.HasPrefix(words[0], "-") {
				words = words[1:]
			}
		default:
			return words
		}
	}
	return nil
}

var fronts = []string{
	"{", "}", "!", "if", "then", "elif", "else", "fi", "while", "until", "do", "done", "time", "exec", "command", "nohup", "$",
}

// nested opens sh -c "…".
func nested(words []string) [][]string {
	name := path.Base(words[0])
	if slices.Contains([]string{"sh", "bash", "ash", "dash"}, name) {
		for i := 1; i < len(words)-1; i++ {
			if w := words[i]; strings.HasPrefix(w, "-") && !strings.HasPrefix(w, "--") && strings.HasSuffix(w, "c") {
				return commands(words[i+1])
			}
		}
	}
	return [][]string{words}
}

// arguments of a command that are no flags, behind its name.
func plain(words []string, valued ...string) []string {
	var list []string
	for i := 1; i < len(words); i++ {
		switch w := words[i]; {
		case slices.Contains(valued, w):
			i++
		case strings.HasPrefix(w, "-"), strings.HasPrefix(w, "+"):
		default:
			list = append(list, w)
		}
	}
	return list
}

// hasFlag tells whether a command has one of the flags, with or without a value.
func hasFlag(words []string, flags ...string) bool {
	return slices.ContainsFunc(words[1:], func(w string) bool {
		name, _, _ := strings.Cut(w, "=")
		return slices.Contains(flags, name) || slices.Contains(flags, w)
	})
}
