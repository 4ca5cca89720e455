package prommetrics

import (
	"maps"
	"sync"
	"sync/atomic"
)

// bounded keeps what belongs to a label's value, for so many of them. Those that come later share one. It is safe for concurrent
// use, and finding what is known already waits for nobody.
type bounded[K comparable, T any] struct {
	max   int
	build func(key K) T
	rest  func() T // for all that come later

	mu    sync.Mutex // taken by those who add
	known atomic.Pointer[contents[K, T]]
}

// contents never change.
type contents[K comparable, T any] struct {
	of   map[K]T
	rest *T // not nil once it is full
}

func (b *bounded[K, T]) get(key K) T {
	if k := b.known.Load(); k != nil {
		if v, ok := k.of[key]; ok {
			return v
		}
		if k.rest != nil {
			return *k.rest
		}
	}
	return b.add(key)
}

func (b *bounded[K, T]) add(key K) T {
	b.mu.Lock()
	defer b.mu.Unlock()
	next := &contents[K, T]{of: make(map[K]T)}
	if k := b.known.Load(); k != nil {
		if v, ok := k.of[key]; ok {
			return v // another was faster
		}
		next.of, next.rest = maps.Clone(k.of), k.rest
	}
	if len(next.of) < b.max {
		v := b.build(key)
		next.of[key] = v
		b.known.Store(next)
		return v
	}
	if next.rest == nil {
		v := b.rest()
		next.rest = &v
		b.known.Store(next)
	}
	return *next.rest
}
