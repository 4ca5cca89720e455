package redisbroker

import (
	"context"
	"fmt"
	"hash/fnv"
	"sync"
	"time"

	"github.com/fanfare-go/fanfare"
)

// ErrUnavailable is returned while a server is away, or does not serve. Whether a publication was stored nobody can say then; with an
// idempotency key it may be repeated.
var ErrUnavailable = fmt.Errorf("redisbroker: Redis is not available: %w", fanfare.ErrUnavailable)

// Broker is a [fanfare.Broker] over Redis. It may serve several nodes of a process at once. All its methods are safe for concurrent
// use.
type Broker struct {
	config Config
	shards []*shard
	epochs epochs
	leases *leases

	// ctx ends when the broker is closed, and with it the goroutines that running counts.
	ctx     context.Context
	cancel  context.CancelFunc
	running sync.WaitGroup
	closing sync.Once

	mu    sync.Mutex // guards below
	links map[string]*link
}

var _ fanfare.Broker = (*Broker)(nil)

// New connects to the servers. It returns an error if one of them cannot be reached now, is too old, or refuses what the broker needs;
// later they may go and come back.
func New(ctx context.Context, c Config) (*Broker, error) {
	c, err := c.withDefaults()
	if err != nil {
		return nil, err
	}
	b := &Broker{config: c, links: make(map[string]*link)}
	b.epochs.prefix = newEpochPrefix()
	b.ctx, b.cancel = context.WithCancel(context.Background())
	for _, s := range c.Servers {
		shard, err := b.connect(ctx, s)
		if err != nil {
			_ = b.Close()
			return nil, fmt.Errorf("redisbroker: %v: %w", s.Addresses, err)
		}
		b.shards = append(b.shards, shard)
	}
	b.leases = newLeases(b)
	for _, s := range b.shards {
		s.start()
	}
	return b, nil
}

// Attach implements [fanfare.Broker]. A node id that is attached already is an error. It waits until the node can receive the
// operations of others and has its lease; each step of that takes [Config.Timeout] at most.
func (b *Broker) Attach(node string, sink fanfare.Sink) (fanfare.Link, error) {
	l := &link{broker: b, node: node, sink: sink}
	b.mu.Lock()
	_, taken := b.links[node]
	closed := b.isClosed()
	if !taken && !closed {
		b.links[node] = l
	}
	b.mu.Unlock()
	switch {
	case closed:
		return nil, fanfare.ErrClosed
	case taken:
		return nil, fmt.Errorf("redisbroker: attach: node %q is attached already", node)
	}
	for to, carries := range map[string]carries{node: controlToOne, "": controlToAll} {
		if err := l.listen(b.ctx, b.shard(to), b.key(kindControl, to), topic{carries: carries}); err != nil {
			_ = l.Close()
			return nil, fmt.Errorf("redisbroker: attach: %w", err)
		}
	}
	if err := b.leases.hold(b.ctx, node); err != nil {
		_ = l.Close()
		return nil, fmt.Errorf("redisbroker: attach: %w", err)
	}
	return l, nil
}

// detach gives a node's id free.
func (b *Broker) detach(l *link) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.links[l.node] == l {
		delete(b.links, l.node)
	}
}

// Close implements [fanfare.Broker].
func (b *Broker) Close() error {
	b.closing.Do(func() {
		if b.leases != nil {
			b.leases.close()
		}
		b.mu.Lock()
		b.cancel()
		links := make([]*link, 0, len(b.links))
		for _, l := range b.links {
			links = append(links, l)
		}
		b.mu.Unlock()
		for _, l := range links {
			_ = l.Close() // always nil
		}
		b.running.Wait()
		for _, s := range b.shards {
			s.close()
		}
	})
	return nil
}

func (b *Broker) isClosed() bool { return b.ctx.Err() != nil }

// pause waits, and reports false if the context ended meanwhile.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// shard returns the server that a channel, or a user, lives on: the one with the highest rank (rendezvous hashing), so that one
// more server moves only its share.
func (b *Broker) shard(name string) *shard {
	if len(b.shards) == 1 {
		return b.shards[0]
	}
	var best *shard
	var highest uint64
	for _, s := range b.shards {
		h := fnv.New64a()
		_, _ = h.Write([]byte(s.name))
		_, _ = h.Write([]byte{0})
		_, _ = h.Write([]byte(name))
		if rank := mix(h.Sum64()); best == nil || rank > highest {
			best, highest = s, rank
		}
	}
	return best
}

// mix spreads the bits of a hash (the finalizer of splitmix64): FNV alone leaves ranks of similar names alike.
func mix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
