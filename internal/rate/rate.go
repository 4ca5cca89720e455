// Package rate is the token bucket in eight bytes: the generic cell rate algorithm, which keeps the time at which the bucket
// would be full again instead of a number of tokens. It needs no lock of its own, no timer, and no division; and the zero
// value is a full bucket, so that there are none for those who have done nothing.
package rate

import "time"

// Limit is what a bucket holds, and how fast it fills. Its zero value is no limit.
type Limit struct {
	every time.Duration // one token
	whole time.Duration // all of them
}

// New returns the limit of one token in every, and burst of them at most. Both are positive, and their product is a
// time.Duration.
func New(every time.Duration, burst int) Limit { return Limit{every, time.Duration(burst) * every} }

// Limits reports whether there is a limit.
func (l Limit) Limits() bool { return l.every > 0 }

// Refill is how long an empty bucket takes to be full.
func (l Limit) Refill() time.Duration { return l.whole }

// Bucket holds tokens: it is the time, since any beginning, at which it is full. It is not safe for concurrent use.
type Bucket time.Duration

// Take takes a token at a time, if there is one. Times that go backwards take nothing back.
func (b *Bucket) Take(now time.Duration, l Limit) bool {
	full := max(time.Duration(*b), now) + l.every
	if full-now > l.whole {
		return false
	}
	*b = Bucket(full)
	return true
}
