// Package delta makes fossil deltas: the difference between two payloads, in the format that the client protocol names
// "fossil" (spec 11.3).
//
// It is made for payloads that are one document with a few changes. What the two have in common at their ends is found first, and
// costs little more than a comparison; the rest is matched through a small table, in time linear in the size of the payloads.
package delta

import (
	"encoding/binary"
	"math/bits"
)

const (
	// minTarget is the length below which a delta cannot pay: it has an overhead of some ten bytes.
	minTarget = 24
	// word is how many bytes are looked up at once.
	word = 8
	// maxBlocks is how many places of the base are looked up at most, in a table that lies on the stack: 8 KiB.
	maxBlocks = 2048
	slots     = maxBlocks
	// candidates is how many places that begin with one word are compared, enough a length with which none is better, and maxStep
	// how far a search looks ahead for a better match than the one it has.
	candidates, enough, maxStep = 8, 256, 16
	// minBudget is for short payloads, where it does not matter.
	minBudget = 1 << 10
	// nearby is how much of the base is searched on each side of where the two differ, in multiples of what differs: a list that
	// grows repeats what stands close by.
	nearby = 4
)

// Create returns the delta that makes target of base, or nil if it would not be shorter than target.
//
// If base and target are valid UTF-8, so is the delta: no character is cut, as it must be where the delta travels in a JSON string
// (spec 11.2, rule 6).
func Create(base, target []byte) []byte {
	if len(target) < minTarget || len(base) == 0 {
		return nil
	}
	e := encoder{base: base, target: target}
	prefix, suffix := e.ends()
	changed := len(target) - prefix - suffix
	e.out = make([]byte, 0, changed/8+64)
	e.int(len(target))
	e.out = append(e.out, '\n')
	e.copy(match{at: 0, from: 0, n: prefix})
	if changed >= 2*word {
		e.search(prefix, len(target)-suffix, len(base)-suffix)
	}
	e.copy(match{at: len(target) - suffix, from: len(base) - suffix, n: suffix})
	e.insert(len(target))
	e.int(int(checksum(target)))
	e.out = append(e.out, ';')
	if e.full || len(e.out) >= len(target) {
		return nil
	}
	return e.out
}

// match says that n bytes of the target at a place are those of the base from another.
type match struct{ at, from, n int }

// encoder writes one delta.
type encoder struct {
	base, target []byte
	out          []byte
	done         int  // so much of the target is written
	shift        int  // from the target to the base, in the last copy
	full         bool // it has become longer than the target
	budget       int  // how many matches may still be looked at, so that nobody makes it slow by what is published
}

// ends returns how much of base and target is the same at their beginning and, behind that, at their end.
func (e *encoder) ends() (prefix, suffix int) {
	limit := min(len(e.base), len(e.target))
	prefix = e.trim(match{n: samePrefix(e.base[:limit], e.target[:limit])}).n
	limit -= prefix
	suffix = sameSuffix(e.base[len(e.base)-limit:], e.target[len(e.target)-limit:])
	return prefix, e.trim(match{at: len(e.target) - suffix, n: suffix}).n
}

// search finds copies for the target from a place to another, of which the base has its own up to baseEnd.
func (e *encoder) search(from, to, baseEnd int) {
	reach := nearby * (to - from)
	low, high := max(0, from-reach), min(len(e.base), baseEnd+reach)
	if high-low < word {
		return
	}
	t := blocks{low: low, step: max(word, (high-low+maxBlocks-1)/maxBlocks)}
	for at, block := low, uint16(1); at+word <= high; at, block = at+t.step, block+1 {
		slot := &t.newest[hash(load(e.base[at:]))]
		t.older[block-1], *slot = *slot, block
	}
	e.budget = minBudget + (to-from)/2
	for i := from; i+word <= to && !e.full && e.budget > 0; {
		m := e.best(&t, i, to)
		// Places of the base are steps apart: that of a better match may be one that is met a little further on.
		for j := i + 1; m.n > 0 && m.n < enough && j < i+min(t.step, maxStep) && j+word <= to; j++ {
			if later := e.best(&t, j, to); later.n > m.n {
				m = later
			}
		}
		if m.n == 0 || !e.copy(m) {
			i++
			continue
		}
		i = e.done
	}
}

// blocks are places of the base, step bytes from each other, by the word that stands there. They are counted from 1.
type blocks struct {
	low, step int
	newest    [slots]uint16     // of the words that share a slot
	older     [maxBlocks]uint16 // the one before
}

// best returns the longest match around the word at a place of the target, of those that are looked at. The first is what
// stands behind the last copy: a number that was changed in a list of records leaves the rest in place.
func (e *encoder) best(t *blocks, at, to int) match {
	w := load(e.target[at:])
	m := e.extend(at, at+e.shift, to, w)
	block := t.newest[hash(w)]
	for range candidates {
		if block == 0 || m.n >= enough {
			break
		}
		if found := e.extend(at, t.low+int(block-1)*t.step, to, w); found.n > m.n {
			m = found
		}
		block = t.older[block-1]
	}
	return m
}

// extend returns the longest match around one word of the target and of the base, behind what is written.
func (e *encoder) extend(at, from, to int, w uint64) match {
	if from < 0 || from+word > len(e.base) || load(e.base[from:]) != w {
		return match{}
	}
	limit := min(to-at, len(e.base)-from)
	e.budget--
	n := word + samePrefix(e.base[from+word:from+limit], e.target[at+word:at+limit])
	back := min(at-e.done, from)
	back = sameSuffix(e.base[from-back:from], e.target[at-back:at])
	e.budget -= (n + back) / 64
	return match{at - back, from - back, n + back}
}

// copy writes a match, and what stands before it. It reports whether that was worth it.
func (e *encoder) copy(m match) bool {
	m = e.trim(m)
	if m.n <= digits(m.n)+digits(m.from)+4 { // with the length of an insert that it ends
		return false
	}
	e.insert(m.at)
	e.int(m.n)
	e.out = append(e.out, '@')
	e.int(m.from)
	e.out = append(e.out, ',')
	e.done, e.shift = m.at+m.n, m.from-m.at
	return true
}

// insert writes the target up to a place as it is.
func (e *encoder) insert(to int) {
	n := to - e.done
	if n == 0 || e.full {
		return
	}
	if len(e.out)+n >= len(e.target) {
		e.full = true
		return
	}
	e.int(n)
	e.out = append(e.out, ':')
	e.out = append(e.out, e.target[e.done:to]...)
	e.done = to
}

// trim shortens a match so that it begins and ends between two characters of the target: what is inserted then are whole ones.
// No character has more than three bytes behind its first, so what is no UTF-8 loses little.
func (e *encoder) trim(m match) match {
	for range 3 {
		if m.n > 0 && continues(e.target[m.at]) {
			m.at, m.from, m.n = m.at+1, m.from+1, m.n-1
		}
		if end := m.at + m.n; m.n > 0 && end < len(e.target) && continues(e.target[end]) {
			m.n--
		}
	}
	return m
}

// continues reports whether a byte is one of a character in UTF-8, and not its first.
func continues(c byte) bool { return c&0xC0 == 0x80 }

const alphabet = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz~"

// int writes a number in base 64, the most significant digit first.
func (e *encoder) int(n int) {
	for shift := 6 * (digits(n) - 1); shift >= 0; shift -= 6 {
		e.out = append(e.out, alphabet[n>>shift&63])
	}
}

func digits(n int) int { return max(1, (bits.Len(uint(n))+5)/6) }

// checksum is the sum of the target, read as big-endian words of 32 bits, the last one padded with zeros.
func checksum(b []byte) uint32 {
	var high, low uint64
	for ; len(b) >= 8; b = b[8:] {
		v := binary.BigEndian.Uint64(b)
		high += v >> 32
		low += v & 0xFFFFFFFF
	}
	var last [8]byte
	copy(last[:], b)
	v := binary.BigEndian.Uint64(last[:])
	return uint32(high + low + v>>32 + v)
}

func load(b []byte) uint64 { return binary.LittleEndian.Uint64(b) }

// hash spreads words over the table: the multiplier is 2^64 divided by the golden ratio.
func hash(w uint64) uint64 { return w * 0x9E3779B97F4A7C15 >> (64 - 11) }

// samePrefix returns how many bytes two slices of one length have in common at the beginning.
func samePrefix(a, b []byte) int {
	n := 0
	for ; n+word <= len(a); n += word {
		if diff := load(a[n:]) ^ load(b[n:]); diff != 0 {
			return n + bits.TrailingZeros64(diff)/8
		}
	}
	for n < len(a) && a[n] == b[n] {
		n++
	}
	return n
}

// sameSuffix returns how many bytes two slices of one length have in common at the end.
func sameSuffix(a, b []byte) int {
	n := 0
	for ; n+word <= len(a); n += word {
		if diff := load(a[len(a)-n-word:]) ^ load(b[len(b)-n-word:]); diff != 0 {
			return n + bits.LeadingZeros64(diff)/8
		}
	}
	for n < len(a) && a[len(a)-n-1] == b[len(b)-n-1] {
		n++
	}
	return n
}
