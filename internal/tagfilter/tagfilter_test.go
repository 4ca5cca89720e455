package tagfilter_test

import (
	"fmt"
	"math/big"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/internal/protocol"
	"github.com/fanfare-go/fanfare/internal/tagfilter"
)

type node = protocol.FilterNode

func compile(t testing.TB, n *node) *tagfilter.Filter {
	t.Helper()
	f, err := tagfilter.Compile(n)
	require.NoError(t, err)
	return f
}

// The table of spec 12. Tags are written as k=v; the filter looks at k.
func TestMatch_Spec12_Comparisons(t *testing.T) {
	tags := func(value string) map[string]string { return map[string]string{"k": value, "other": "x"} }
	many := strings.Split("a b c d e f g h i j k l m n", " ")
	for _, row := range []struct {
		cmp     string
		val     string
		vals    []string
		yes, no []string
		absent  bool // passes without the tag
	}{
		{cmp: "eq", val: "v", yes: []string{"v"}, no: []string{"", "V", "vv"}},
		{cmp: "neq", val: "v", yes: []string{"", "V"}, no: []string{"v"}, absent: true},
		{cmp: "in", vals: []string{"a", "b"}, yes: []string{"a", "b"}, no: []string{"", "ab", "c"}},
		{cmp: "in", vals: []string{"a", ""}, yes: []string{"a", ""}, no: []string{"b"}, absent: true},
		{cmp: "in", vals: many, yes: many, no: []string{"", "0", "aa", "z"}},
		{cmp: "nin", vals: []string{"a", "b"}, yes: []string{"", "c"}, no: []string{"a", "b"}, absent: true},
		{cmp: "nin", vals: []string{"a", ""}, yes: []string{"c"}, no: []string{"a", ""}},
		{cmp: "nin", vals: many, yes: []string{"", "z"}, no: many, absent: true},
		{cmp: "ex", yes: []string{"", "v"}},
		{cmp: "nex", no: []string{"", "v"}, absent: true},
		{cmp: "sw", val: "ab", yes: []string{"ab", "abc"}, no: []string{"", "a", "cab"}},
		{cmp: "ew", val: "ab", yes: []string{"ab", "cab"}, no: []string{"", "b", "abc"}},
		{cmp: "ct", val: "ab", yes: []string{"ab", "cabc"}, no: []string{"", "acb"}},
		{cmp: "gt", val: "10", yes: []string{"10.5", "11", "100"}, no: []string{"10", "9", "-11", "", "x", "1e3", "0x11"}},
		{cmp: "gte", val: "10.50", yes: []string{"10.5", "+10.5", "11"}, no: []string{"10.49", ""}},
		{cmp: "lt", val: "-1", yes: []string{"-1.0001", "-2"}, no: []string{"-1", "0", "1", "", "NaN", "-Inf"}},
		{cmp: "lte", val: "0", yes: []string{"0", "-0.0", "-1", ".0", "0."}, no: []string{"0.0000001", "1", ".", "-"}},
		{cmp: "gt", val: "9007199254740992", yes: []string{"9007199254740993"}, no: []string{"9007199254740992"}},
		{cmp: "lt", val: "0.30000000000000000001", yes: []string{"0.3", "0.30000000000000000000"}, no: []string{"0.30000000000000000002"}},
		{cmp: "gt", val: "no number", no: []string{"1", "no number"}},
	} {
		f := compile(t, &node{Key: "k", Cmp: row.cmp, Val: row.val, Vals: row.vals})
		for _, value := range row.yes {
			require.True(t, f.Match(tags(value)), "%s %q%q: %q", row.cmp, row.val, row.vals, value)
		}
		for _, value := range row.no {
			require.False(t, f.Match(tags(value)), "%s %q%q: %q", row.cmp, row.val, row.vals, value)
		}
		require.Equal(t, row.absent, f.Match(nil), "%s %q%q: no tags", row.cmp, row.val, row.vals)
		require.Equal(t, row.absent, f.Match(map[string]string{"other": "v"}), "%s %q%q: tag is absent", row.cmp, row.val, row.vals)
	}
}

func TestMatch_Spec12_Branches(t *testing.T) {
	is := func(key string) *node { return &node{Key: key, Cmp: "ex"} }
	branch := func(op string, nodes ...*node) *node { return &node{Op: op, Nodes: nodes} }
	for text, row := range map[string]struct {
		n    *node
		want func(a, b bool) bool
	}{
		"a and b":       {branch("and", is("a"), is("b")), func(a, b bool) bool { return a && b }},
		"a or b":        {branch("or", is("a"), is("b")), func(a, b bool) bool { return a || b }},
		"not a":         {branch("not", is("a")), func(a, _ bool) bool { return !a }},
		"and of one":    {branch("and", is("b")), func(_, b bool) bool { return b }},
		"a xor b":       {branch("or", branch("and", is("a"), branch("not", is("b"))), branch("and", branch("not", is("a")), is("b"))), func(a, b bool) bool { return a != b }},
		"not (a and b)": {branch("not", branch("and", is("a"), is("b"))), func(a, b bool) bool { return !a || !b }},
	} {
		f := compile(t, row.n)
		for _, a := range []bool{false, true} {
			for _, b := range []bool{false, true} {
				tags := map[string]string{}
				if a {
					tags["a"] = ""
				}
				if b {
					tags["b"] = ""
				}
				require.Equal(t, row.want(a, b), f.Match(tags), "%s: a=%t b=%t", text, a, b)
			}
		}
	}
}

func TestCompile_Spec12_RefusesMalformed(t *testing.T) {
	ok := &node{Key: "k", Cmp: "ex"}
	for name, row := range map[string]struct {
		n    *node
		want string
	}{
		"nothing":                   {&node{}, `unknown cmp ""`},
		"unknown op":                {&node{Op: "xor", Nodes: []*node{ok}}, `unknown op "xor"`},
		"op in capitals":            {&node{Op: "AND", Nodes: []*node{ok}}, `unknown op "AND"`},
		"unknown cmp":               {&node{Key: "k", Cmp: "like", Val: "v"}, `unknown cmp "like"`},
		"eq without val":            {&node{Key: "k", Cmp: "eq"}, "eq without val"},
		"gt without val":            {&node{Key: "k", Cmp: "gt"}, "gt without val"},
		"ct with vals":              {&node{Key: "k", Cmp: "ct", Vals: []string{"a"}}, "ct without val"},
		"in without vals":           {&node{Key: "k", Cmp: "in"}, "in without vals"},
		"nin with val":              {&node{Key: "k", Cmp: "nin", Val: "v"}, "nin without vals"},
		"val with vals":             {&node{Key: "k", Cmp: "in", Val: "v", Vals: []string{"a"}}, "val and vals together"},
		"val with vals, ex":         {&node{Key: "k", Cmp: "ex", Val: "v", Vals: []string{"a"}}, "val and vals together"},
		"no key":                    {&node{Cmp: "eq", Val: "v"}, "eq without key"},
		"no key, in":                {&node{Cmp: "in", Vals: []string{"a"}}, "in without key"},
		"and of nothing":            {&node{Op: "and"}, "and with 0 nodes"},
		"or of nothing":             {&node{Op: "or"}, "or with 0 nodes"},
		"not of nothing":            {&node{Op: "not"}, "not with 0 nodes"},
		"not of two":                {&node{Op: "not", Nodes: []*node{ok, ok}}, "not with 2 nodes"},
		"nodes of a leaf":           {&node{Key: "k", Cmp: "ex", Nodes: []*node{ok}}, "nodes without op"},
		"malformed further down":    {&node{Op: "or", Nodes: []*node{ok, {Op: "not", Nodes: []*node{{Cmp: "eq"}}}}}, "eq without key"},
		"a filter that is overlong": {&node{Op: "overlong"}, `unknown op "overlong"`},
	} {
		f, err := tagfilter.Compile(row.n)
		require.EqualError(t, err, row.want, name)
		require.Nil(t, f, name)
	}
	compile(t, &node{Cmp: "ex"}) // the one that needs no key: does a tag with the empty name exist?
	compile(t, &node{Cmp: "nex"})
}

func TestCompile_Bounds(t *testing.T) {
	leaves := func(n int) *node {
		b := &node{Op: "or"}
		for range n {
			b.Nodes = append(b.Nodes, &node{Key: "k", Cmp: "ex"})
		}
		return b
	}
	deep := func(n int) *node {
		b := &node{Key: "k", Cmp: "ex"}
		for range n - 1 {
			b = &node{Op: "not", Nodes: []*node{b}}
		}
		return b
	}
	list := func(n int) *node { return &node{Key: "k", Cmp: "in", Vals: make([]string, n)} }

	compile(t, leaves(tagfilter.MaxNodes-1))
	compile(t, deep(tagfilter.MaxDepth))
	compile(t, list(tagfilter.MaxValues))
	for want, n := range map[string]*node{
		"more than 100 nodes":   leaves(tagfilter.MaxNodes),
		"deeper than 16 levels": deep(tagfilter.MaxDepth + 1),
		"more than 1000 values": {Op: "or", Nodes: []*node{list(tagfilter.MaxValues), list(1)}},
	} {
		_, err := tagfilter.Compile(n)
		require.EqualError(t, err, want)
	}
}

func TestMatch_AllocatesNothing(t *testing.T) {
	f := compile(t, everything())
	tags := map[string]string{"a": "12.5", "b": "text", "c": "m"}
	require.Zero(t, testing.AllocsPerRun(100, func() { f.Match(tags) }))
}

// everything is a filter with every comparison, none of which decides before the last.
func everything() *node {
	n := &node{Op: "or"}
	for _, cmp := range []string{"eq", "sw", "ew", "ct", "gt", "gte"} {
		n.Nodes = append(n.Nodes, &node{Key: "a", Cmp: cmp, Val: "99.75"})
	}
	return &node{Op: "and", Nodes: []*node{{Op: "not", Nodes: []*node{n}},
		{Key: "c", Cmp: "in", Vals: strings.Split("a b c d e f g h i j k l m n", " ")}, {Key: "b", Cmp: "lt", Val: "1"}}}
}

// FuzzCompareDecimals compares the order with that of math/big.
func FuzzCompareDecimals(f *testing.F) {
	for _, pair := range [][2]string{{"1", "2"}, {"-0", "0.00"}, {"10.5", "10.50"}, {"+1", "1."}, {".5", "-.5"}, {"1e3", "1000"}, {"", "."}, {"0009", "10"}} {
		f.Add(pair[0], pair[1])
	}
	number := regexp.MustCompile(`^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)$`)
	f.Fuzz(func(t *testing.T, a, b string) {
		if len(a) > 200 || len(b) > 200 || b == "" {
			return
		}
		order := -1
		valid := number.MatchString(a) && number.MatchString(b)
		if valid {
			x, okX := new(big.Rat).SetString(a)
			y, okY := new(big.Rat).SetString(b)
			require.True(t, okX && okY)
			order = x.Cmp(y)
		}
		for cmp, want := range map[string]bool{"gt": order > 0, "gte": order >= 0, "lt": order < 0, "lte": order <= 0} {
			filter := compile(t, &node{Key: "k", Cmp: cmp, Val: b})
			require.Equal(t, valid && want, filter.Match(map[string]string{"k": a}), "%q %s %q", a, cmp, b)
		}
	})
}

func BenchmarkMatch(b *testing.B) {
	tags := map[string]string{"a": "12.5", "b": "text", "c": "m"}
	for name, n := range map[string]*node{"one comparison": {Key: "b", Cmp: "eq", Val: "text"}, "eleven nodes": everything()} {
		b.Run(fmt.Sprint(name), func(b *testing.B) {
			f := compile(b, n)
			b.ReportAllocs()
			for b.Loop() {
				f.Match(tags)
			}
		})
	}
}
