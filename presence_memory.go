package fanfare

import (
	"context"
	"hash/maphash"
	"slices"
	"strings"
	"sync"
)

// MemoryPresence is the [Presence] of a single process. It may serve several nodes there. It is a [PresenceScanner] and a
// [UserPresence].
type MemoryPresence struct {
	seed   maphash.Seed
	shards [memoryShards]presenceShard
}

var (
	_ Presence        = (*MemoryPresence)(nil)
	_ PresenceScanner = (*MemoryPresence)(nil)
	_ UserPresence    = (*MemoryPresence)(nil)
)

type presenceShard struct {
	mu       sync.RWMutex // guards below
	closed   bool
	channels map[string]*presenceChannel // none is empty
}

type presenceChannel struct {
	members map[string]presenceMember // by client id
	users   map[string]int            // number of clients by user id; none is 0
}

type presenceMember struct {
	node string
	info ClientInfo
}

// NewMemoryPresence returns a presence that keeps everything in this process.
func NewMemoryPresence() *MemoryPresence {
	p := &MemoryPresence{seed: maphash.MakeSeed()}
	for i := range p.shards {
		p.shards[i].channels = make(map[string]*presenceChannel)
	}
	return p
}

// Add implements [Presence].
func (p *MemoryPresence) Add(ctx context.Context, node, channel string, m ClientInfo) error {
	_, err := p.AddCounted(ctx, node, channel, m)
	return err
}

// AddCounted implements [UserPresence].
func (p *MemoryPresence) AddCounted(ctx context.Context, node, channel string, m ClientInfo) (int, error) {
	s, err := p.lock(ctx, channel)
	if err != nil {
		return 0, err
	}
	defer s.mu.Unlock()
	c := s.channels[channel]
	if c == nil {
		c = &presenceChannel{members: make(map[string]presenceMember), users: make(map[string]int)}
		s.channels[strings.Clone(channel)] = c // it may be a piece of a whole frame
	}
	c.remove(m.Client)
	c.members[m.Client] = presenceMember{node: node, info: m}
	c.users[m.User]++
	return c.users[m.User], nil
}

// Remove implements [Presence].
func (p *MemoryPresence) Remove(ctx context.Context, node, channel, client string) error {
	_, err := p.RemoveCounted(ctx, node, channel, client)
	return err
}

// RemoveCounted implements [UserPresence].
func (p *MemoryPresence) RemoveCounted(ctx context.Context, node, channel, client string) (int, error) {
	s, err := p.lock(ctx, channel)
	if err != nil {
		return 0, err
	}
	defer s.mu.Unlock()
	c := s.channels[channel]
	if c == nil {
		return -1, nil
	}
	m, ok := c.members[client]
	if !ok || m.node != node {
		return -1, nil
	}
	c.remove(client)
	if len(c.members) == 0 {
		delete(s.channels, channel)
	}
	return c.users[m.info.User], nil
}

// Members implements [Presence].
func (p *MemoryPresence) Members(ctx context.Context, channel string) ([]ClientInfo, error) {
	s, err := p.rlock(ctx, channel)
	if err != nil {
		return nil, err
	}
	defer s.mu.RUnlock()
	c := s.channels[channel]
	if c == nil {
		return nil, nil
	}
	members := make([]ClientInfo, 0, len(c.members))
	for _, m := range c.members {
		members = append(members, m.info)
	}
	return members, nil
}

// ScanMembers implements [PresenceScanner]. The pages are in the order of the clients' ids, and looking for one goes through
// all members.
func (p *MemoryPresence) ScanMembers(ctx context.Context, channel, cursor string, limit int) (members []ClientInfo, next string, err error) {
	s, err := p.rlock(ctx, channel)
	if err != nil {
		return nil, "", err
	}
	defer s.mu.RUnlock()
	c := s.channels[channel]
	if c == nil {
		return nil, "", nil
	}
	ids, more := c.after(cursor, max(limit, 1))
	members = make([]ClientInfo, len(ids))
	for i, id := range ids {
		members[i] = c.members[id].info
	}
	if more {
		next = ids[len(ids)-1]
	}
	return members, next, nil
}

// Stats implements [Presence].
func (p *MemoryPresence) Stats(ctx context.Context, channel string) (PresenceStats, error) {
	s, err := p.rlock(ctx, channel)
	if err != nil {
		return PresenceStats{}, err
	}
	defer s.mu.RUnlock()
	c := s.channels[channel]
	if c == nil {
		return PresenceStats{}, nil
	}
	return PresenceStats{Clients: len(c.members), Users: len(c.users)}, nil
}

// RemoveNode implements [Presence]. It looks at every member there is.
func (p *MemoryPresence) RemoveNode(ctx context.Context, node string) error {
	for i := range p.shards {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := p.shards[i].removeNode(node); err != nil {
			return err
		}
	}
	return nil
}

func (s *presenceShard) removeNode(node string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return ErrClosed
	}
	for name, c := range s.channels {
		for client, m := range c.members {
			if m.node == node {
				c.remove(client)
			}
		}
		if len(c.members) == 0 {
			delete(s.channels, name)
		}
	}
	return nil
}

// Close implements [Presence].
func (p *MemoryPresence) Close() error {
	for i := range p.shards {
		s := &p.shards[i]
		s.mu.Lock()
		s.closed, s.channels = true, nil
		s.mu.Unlock()
	}
	return nil
}

// lock returns the channel's shard, locked, unless there is an error.
func (p *MemoryPresence) lock(ctx context.Context, channel string) (*presenceShard, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s := p.shard(channel)
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil, ErrClosed
	}
	return s, nil
}

// rlock returns the channel's shard, locked for reading, unless there is an error.
func (p *MemoryPresence) rlock(ctx context.Context, channel string) (*presenceShard, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s := p.shard(channel)
	s.mu.RLock()
	if s.closed {
		s.mu.RUnlock()
		return nil, ErrClosed
	}
	return s, nil
}

func (p *MemoryPresence) shard(channel string) *presenceShard {
	return &p.shards[maphash.String(p.seed, channel)%memoryShards]
}

func (c *presenceChannel) remove(client string) {
	m, ok := c.members[client]
	if !ok {
		return
	}
	delete(c.members, client)
	if c.users[m.info.User]--; c.users[m.info.User] == 0 {
		delete(c.users, m.info.User)
	}
}

// after returns the first ids of clients behind one, sorted, and whether there are more. It keeps few at a time.
func (c *presenceChannel) after(cursor string, limit int) (ids []string, more bool) {
	shorten := func() {
		slices.Sort(ids)
		if len(ids) > limit {
			ids, more = ids[:limit], true
		}
	}
	for id := range c.members {
		if id <= cursor || more && id > ids[limit-1] {
			continue
		}
		if ids = append(ids, id); len(ids) >= 2*limit {
			shorten()
		}
	}
	shorten()
	return ids, more
}
