package stream

import "time"

// Keys remembers values by key until they expire: the idempotency keys of a channel, for instance. Like [Stream] it is
// pure and needs its caller's lock. The zero value is empty.
//
// Memory is given back in the order of insertion, so that a short-lived key may be held, unseen, as long as an older
// long-lived one.
type Keys[V any] struct {
	values map[string]keyed[V]
	queue  []queued // in the order of insertion
}

type keyed[V any] struct {
	value   V
	expires time.Time
}

type queued struct {
	key     string
	expires time.Time
}

// Get returns the value of a key that has not expired.
func (k *Keys[V]) Get(now time.Time, key string) (V, bool) {
	v, ok := k.values[key]
	if !ok || !now.Before(v.expires) {
		var zero V
		return zero, false
	}
	return v.value, true
}

// Put remembers a key for the given time.
func (k *Keys[V]) Put(now time.Time, key string, value V, ttl time.Duration) {
	k.Expire(now)
	if k.values == nil {
		k.values = make(map[string]keyed[V])
	}
	expires := now.Add(ttl)
	k.values[key] = keyed[V]{value: value, expires: expires}
	k.queue = append(k.queue, queued{key: key, expires: expires})
}

// Expire lets go of expired keys.
func (k *Keys[V]) Expire(now time.Time) {
	n := 0
	for n < len(k.queue) && !now.Before(k.queue[n].expires) {
		q := &k.queue[n]
		// The key may have been put again since, behind an older one that lived longer.
		if v, ok := k.values[q.key]; ok && v.expires.Equal(q.expires) {
			delete(k.values, q.key)
		}
		*q = queued{}
		n++
	}
	if k.queue = k.queue[n:]; len(k.queue) == 0 {
		*k = Keys[V]{} // maps do not shrink
	}
}

// Len returns how many keys are held, counting those that have expired since the last call of Expire.
func (k *Keys[V]) Len() int { return len(k.queue) }

// Expiry returns when the key put first and the key put last expire; false if none is held.
func (k *Keys[V]) Expiry() (first, last time.Time, ok bool) {
	if len(k.queue) == 0 {
		return time.Time{}, time.Time{}, false
	}
	return k.queue[0].expires, k.queue[len(k.queue)-1].expires, true
}
