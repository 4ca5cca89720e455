package fanfare

import (
	"context"
	"fmt"
	"hash/maphash"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/fanfare-go/fanfare/internal/stream"
)

// MemoryBrokerConfig configures a [MemoryBroker]. The zero value works.
type MemoryBrokerConfig struct {
	// MaxIdleStreams bounds the streams without publications and subscribers that are remembered. The one that was idle
	// longest is forgotten first: when its channel is used again it has a new epoch. Default 100,000; negative is no
	// bound.
	MaxIdleStreams int
}

const defaultMaxIdleStreams = 100_000

func (c MemoryBrokerConfig) withDefaults() MemoryBrokerConfig {
	if c.MaxIdleStreams == 0 {
		c.MaxIdleStreams = defaultMaxIdleStreams
	}
	return c
}

// MemoryBroker is the [Broker] of a single process. It may serve several nodes there. Everything is lost when it is
// closed, and epochs are random, so clients that come back to a new process are told that they are not recovered.
//
// Publications are delivered by the goroutine that publishes, under the channel's lock: Publish returns when all sinks
// have the publication. A sink must not call [Link.Close] or any other method of the broker, which would wait for it.
// Data of publications is kept, not copied. Expired publications are let go soon after their time, also in channels
// that nobody uses any more; a timer runs only while there are any.
//
// It is a [ControlBus]: data sent is shared by all receivers. It is a [NodeLister] and a [ConnectionCounter].
type MemoryBroker struct {
	seed   maphash.Seed
	shards [memoryShards]memoryShard
	idle   memoryIdle
	sweep  memorySweeper
	close  sync.Once

	connections memoryConnections

	// Lock order: memoryChannel.mu before every other lock of the broker. The others are held only for a moment, none
	// within another.
	mu     sync.RWMutex // guards below
	closed bool
	nodes  map[string]*memoryLink
}

var (
	_ Broker     = (*MemoryBroker)(nil)
	_ ControlBus = (*MemoryBroker)(nil)
	_ NodeLister = (*MemoryBroker)(nil)
)

// memoryShards spreads the lookups of channels over several locks. Any number well over that of cores will do.
const memoryShards = 64

// memoryShard holds the channels in use: with a stream, subscribers or idempotency keys.
type memoryShard struct {
	mu       sync.RWMutex // guards below
	closed   bool
	channels map[string]*memoryChannel
}

// NewMemoryBroker returns a broker that keeps everything in this process.
func NewMemoryBroker(c MemoryBrokerConfig) *MemoryBroker {
	b := &MemoryBroker{seed: maphash.MakeSeed(), nodes: make(map[string]*memoryLink)}
	b.idle.max = c.withDefaults().MaxIdleStreams
	b.sweep.expire = b.expire
	for i := range b.shards {
		b.shards[i].channels = make(map[string]*memoryChannel)
	}
	return b
}

// Attach implements [Broker]. A node id that is attached already is an error.
func (b *MemoryBroker) Attach(node string, sink Sink) (Link, error) {
	l := &memoryLink{broker: b, node: node, sink: sink, channels: make(map[*memoryChannel]struct{})}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return nil, ErrClosed
	}
	if _, ok := b.nodes[node]; ok {
		return nil, fmt.Errorf("fanfare: attach: node %q is attached already", node)
	}
	b.nodes[node] = l
	b.connections.attach(node)
	return l, nil
}

// Publish implements [Broker].
func (b *MemoryBroker) Publish(ctx context.Context, channel string, p *Publication, o StoreOptions) (Position, error) {
	if err := ctx.Err(); err != nil {
		return Position{}, err
	}
	stored := o.History.Size > 0 && o.History.TTL > 0
	c, err := b.acquire(channel, stored || o.IdempotencyKey != "")
	if err != nil {
		return Position{}, err
	}
	if c == nil {
		p.Position = Position{}
		return Position{}, nil
	}
	defer b.release(c)
	if o.IdempotencyKey != "" {
		if first, ok := c.keys.Get(c.now, o.IdempotencyKey); ok {
			return first, nil
		}
	}
	p.Position = Position{}
	at, stale := Position{}, false
	if stored {
		at, stale = c.store(p, o)
	}
	if o.IdempotencyKey != "" {
		c.keys.Put(c.now, strings.Clone(o.IdempotencyKey), at, o.IdempotencyTTL)
	}
	if stale {
		return at, nil
	}
	for _, l := range c.links {
		l.sink.Publication(c.name, p)
	}
	return at, nil
}

// PublishMembership implements [Broker].
func (b *MemoryBroker) PublishMembership(ctx context.Context, channel string, m Membership) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	c, err := b.acquire(channel, false)
	if c == nil {
		return err
	}
	defer b.release(c)
	for _, l := range c.links {
		l.sink.Membership(c.name, m)
	}
	return nil
}

// History implements [Broker].
func (b *MemoryBroker) History(ctx context.Context, channel string, q HistoryQuery) (HistoryResult, error) {
	if err := ctx.Err(); err != nil {
		return HistoryResult{}, err
	}
	c, err := b.acquire(channel, true)
	if err != nil {
		return HistoryResult{}, err
	}
	defer b.release(c)
	s := c.history()
	query := stream.Query{Limit: q.Limit, Reverse: q.Reverse}
	if q.Since != nil {
		query.After, query.HasAfter = q.Since.Offset, true
	}
	return HistoryResult{
		Publications: s.Read(c.now, query),
		Position:     Position{Offset: s.Top(), Epoch: s.Epoch()},
	}, nil
}

// RemoveHistory implements [Broker].
func (b *MemoryBroker) RemoveHistory(ctx context.Context, channel string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	c, err := b.acquire(channel, false)
	if c == nil {
		return err
	}
	defer b.release(c)
	if c.stream != nil {
		c.stream.Clear()
	}
	return nil
}

// SendControl implements [ControlBus]. It is not an error if there is no node of that name.
func (b *MemoryBroker) SendControl(ctx context.Context, from, to string, data []byte) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	var receivers []*memoryLink
	b.mu.RLock()
	closed := b.closed
	for node, l := range b.nodes {
		if node == to || to == "" && node != from {
			receivers = append(receivers, l)
		}
	}
	b.mu.RUnlock()
	if closed {
		return ErrClosed
	}
	for _, l := range receivers {
		l.receive(data)
	}
	return nil
}

// Nodes implements [NodeLister].
func (b *MemoryBroker) Nodes(ctx context.Context) ([]string, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	b.mu.RLock()
	defer b.mu.RUnlock()
	if b.closed {
		return nil, ErrClosed
	}
	return slices.Collect(maps.Keys(b.nodes)), nil
}

// Close implements [Broker]. It detaches all nodes: no sink method is called after it returned.
func (b *MemoryBroker) Close() error {
	b.close.Do(func() {
		b.mu.Lock()
		b.closed = true
		var links []*memoryLink
		for _, l := range b.nodes {
			links = append(links, l)
		}
		b.mu.Unlock()
		for _, l := range links {
			_ = l.Close() // always nil
		}
		for i := range b.shards {
			b.shards[i].shut()
		}
		b.sweep.stop()
	})
	return nil
}

func (s *memoryShard) shut() {
	s.mu.Lock()
	channels := s.channels
	s.closed, s.channels = true, nil
	s.mu.Unlock()
	for _, c := range channels {
		c.mu.Lock()
		c.gone = true
		c.mu.Unlock()
	}
}

// acquire returns the channel, locked, to be given back with release. Without create it is nil if not in use.
func (b *MemoryBroker) acquire(name string, create bool) (*memoryChannel, error) {
	s := b.shard(name)
	for {
		c, err := s.get(name, create)
		if c == nil {
			return nil, err
		}
		c.mu.Lock()
		if !c.gone {
			c.now = time.Now()
			return c, nil
		}
		c.mu.Unlock() // it was forgotten between the lookup and the lock
	}
}

func (b *MemoryBroker) shard(name string) *memoryShard {
	return &b.shards[maphash.String(b.seed, name)%memoryShards]
}

func (s *memoryShard) get(name string, create bool) (*memoryChannel, error) {
	s.mu.RLock()
	c, closed := s.channels[name], s.closed
	s.mu.RUnlock()
	if closed {
		return nil, ErrClosed
	}
	if c != nil || !create {
		return c, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, ErrClosed
	}
	if c = s.channels[name]; c == nil {
		name = strings.Clone(name) // it may be a piece of a whole frame
		c = &memoryChannel{name: name, index: -1}
		s.channels[name] = c
	}
	return c, nil
}
