package tagfilter

import "strings"

// decimal is a number as it is written, without what does not matter. It is compared digit by digit: exactly, whatever its
// length, where floating point would take 9007199254740993 for its neighbour.
type decimal struct {
	negative bool
	whole    string // without zeros in front
	fraction string // without zeros at the end
}

// parseDecimal reads an optional sign, digits, and optionally a point and digits; one side of the point may be empty. There are
// no exponents, separators, spaces or names.
func parseDecimal(s string) (d decimal, ok bool) {
	if s != "" && (s[0] == '-' || s[0] == '+') {
		d.negative = s[0] == '-'
		s = s[1:]
	}
	d.whole, d.fraction, _ = strings.Cut(s, ".")
	if d.whole == "" && d.fraction == "" || !allDigits(d.whole) || !allDigits(d.fraction) {
		return decimal{}, false
	}
	d.whole, d.fraction = strings.TrimLeft(d.whole, "0"), strings.TrimRight(d.fraction, "0")
	if d.whole == "" && d.fraction == "" {
		d.negative = false
	}
	return d, true
}

func allDigits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return true
}

// compareDecimals returns the order of two numbers, and false if one of them is none.
func compareDecimals(a, b string) (order int, ok bool) {
	x, okX := parseDecimal(a)
	y, okY := parseDecimal(b)
	switch {
	case !okX || !okY:
		return 0, false
	case x.negative != y.negative:
		if x.negative {
			return -1, true
		}
		return 1, true
	}
	order = x.compareSize(y)
	if x.negative {
		order = -order
	}
	return order, true
}

// compareSize compares without the sign.
func (d decimal) compareSize(e decimal) int {
	switch {
	case len(d.whole) != len(e.whole):
		if len(d.whole) < len(e.whole) {
			return -1
		}
		return 1
	case d.whole != e.whole:
		return strings.Compare(d.whole, e.whole)
	}
	return strings.Compare(d.fraction, e.fraction) // a shorter one is smaller: what it lacks are zeros
}
