package pattern

import (
	"cmp"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

var wildcardRE = regexp.MustCompile(`\{(\w+)(\.\.\.)?\}$`)

// naive is a matcher for one pattern by another road: a regular expression, and a list of numbers to compare.
type naive struct {
	pattern string
	re      *regexp.Regexp
	ranks   []int
}

func newNaive(pattern string) naive {
	n := naive{pattern: pattern}
	var expr []string
	for part := range strings.SplitSeq(pattern, ":") {
		m := wildcardRE.FindStringSubmatchIndex(part)
		switch {
		case m == nil:
			expr = append(expr, regexp.QuoteMeta(part))
			n.ranks = append(n.ranks, 1<<20)
		case m[4] < 0:
			expr = append(expr, regexp.QuoteMeta(part[:m[0]])+`([^:]+)`)
			n.ranks = append(n.ranks, 2*m[0]+1)
		default:
			expr = append(expr, regexp.QuoteMeta(part[:m[0]])+`(.+)`)
			n.ranks = append(n.ranks, 2*m[0])
		}
	}
	n.re = regexp.MustCompile(`(?s)\A` + strings.Join(expr, ":") + `\z`)
	return n
}

func (n naive) before(o naive) bool {
	for i := range min(len(n.ranks), len(o.ranks)) {
		if c := cmp.Compare(n.ranks[i], o.ranks[i]); c != 0 {
			return c > 0
		}
	}
	return false
}

func FuzzSet(f *testing.F) {
	f.Add("news\nroom:{id}\n{x...}", "room:42")
	f.Add("u{a}:1\nus{b}:2\nuser-{c}:{d...}\n{e}:{f}", "user-1:2")
	f.Add("a::b\na:{x}:b\na:{y...}\n:", "a::b")
	f.Add("{a}:b:c\na:{b}:c\na:b:{c}\n{z...}", "a:b:d:e")
	f.Add("é{a}\n#{b...}\n{", "#\xff:")
	f.Fuzz(func(t *testing.T, patterns, channel string) {
		var s Set[string]
		var all []naive
		for p := range strings.SplitSeq(patterns, "\n") {
			if s.Add(p, p) == nil && isASCII(p) {
				all = append(all, newNaive(p))
			}
		}
		v, w, ok := s.Lookup(channel)
		if !isASCII(patterns) {
			return // \w does not know all letters
		}
		var best *naive
		for i, n := range all {
			if n.re.MatchString(channel) && (best == nil || n.before(*best)) {
				best = &all[i]
			}
		}
		require.Equal(t, best != nil, ok)
		if best == nil {
			return
		}
		require.Equal(t, best.pattern, v)
		values := []string{}
		for _, name := range w.names {
			values = append(values, w.Value(channel, name))
		}
		require.Equal(t, best.re.FindStringSubmatch(channel)[1:], values)
	})
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}
