package fanfare

import (
	"context"
	"crypto/rand"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/fanfare-go/fanfare/internal/stream"
)

// memoryChannel is one channel of a [MemoryBroker]. Its lock is held while sinks are called: that makes the order.
type memoryChannel struct {
	name string

	mu     sync.Mutex // guards below
	gone   bool       // no longer in its shard; a new one may be
	now    time.Time  // of the operation under way
	links  []*memoryLink
	stream *stream.Stream[*Publication] // nil until there is a reason for an epoch
	keys   stream.Keys[Position]
	due    time.Time // when the sweeper comes; zero if there is nothing to expire
	idle   bool      // in memoryIdle

	version      uint64 // of the newest publication in the stream that had one; guarded by mu, as versionEpoch
	versionEpoch string

	older, newer *memoryChannel // guarded by memoryIdle.mu
	sweepAt      time.Time      // guarded by memorySweeper.mu, as index
	index        int            // in the sweeper's queue, or -1
}

// history returns the stream, which gets its epoch by being asked for.
func (c *memoryChannel) history() *stream.Stream[*Publication] {
	if c.stream == nil {
		// 50 random bits tell the lives of one channel apart; the clone lets go of the rest of the text.
		c.stream = stream.New[*Publication](strings.Clone(rand.Text()[:10]), c.now)
	}
	return c.stream
}

// store appends a publication to the stream, and returns its position, or that of the top if the publication is stale.
func (c *memoryChannel) store(p *Publication, o StoreOptions) (at Position, stale bool) {
	s := c.history()
	if o.Version > 0 {
		if o.Version <= c.version && (o.VersionEpoch == "" || o.VersionEpoch == c.versionEpoch) {
			return Position{Offset: s.Top(), Epoch: s.Epoch()}, true
		}
		c.version, c.versionEpoch = o.Version, strings.Clone(o.VersionEpoch)
	}
	p.Position = Position{Offset: s.Top() + 1, Epoch: s.Epoch()}
	s.Append(c.now, p, o.History.Size, o.History.TTL)
	return p.Position, false
}

// expiry returns when something should be let go; false if there is nothing.
func (c *memoryChannel) expiry() (time.Time, bool) {
	at, ok := time.Time{}, false
	if c.stream != nil {
		if first, last, held := c.stream.Expiry(); held {
			at, ok = c.sweepTime(first, last), true
		}
	}
	if first, last, held := c.keys.Expiry(); held {
		if t := c.sweepTime(first, last); !ok || t.Before(at) {
			at, ok = t, true
		}
	}
	return at, ok
}

// sweepTime is when to look at things that expire between first and last: not for each of them, but soon after the
// first, and when the last is due.
func (c *memoryChannel) sweepTime(first, last time.Time) time.Time {
	if soon := c.now.Add(last.Sub(c.now) / 16); soon.After(first) {
		return soon
	}
	return first
}

// release ends the use of a channel: it decides whether the channel is still needed, and unlocks it.
func (b *MemoryBroker) release(c *memoryChannel) {
	at, expires := c.expiry()
	switch {
	case expires && (c.due.IsZero() || at.Before(c.due)):
		c.due = at
		b.sweep.schedule(c, at)
	case !expires && !c.due.IsZero():
		c.due = time.Time{}
		b.sweep.cancel(c)
	}
	full := false
	switch {
	case expires || len(c.links) > 0:
		b.idle.remove(c)
	case c.stream == nil:
		b.forget(c)
	default:
		full = b.idle.touch(c)
	}
	c.mu.Unlock()
	if full {
		b.evict()
	}
}

// forget takes a channel, which is locked, out of the broker.
func (b *MemoryBroker) forget(c *memoryChannel) {
	c.gone = true
	s := b.shard(c.name)
	s.mu.Lock()
	delete(s.channels, c.name)
	s.mu.Unlock()
}

// evict forgets idle channels while there are too many. It is called without a lock, since it takes those of others.
func (b *MemoryBroker) evict() {
	for c := b.idle.surplus(); c != nil; c = b.idle.surplus() {
		c.mu.Lock()
		if b.idle.evict(c) {
			b.forget(c)
		}
		c.mu.Unlock()
	}
}

// expire is called by the sweeper when something in the channel is due.
func (b *MemoryBroker) expire(c *memoryChannel) {
	c.mu.Lock()
	if c.gone {
		c.mu.Unlock()
		return
	}
	c.now, c.due = time.Now(), time.Time{}
	if c.stream != nil {
		c.stream.Expire(c.now)
	}
	c.keys.Expire(c.now)
	b.release(c)
}

// memoryLink is a node's connection to a [MemoryBroker].
type memoryLink struct {
	broker *MemoryBroker
	node   string
	sink   Sink
	close  sync.Once

	control  sync.Mutex // held while sink.Control is called; guards below
	detached bool

	mu       sync.Mutex // guards below
	closed   bool
	channels map[*memoryChannel]struct{}
}

// Subscribe implements [Link].
func (l *memoryLink) Subscribe(ctx context.Context, channel string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	c, err := l.broker.acquire(channel, true)
	if err != nil {
		return err
	}
	defer l.broker.release(c)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return ErrClosed
	}
	if _, ok := l.channels[c]; !ok {
		l.channels[c] = struct{}{}
		c.links = append(c.links, l)
	}
	return nil
}

// Unsubscribe implements [Link].
func (l *memoryLink) Unsubscribe(ctx context.Context, channel string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if l.isClosed() {
		return ErrClosed
	}
	c, err := l.broker.acquire(channel, false)
	if c == nil {
		return err
	}
	defer l.broker.release(c)
	c.remove(l)
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.channels, c)
	return nil
}

// Close implements [Link]. It waits for deliveries under way, so it must not be called by the sink.
func (l *memoryLink) Close() error {
	l.close.Do(func() {
		l.mu.Lock()
		channels := l.channels
		l.closed, l.channels = true, nil // from here on no Subscribe adds to it
		l.mu.Unlock()

		for c := range channels {
			c.mu.Lock()
			if c.gone { // the broker was closed
				c.mu.Unlock()
				continue
			}
			c.now = time.Now()
			c.remove(l)
			l.broker.release(c)
		}
		l.control.Lock()
		l.detached = true
		l.control.Unlock()

		l.broker.mu.Lock()
		l.broker.connections.detach(l.node) // before the id is free again
		delete(l.broker.nodes, l.node)
		l.broker.mu.Unlock()
	})
	return nil
}

func (l *memoryLink) isClosed() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.closed
}

// receive hands a control message to the node.
func (l *memoryLink) receive(data []byte) {
	l.control.Lock()
	defer l.control.Unlock()
	if !l.detached {
		l.sink.Control(data)
	}
}

func (c *memoryChannel) remove(l *memoryLink) {
	if i := slices.Index(c.links, l); i >= 0 {
		c.links = slices.Delete(c.links, i, i+1)
	}
}
