package redisbroker

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"sync"

	"github.com/fanfare-go/fanfare"
)

// ErrUnavailable is returned while a server is away.
var ErrUnavailable = errors.New("redisbroker: Redis is not available")

// Broker is a [fanfare.Broker] over Redis. It may serve several nodes of a process at once.
type Broker struct {
	config Config
	shards []*shard
	leases *leases

	closing sync.Once
	closed  chan struct{}
}

// New connects to the servers. It returns an error if one of them cannot be reached now; later they may go and come back.
func New(ctx context.Context, c Config) (*Broker, error) {
	c, err := c.withDefaults()
	if err != nil {
		return nil, err
	}
	b := &Broker{config: c, closed: make(chan struct{})}
	for _, s := range c.Servers {
		shard, err := b.connect(ctx, s)
		if err != nil {
			_ = b.Close()
			return nil, fmt.Errorf("redisbroker: %v: %w", s.Addresses, err)
		}
		b.shards = append(b.shards, shard)
	}
	b.leases = newLeases(b)
	return b, nil
}

// Close implements [fanfare.Broker].
func (b *Broker) Close() error {
	b.closing.Do(func() {
		if b.leases != nil {
			b.leases.close()
		}
		close(b.closed)
		for _, s := range b.shards {
			s.close()
		}
	})
	return nil
}

func (b *Broker) isClosed() bool {
	select {
	case <-b.closed:
		return true
	default:
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

// failed translates an error of an operation that ran under ctx.
func (b *Broker) failed(ctx context.Context, err error) error {
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	case b.isClosed():
		return fanfare.ErrClosed
	}
	return fmt.Errorf("%w: %w", ErrUnavailable, err)
}
