// Package pattern finds what was declared for a channel, by its name.
//
// A pattern is a list of segments, separated by colons:
//
//   - a literal matches itself;
//   - {name} takes the rest of its segment, at least one character. It may follow a literal prefix, as in #{id} or
//     user-{id};
//   - {name...} takes the rest of the channel's name, at least one character of anything, colons included. It comes
//     last, and may follow a literal prefix too.
//
// Of several patterns that match a channel the most precise one wins: they are compared segment by segment from the
// left, where a literal comes before a longer prefix, that before a shorter one, and behind the same prefix {name} comes
// before {name...}. Two patterns that differ only in names are in conflict.
//
// An empty segment of a channel's name, as in "a::b", matches only an empty literal, or is taken by {name...}.
package pattern

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
)

// Set holds values by pattern. The zero Set is empty and ready to use. It is safe for concurrent use; Lookup does not
// wait for Add.
type Set[T any] struct {
	mu   sync.Mutex // taken by Add only
	root atomic.Pointer[node[T]]
}

// node is a place in a trie of segments. Nodes that a reader can reach are never changed.
type node[T any] struct {
	leaf     *leaf[T] // the pattern that ends here, if any
	literals map[string]*node[T]
	prefixes map[string]wildcards[T]
	// lengths of the prefixes, longest first and each once: a lookup tries one prefix per length, however many there are.
	lengths []int
}

// wildcards are what may follow one prefix.
type wildcards[T any] struct {
	one  *node[T]
	rest *leaf[T]
}

type leaf[T any] struct {
	pattern   string
	wildcards Wildcards
	value     T
}

// Wildcards are those of one pattern.
type Wildcards struct {
	segments []segment
	names    []string
}

// Add adds a pattern with its value. It returns an error when the pattern is malformed, or has the same shape as one
// that is already there. It takes time in proportion to the patterns that share its path.
func (s *Set[T]) Add(pattern string, v T) error {
	segments, names, err := parse(pattern)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	root, err := s.root.Load().with(segments, &leaf[T]{pattern, Wildcards{segments, names}, v})
	if err != nil {
		return err
	}
	s.root.Store(root)
	return nil
}

// Lookup finds the most precise pattern that matches a channel. The wildcards are shared with other callers.
func (s *Set[T]) Lookup(channel string) (v T, w *Wildcards, ok bool) {
	l := s.root.Load().find(channel, false)
	if l == nil {
		return v, nil, false
	}
	return l.value, &l.wildcards, true
}

// with returns a copy of n, which may be nil, that has l at the end of path.
func (n *node[T]) with(path []segment, l *leaf[T]) (*node[T], error) {
	var c node[T]
	if n != nil {
		c = *n
	}
	if len(path) == 0 {
		c.leaf = l
		return &c, n.conflict(l)
	}
	s := path[0]
	if s.kind == literal {
		child, err := c.literals[s.text].with(path[1:], l)
		c.literals = put(c.literals, s.text, child)
		return &c, err
	}
	w, known := c.prefixes[s.text]
	var err error
	if s.kind == rest {
		err = w.rest.conflict(l)
		w.rest = l
	} else {
		w.one, err = w.one.with(path[1:], l)
	}
	c.prefixes = put(c.prefixes, s.text, w)
	if !known {
		c.lengths = withLength(c.lengths, len(s.text))
	}
	return &c, err
}

func (n *node[T]) conflict(l *leaf[T]) error {
	if n == nil {
		return nil
	}
	return n.leaf.conflict(l)
}

func (l *leaf[T]) conflict(other *leaf[T]) error {
	if l == nil {
		return nil
	}
	return fmt.Errorf("channel pattern %q matches the same channels as %q", other.pattern, l.pattern)
}

func put[V any](m map[string]V, key string, v V) map[string]V {
	c := make(map[string]V, len(m)+1)
	maps.Copy(c, m)
	c[key] = v
	return c
}

func withLength(lengths []int, length int) []int {
	i, found := slices.BinarySearchFunc(lengths, length, func(a, b int) int { return cmp.Compare(b, a) })
	if found {
		return lengths
	}
	return slices.Insert(slices.Clone(lengths), i, length)
}

// find returns the best leaf under n for the segments in name; end means that there are none left, which an empty name
// alone does not say. Trying the children in the order of precedence makes the first match the best one.
func (n *node[T]) find(name string, end bool) *leaf[T] {
	if n == nil {
		return nil
	}
	if end {
		return n.leaf
	}
	seg, after, more := strings.Cut(name, ":")
	if l := n.literals[seg].find(after, !more); l != nil {
		return l
	}
	for _, length := range n.lengths {
		if length > len(seg) {
			continue
		}
		w, ok := n.prefixes[seg[:length]]
		if !ok {
			continue
		}
		if length < len(seg) {
			if l := w.one.find(after, !more); l != nil {
				return l
			}
		}
		if length < len(name) && w.rest != nil {
			return w.rest
		}
	}
	return nil
}

// Value returns what the wildcard of a name takes of a channel that matches the pattern, or "" if there is no such
// wildcard. It is worked out when it is asked for: there are many channels, and few that ask.
func (w *Wildcards) Value(channel, name string) string {
	n := slices.Index(w.names, name)
	if n < 0 {
		return ""
	}
	for _, s := range w.segments {
		if s.kind == rest {
			return channel[len(s.text):] // the last of all
		}
		var seg string
		seg, channel, _ = strings.Cut(channel, ":")
		if s.kind == literal {
			continue
		}
		if n == 0 {
			return seg[len(s.text):]
		}
		n--
	}
	return ""
}
