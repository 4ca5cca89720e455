package pattern

import (
	"fmt"
	"strings"
	"unicode"
)

type kind uint8

const (
	literal kind = iota
	one          // {name}
	rest         // {name...}
)

// segment is one part of a pattern. For a literal, text is the whole of it; otherwise it is the prefix in front of the
// wildcard.
type segment struct {
	kind kind
	text string
}

// parse splits a pattern into segments and the names of its wildcards, in order.
func parse(pattern string) (segments []segment, names []string, err error) {
	if pattern == "" {
		return nil, nil, fmt.Errorf("empty channel pattern")
	}
	parts := strings.Split(pattern, ":")
	for i, part := range parts {
		s, name, err := parseSegment(part)
		if err != nil {
			return nil, nil, fmt.Errorf("channel pattern %q: %w", pattern, err)
		}
		if s.kind == rest && i < len(parts)-1 {
			return nil, nil, fmt.Errorf("channel pattern %q: {%s...} is not at the end", pattern, name)
		}
		segments = append(segments, s)
		if s.kind == literal {
			continue
		}
		for _, other := range names {
			if other == name {
				return nil, nil, fmt.Errorf("channel pattern %q: wildcard name %q is used twice", pattern, name)
			}
		}
		names = append(names, name)
	}
	return segments, names, nil
}

func parseSegment(part string) (s segment, name string, err error) {
	prefix, after, wild := strings.Cut(part, "{")
	if strings.Contains(prefix, "}") {
		return s, "", fmt.Errorf("segment %q has a closing brace without an opening one", part)
	}
	if !wild {
		return segment{literal, part}, "", nil
	}
	name, after, closed := strings.Cut(after, "}")
	switch {
	case !closed:
		return s, "", fmt.Errorf("segment %q has an opening brace without a closing one", part)
	case strings.Contains(after, "{"):
		return s, "", fmt.Errorf("segment %q has more than one wildcard", part)
	case after != "":
		return s, "", fmt.Errorf("segment %q has text after its wildcard", part)
	}
	s = segment{one, prefix}
	if n, ok := strings.CutSuffix(name, "..."); ok {
		s.kind, name = rest, n
	}
	if !identifier(name) {
		return s, "", fmt.Errorf("segment %q has a wildcard name that is not a Go identifier", part)
	}
	return s, name, nil
}

// identifier differs from [go/token.IsIdentifier] in that it admits keywords: {type} is a fine name.
func identifier(name string) bool {
	for i, r := range name {
		if r != '_' && !unicode.IsLetter(r) && (i == 0 || !unicode.IsDigit(r)) {
			return false
		}
	}
	return name != ""
}
