// Package stream keeps one channel's recent items: numbered, bounded in number and in age.
//
// It is pure: no clock, no locks, no goroutines. Callers pass the time and guard a value with a lock of their own.
package stream

import "time"

// Stream is a history of items with dense offsets from 1. What is kept is always the newest part of the stream without
// holes. The offsets go on when items expire, are trimmed or are cleared.
//
// Size and age limit come with every append, and those of the newest one hold for the whole stream: smaller limits also
// shorten what is already there, larger ones prolong nothing.
type Stream[T any] struct {
	epoch string
	base  time.Time // entries hold the time since base, in 8 bytes and without a pointer
	last  time.Duration
	top   uint64 // offset of the newest item ever appended

	ring []entry[T]
	head int // index of the oldest entry in ring
	n    int

	// limits are ages: the items up to an offset, and after the previous limit's, expire at that age. Both fields
	// rise from limit to limit, so the oldest item always has the first one; with one age for all there is one limit.
	limits []limit
}

type entry[T any] struct {
	at    time.Duration
	value T
}

type limit struct {
	upTo uint64
	age  time.Duration
}

// Query selects items.
type Query struct {
	// After is the offset after which (Reverse: before which) items are wanted, if HasAfter.
	After    uint64
	HasAfter bool
	// Limit is how many items are wanted at most; negative for all.
	Limit int
	// Reverse returns the newest first.
	Reverse bool
}

// New returns an empty stream. Now is the time that later times are compared with.
func New[T any](epoch string, now time.Time) *Stream[T] {
	return &Stream[T]{epoch: epoch, base: now}
}

// Epoch returns the name of this life of the stream.
func (s *Stream[T]) Epoch() string { return s.epoch }

// Top returns the offset of the newest item ever appended, or 0.
func (s *Stream[T]) Top() uint64 { return s.top }

// Len returns how many items are held, counting those that have expired since the last call with a time.
func (s *Stream[T]) Len() int { return s.n }

// Append adds an item and returns its offset. Size and ttl must be positive. It takes constant time on average.
func (s *Stream[T]) Append(now time.Time, value T, size int, ttl time.Duration) uint64 {
	s.shorten(ttl)
	s.Expire(now)
	s.drop(s.n - size + 1)
	if s.n == len(s.ring) || len(s.ring) > size {
		s.resize(min(max(2*s.n, minRing), size))
	}
	s.ring[s.index(s.n)] = entry[T]{at: s.last, value: value}
	s.n++
	s.top++
	if last := len(s.limits) - 1; last >= 0 && s.limits[last].age == ttl {
		s.limits[last].upTo = s.top
	} else {
		s.limits = append(s.limits, limit{upTo: s.top, age: ttl})
	}
	return s.top
}

// shorten makes everything expire at the given age at the latest.
func (s *Stream[T]) shorten(age time.Duration) {
	n := len(s.limits)
	for n > 0 && s.limits[n-1].age >= age {
		n--
	}
	if n < len(s.limits) {
		s.limits = append(s.limits[:n], limit{upTo: s.top, age: age})
	}
}

// Expire lets go of the items that are too old at the given time.
func (s *Stream[T]) Expire(now time.Time) {
	// A time that runs backwards must not make a newer item look older than its elders.
	s.last = max(s.last, now.Sub(s.base))
	expired := 0
	limits := s.limits
	for expired < s.n {
		if s.top-uint64(s.n-expired)+1 > limits[0].upTo {
			limits = limits[1:]
		}
		if s.last-s.ring[s.index(expired)].at < limits[0].age {
			break
		}
		expired++
	}
	s.drop(expired)
	s.shrink()
}

// Clear lets go of all items. The offsets go on.
func (s *Stream[T]) Clear() {
	s.drop(s.n)
	s.shrink()
}

// Read returns a new slice with the items that q selects at the given time.
func (s *Stream[T]) Read(now time.Time, q Query) []T {
	s.Expire(now)
	oldest := s.top - uint64(s.n) + 1
	from, to := 0, s.n // the indexes wanted, as if the ring began at 0
	switch {
	case !q.HasAfter:
	case q.Reverse:
		to = clamp(q.After, oldest, s.n)
	case q.After >= s.top:
		from = s.n
	default:
		from = clamp(q.After+1, oldest, s.n)
	}
	if q.Limit >= 0 && to-from > q.Limit {
		if q.Reverse {
			from = to - q.Limit
		} else {
			to = from + q.Limit
		}
	}
	if from == to {
		return nil
	}
	out := make([]T, 0, to-from)
	for i := range to - from {
		if q.Reverse {
			i = to - 1 - i
		} else {
			i += from
		}
		out = append(out, s.ring[s.index(i)].value)
	}
	return out
}

// clamp returns offset-oldest, between 0 and n.
func clamp(offset, oldest uint64, n int) int {
	if offset <= oldest {
		return 0
	}
	return int(min(offset-oldest, uint64(n)))
}

// Expiry returns when the oldest and the newest item held expire; false if none is held.
func (s *Stream[T]) Expiry() (oldest, newest time.Time, ok bool) {
	if s.n == 0 {
		return time.Time{}, time.Time{}, false
	}
	first, last := s.limits[0], s.limits[len(s.limits)-1]
	// One addition after the other: the sum of a long time and a long age may overflow.
	oldest = s.base.Add(s.ring[s.head].at).Add(first.age)
	newest = s.base.Add(s.ring[s.index(s.n-1)].at).Add(last.age)
	return oldest, newest, true
}

// drop forgets the oldest n items, and keeps no pointer to them.
func (s *Stream[T]) drop(n int) {
	if n <= 0 {
		return
	}
	for range n {
		s.ring[s.head] = entry[T]{}
		s.head = s.index(1)
	}
	s.n -= n
	oldest := s.top - uint64(s.n) + 1
	i := 0
	for i < len(s.limits) && s.limits[i].upTo < oldest {
		i++
	}
	s.limits = s.limits[i:] // at most one small value per item stays behind, until the next growth
}

// minRing is the number of entries below which nothing is worth saving.
const minRing = 4

// shrink gives memory back once three quarters of it are unused, so that the copying stays cheap on average.
func (s *Stream[T]) shrink() {
	switch {
	case s.n == 0:
		s.ring, s.head, s.limits = nil, 0, nil
	case len(s.ring) > minRing && s.n <= len(s.ring)/4:
		s.resize(max(2*s.n, minRing))
	}
}

func (s *Stream[T]) resize(size int) {
	ring := make([]entry[T], size)
	k := copy(ring[:s.n], s.ring[s.head:])
	copy(ring[k:s.n], s.ring)
	s.ring, s.head = ring, 0
}

// index returns where in the ring the i-th oldest entry is. i is at most the length of the ring.
func (s *Stream[T]) index(i int) int {
	i += s.head
	if i >= len(s.ring) {
		i -= len(s.ring)
	}
	return i
}
