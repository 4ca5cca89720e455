// Package glob matches channel names against patterns as they are written for files: "*" is any text, also with ":" in it, "?" one
// character, "[a-z]" and "[!a-z]" one of a class, "{a,b}" one of several, and a backslash takes the meaning from what follows it.
package glob

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
)

// maxLength bounds patterns, in bytes: they come from outside.
const maxLength = 1024

// Glob is a compiled pattern. It is safe for concurrent use, and matches in time proportional to the name.
type Glob struct{ re *regexp.Regexp }

// Match reports whether the whole name matches.
func (g *Glob) Match(name string) bool { return g.re == nil || g.re.MatchString(name) }

// Compile compiles a pattern. The empty one matches everything.
func Compile(pattern string) (*Glob, error) {
	if pattern == "" || pattern == "*" {
		return &Glob{}, nil
	}
	if len(pattern) > maxLength {
		return nil, fmt.Errorf("glob: pattern of %d bytes is longer than %d", len(pattern), maxLength)
	}
	expr, err := translate(pattern)
	if err != nil {
		return nil, fmt.Errorf("glob: %q: %w", pattern, err)
	}
	re, err := regexp.Compile(`(?s)\A` + expr + `\z`)
	if err != nil {
		return nil, fmt.Errorf("glob: %q: %w", pattern, err)
	}
	return &Glob{re: re}, nil
}

// translate writes a pattern as a regular expression, which is matched without backtracking.
func translate(pattern string) (string, error) {
	var b strings.Builder
	depth := 0
	runes := []rune(pattern)
	for i := 0; i < len(runes); i++ {
		switch r := runes[i]; {
		case r == '*':
			b.WriteString(`.*`)
		case r == '?':
			b.WriteByte('.')
		case r == '[':
			n, err := class(&b, runes[i+1:])
			if err != nil {
				return "", err
			}
			i += n
		case r == '{':
			depth++
			b.WriteString(`(?:`)
		case r == '}' && depth > 0:
			depth--
			b.WriteByte(')')
		case r == ',' && depth > 0:
			b.WriteByte('|')
		case r == '\\':
			if i++; i == len(runes) {
				return "", errors.New("ends with a backslash")
			}
			b.WriteString(regexp.QuoteMeta(string(runes[i])))
		default:
			b.WriteString(regexp.QuoteMeta(string(r)))
		}
	}
	if depth > 0 {
		return "", errors.New("{ without }")
	}
	return b.String(), nil
}

// class writes what follows a "[", and returns how long that was.
func class(b *strings.Builder, runes []rune) (int, error) {
	b.WriteByte('[')
	i := 0
	if i < len(runes) && (runes[i] == '!' || runes[i] == '^') {
		b.WriteByte('^')
		i++
	}
	for first := i; i < len(runes); i++ {
		switch r := runes[i]; {
		case r == ']' && i > first:
			b.WriteByte(']')
			return i + 1, nil
		case r == '-' && i > first && i+1 < len(runes) && runes[i+1] != ']':
			b.WriteByte('-')
		case r == '\\' && i+1 < len(runes):
			i++
			writeMember(b, runes[i])
		default:
			writeMember(b, r)
		}
	}
	return 0, errors.New("[ without ]")
}

// writeMember writes a rune of a class, with a backslash if it would mean something there.
func writeMember(b *strings.Builder, r rune) {
	if strings.ContainsRune(`\[]^-&`, r) {
		b.WriteByte('\\')
	}
	b.WriteRune(r)
}
