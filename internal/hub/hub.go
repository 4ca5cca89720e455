// Package hub maps the channels that somebody watches to their rooms. It knows neither messages nor subscribers: a room
// exists while somebody holds it.
package hub

import (
	"hash/maphash"
	"iter"
	"sync"
)

const shardCount = 64

// Hub is a sharded map from channel to room. It is safe for concurrent use. Its locks are leaves: nothing is called while
// one is held, but for the constructor of a room, which must return a different value each time.
type Hub[R comparable] struct {
	seed   maphash.Seed
	make   func(channel string) R
	shards [shardCount]shard[R]
}

type shard[R comparable] struct {
	mu    sync.RWMutex // guards below
	rooms map[string]*entry[R]
}

type entry[R comparable] struct {
	room R
	refs int
}

// New returns an empty hub that makes rooms with the given function.
func New[R comparable](makeRoom func(channel string) R) *Hub[R] {
	return &Hub[R]{seed: maphash.MakeSeed(), make: makeRoom}
}

func (h *Hub[R]) shard(channel string) *shard[R] {
	return &h.shards[maphash.String(h.seed, channel)%shardCount]
}

// Get returns the room of a channel, if there is one.
func (h *Hub[R]) Get(channel string) (R, bool) {
	s := h.shard(channel)
	s.mu.RLock()
	defer s.mu.RUnlock()
	if e := s.rooms[channel]; e != nil {
		return e.room, true
	}
	var none R
	return none, false
}

// Acquire returns the room of a channel, made if need be, and holds it.
func (h *Hub[R]) Acquire(channel string) R {
	s := h.shard(channel)
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.rooms[channel]
	if e == nil {
		if s.rooms == nil {
			s.rooms = make(map[string]*entry[R])
		}
		e = &entry[R]{room: h.make(channel)}
		s.rooms[channel] = e
	}
	e.refs++
	return e.room
}

// Release gives a room back. It reports whether nobody holds it now; the room stays in the hub until [Hub.Remove].
func (h *Hub[R]) Release(channel string) (idle bool) {
	s := h.shard(channel)
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.rooms[channel]
	if e == nil || e.refs == 0 {
		panic("hub: release of a room that nobody holds: " + channel)
	}
	e.refs--
	return e.refs == 0
}

// Idle reports whether this very room is in the hub and nobody holds it. The channel may have another room by now.
func (h *Hub[R]) Idle(channel string, room R) bool {
	s := h.shard(channel)
	s.mu.RLock()
	defer s.mu.RUnlock()
	e := s.rooms[channel]
	return e != nil && e.room == room && e.refs == 0
}

// Remove takes this very room out, unless somebody holds it again.
func (h *Hub[R]) Remove(channel string, room R) {
	s := h.shard(channel)
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.rooms[channel]; e != nil && e.room == room && e.refs == 0 {
		delete(s.rooms, channel)
	}
}

// Len returns the number of rooms.
func (h *Hub[R]) Len() int {
	n := 0
	for i := range h.shards {
		s := &h.shards[i]
		s.mu.RLock()
		n += len(s.rooms)
		s.mu.RUnlock()
	}
	return n
}

// All returns the rooms there are. Each shard is read at once, so a room may come and go meanwhile; the loop's body runs
// with no lock held.
func (h *Hub[R]) All() iter.Seq[R] {
	return func(yield func(R) bool) {
		for i := range h.shards {
			s := &h.shards[i]
			s.mu.RLock()
			rooms := make([]R, 0, len(s.rooms))
			for _, e := range s.rooms {
				rooms = append(rooms, e.room)
			}
			s.mu.RUnlock()
			for _, r := range rooms {
				if !yield(r) {
					return
				}
			}
		}
	}
}
