package natsbroker

import (
	"math"
	"math/bits"
	"slices"
	"time"
)

// state is all that is known of a channel's stream. Every record of a channel carries it along, so that the newest one alone says
// what the next one is, and one request reads it.
type state struct {
	epoch  string
	top    uint64 // offset of the newest publication ever made
	time   int64  // of this record, in microseconds since 1970 by the server's clock; never decreasing
	floor  uint64 // the publications up to this one are no longer kept
	purged uint64 // and those up to this one were deleted

	version      uint64
	versionEpoch string

	// limits are ages: the publications up to an offset, and after the previous limit's, expire at that age. Both fields rise from
	// limit to limit, so that older publications never outlive newer ones.
	limits []limit
	// marks say where some older publications are: many of the newest, few of the oldest.
	marks []mark
}

type limit struct {
	upTo uint64
	age  int64 // microseconds
}

// mark is the place of a publication: its sequence number in the stream that all channels share, and its time.
type mark struct {
	offset, seq uint64
	time        int64
}

// head is the newest record of a channel. The zero value is that of a channel that has none.
type head struct {
	state
	seq    uint64 // in the stream that all channels share; 0 if there is no record
	stored bool   // the record is the publication at the top, and not a marker
}

// Bounds of what records carry along and of what is kept longer than needed.
const (
	maxLimits = 32
	minPurge  = 32
)

// marker returns the state of a record that is no publication and changes nothing.
func (h head) marker(now int64) state {
	s := h.state
	s.time = max(now, h.time)
	s.marks = h.allMarks()
	return s
}

// cleared returns the state of a marker behind which nothing is kept.
func (h head) cleared(now int64) state {
	s := h.marker(now)
	s.floor, s.purged, s.limits, s.marks = s.top, s.top, nil, nil
	return s
}

// next returns the state of the next publication's record, and the sequence number below which the channel's records may be deleted,
// or 0.
func (h head) next(now int64, size int, ttl time.Duration) (s state, purge uint64) {
	s = h.marker(now)
	age := max(ttl.Microseconds(), 1)
	s.limits = shortened(s.limits, s.top, age)
	s.top++
	if last := len(s.limits) - 1; last >= 0 && s.limits[last].age == age {
		s.limits[last].upTo = s.top
	} else {
		s.limits = append(s.limits, limit{s.top, age})
	}
	if s.top > uint64(size) {
		s.floor = max(s.floor, s.top-uint64(size))
	}
	s.floor = s.kept(s.time)
	s.limits = slices.DeleteFunc(s.limits, func(l limit) bool { return l.upTo <= s.floor })
	if len(s.limits) > maxLimits {
		s.limits[1].age = s.limits[0].age // earlier than asked for, and in order
		s.limits = s.limits[1:]
	}

	if m, ok := s.markAt(s.floor + 1); ok && m.offset-1 >= s.purged+max(minPurge, (s.top-s.floor)/4) {
		s.purged, purge = m.offset-1, m.seq
	}
	s.marks = slices.DeleteFunc(s.marks, func(m mark) bool {
		return m.offset <= s.purged || s.top-m.offset >= 2<<bits.TrailingZeros64(m.offset)
	})
	return s, purge
}

// shortened returns limits that make everything up to the top expire at the given age at the latest. It does not change its argument.
func shortened(limits []limit, top uint64, age int64) []limit {
	n := len(limits)
	for n > 0 && limits[n-1].age >= age {
		n--
	}
	out := slices.Clone(limits[:n])
	if n < len(limits) {
		out = append(out, limit{top, age})
	}
	return out
}

// allMarks returns the marks, with that of the record itself, as a copy.
func (h head) allMarks() []mark {
	marks := slices.Grow(slices.Clone(h.marks), 1)
	if h.stored {
		marks = append(marks, mark{h.top, h.seq, h.time})
	}
	return marks
}

// expired reports whether a publication is too old.
func (s state) expired(offset uint64, at, now int64) bool {
	for _, l := range s.limits {
		if offset <= l.upTo {
			return now-at >= l.age
		}
	}
	return true // of before the limits: it is below the floor
}

// kept returns the offset up to which nothing is kept any more, as far as the marks tell. Others may have expired, too.
func (s state) kept(now int64) uint64 {
	floor := s.floor
	for _, m := range s.marks {
		if m.offset > floor && s.expired(m.offset, m.time, now) {
			floor = m.offset
		}
	}
	return floor
}

// kept is that of the state, and looks at the record itself, too.
func (h head) kept(now int64) uint64 {
	if h.stored && h.expired(h.top, h.time, now) {
		return h.top
	}
	return h.state.kept(now)
}

// markAt returns the last mark that is not behind a publication.
func (s state) markAt(offset uint64) (mark, bool) {
	for _, m := range slices.Backward(s.marks) {
		if m.offset <= offset {
			return m, true
		}
	}
	return mark{}, false
}

// seqBefore returns a sequence number from which a scan meets the publication, and few others before it.
func (h head) seqBefore(offset uint64) uint64 {
	if h.stored && offset >= h.top {
		return h.seq
	}
	if m, ok := h.markAt(offset); ok {
		return m.seq
	}
	return 1
}

// lifetime is how long the server is to keep the record: the stream is remembered for a while after its last publication expired.
func (s state) lifetime(streamTTL time.Duration) time.Duration {
	if n := len(s.limits); n > 0 {
		age := time.Duration(s.limits[n-1].age) * time.Microsecond
		return streamTTL + min(age, math.MaxInt64-streamTTL-time.Second)
	}
	return streamTTL
}
