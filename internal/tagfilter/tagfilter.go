// Package tagfilter decides by its tags which publications of a channel a subscriber wants (spec 12).
package tagfilter

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/fanfare-go/fanfare/internal/protocol"
)

// A filter is kept with its subscription, and asked for every publication: these bound both. What is read of one is bounded
// before, by the decoder.
const (
	MaxNodes  = 100
	MaxDepth  = 16
	MaxValues = 1000 // in all lists together
)

// sortedFrom is the length from which a list of values is searched by halves.
const sortedFrom = 8

// Filter is a checked filter. It is not changed after [Compile], so several goroutines may use it.
type Filter struct {
	match    operation
	key, val string
	vals     []string // sorted if there are many
	nodes    []Filter
}

type operation uint8

const (
	and operation = iota
	or
	not
	equal
	notEqual
	in
	notIn
	exists
	notExists
	startsWith
	endsWith
	contains
	greater
	greaterOrEqual
	less
	lessOrEqual
)

var branches = map[string]operation{"and": and, "or": or, "not": not}

var comparisons = map[string]operation{
	"eq": equal, "neq": notEqual, "in": in, "nin": notIn, "ex": exists, "nex": notExists, "sw": startsWith, "ew": endsWith,
	"ct": contains, "gt": greater, "gte": greaterOrEqual, "lt": less, "lte": lessOrEqual,
}

// Compile checks a filter by the rules of spec 12 and makes it ready for use. The error says what is wrong with it.
func Compile(n *protocol.FilterNode) (*Filter, error) {
	c := compiler{nodes: MaxNodes, values: MaxValues}
	f, err := c.compile(n, 1)
	if err != nil {
		return nil, err
	}
	return &f, nil
}

// compiler counts what is left of the bounds.
type compiler struct{ nodes, values int }

func (c *compiler) compile(n *protocol.FilterNode, depth int) (Filter, error) {
	c.nodes--
	c.values -= len(n.Vals)
	switch {
	case c.nodes < 0:
		return Filter{}, fmt.Errorf("more than %d nodes", MaxNodes)
	case depth > MaxDepth:
		return Filter{}, fmt.Errorf("deeper than %d levels", MaxDepth)
	case c.values < 0:
		return Filter{}, fmt.Errorf("more than %d values", MaxValues)
	case n.Op == "":
		return leaf(n)
	}
	op, known := branches[n.Op]
	switch {
	case !known:
		return Filter{}, fmt.Errorf("unknown op %.32q", n.Op)
	case len(n.Nodes) == 0 || op == not && len(n.Nodes) != 1:
		return Filter{}, fmt.Errorf("%s with %d nodes", n.Op, len(n.Nodes))
	}
	f := Filter{match: op, nodes: make([]Filter, 0, min(len(n.Nodes), MaxNodes))}
	for _, child := range n.Nodes {
		compiled, err := c.compile(child, depth+1)
		if err != nil {
			return Filter{}, err
		}
		f.nodes = append(f.nodes, compiled)
	}
	return f, nil
}

func leaf(n *protocol.FilterNode) (Filter, error) {
	op, known := comparisons[n.Cmp]
	presence := op == exists || op == notExists
	list := op == in || op == notIn
	switch {
	case !known:
		return Filter{}, fmt.Errorf("unknown cmp %.32q", n.Cmp)
	case len(n.Nodes) > 0:
		return Filter{}, errors.New("nodes without op")
	case n.Key == "" && !presence:
		return Filter{}, fmt.Errorf("%s without key", n.Cmp)
	case n.Val != "" && len(n.Vals) > 0:
		return Filter{}, errors.New("val and vals together")
	case list && len(n.Vals) == 0:
		return Filter{}, fmt.Errorf("%s without vals", n.Cmp)
	case !list && !presence && n.Val == "":
		return Filter{}, fmt.Errorf("%s without val", n.Cmp)
	}
	f := Filter{match: op, key: n.Key, val: n.Val}
	if list {
		f.vals = slices.Clone(n.Vals)
		if len(f.vals) >= sortedFrom {
			slices.Sort(f.vals)
		}
	}
	return f, nil
}

// Match reports whether a publication with these tags passes. It allocates nothing.
func (f *Filter) Match(tags map[string]string) bool {
	switch f.match {
	case and:
		for i := range f.nodes {
			if !f.nodes[i].Match(tags) {
				return false
			}
		}
		return true
	case or:
		for i := range f.nodes {
			if f.nodes[i].Match(tags) {
				return true
			}
		}
		return false
	case not:
		return !f.nodes[0].Match(tags)
	}
	value, present := tags[f.key]
	return f.matchValue(value, present)
}

// matchValue compares one tag; that of a tag that is absent is "".
func (f *Filter) matchValue(value string, present bool) bool {
	switch f.match {
	case equal:
		return present && value == f.val
	case notEqual:
		return !present || value != f.val
	case in:
		return f.lists(value)
	case notIn:
		return !f.lists(value)
	case exists:
		return present
	case notExists:
		return !present
	case startsWith:
		return present && strings.HasPrefix(value, f.val)
	case endsWith:
		return present && strings.HasSuffix(value, f.val)
	case contains:
		return present && strings.Contains(value, f.val)
	}
	order, numbers := compareDecimals(value, f.val)
	switch f.match {
	case greater:
		return numbers && order > 0
	case greaterOrEqual:
		return numbers && order >= 0
	case less:
		return numbers && order < 0
	}
	return numbers && order <= 0
}

func (f *Filter) lists(value string) bool {
	if len(f.vals) < sortedFrom {
		return slices.Contains(f.vals, value)
	}
	_, found := slices.BinarySearch(f.vals, value)
	return found
}
