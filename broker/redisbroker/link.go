package redisbroker

import (
	"context"
	"errors"
	"sync"

	"github.com/fanfare-go/fanfare"
)

// link is a node's connection to the broker. The connections to Redis belong to the shards: all nodes of a broker share them.
type link struct {
	broker *Broker
	node   string
	sink   fanfare.Sink
	close  sync.Once

	delivery sync.RWMutex // held for reading while the sink is called; guards below
	closed   bool
}

// Subscribe implements [fanfare.Link]. Many at once go to Redis in few commands.
func (l *link) Subscribe(ctx context.Context, channel string) error {
	return l.listen(ctx, l.broker.shard(channel), l.broker.key(kindLive, channel), topic{channel: channel})
}

// listen subscribes to a channel of Redis, within the context and the timeout of the broker.
func (l *link) listen(ctx context.Context, s *shard, name string, t topic) error {
	return l.within(ctx, func(ctx context.Context) error { return s.table.subscribe(ctx, l, name, t) })
}

// Unsubscribe implements [fanfare.Link].
func (l *link) Unsubscribe(ctx context.Context, channel string) error {
	s, name := l.broker.shard(channel), l.broker.key(kindLive, channel)
	err := l.within(ctx, func(ctx context.Context) error { return s.table.unsubscribe(ctx, l, name) })
	if errors.Is(err, ErrUnavailable) {
		return nil // nothing is delivered any more; what Redis knows is put right when it is back
	}
	return err
}

func (l *link) within(ctx context.Context, change func(ctx context.Context) error) error {
	if err := ctx.Err(); err != nil && !l.broker.isClosed() {
		return err
	}
	if l.isClosed() {
		return fanfare.ErrClosed
	}
	timed, cancel := context.WithTimeout(ctx, l.broker.config.Timeout)
	defer cancel()
	err := change(timed)
	switch {
	case err == nil:
		return nil
	case l.isClosed():
		return fanfare.ErrClosed
	case ctx.Err() != nil:
		return ctx.Err()
	}
	return err
}

// Close implements [fanfare.Link]. It waits for calls of the sink under way, so it must not be called by the sink.
func (l *link) Close() error {
	l.close.Do(func() {
		l.delivery.Lock()
		l.closed = true
		l.delivery.Unlock()
		for _, s := range l.broker.shards {
			s.table.leave(l)
		}
		l.broker.leases.release(l.node)
		l.broker.detach(l)
	})
	return nil
}

func (l *link) isClosed() bool {
	l.delivery.RLock()
	defer l.delivery.RUnlock()
	return l.closed
}

// deliver calls the sink, unless the link is closed.
func (l *link) deliver(call func(sink fanfare.Sink)) {
	l.delivery.RLock()
	defer l.delivery.RUnlock()
	if !l.closed {
		call(l.sink)
	}
}

// interrupted tells the node that messages of these channels, or of all if nil, may have been lost.
func (l *link) interrupted(channels []string) {
	l.deliver(func(sink fanfare.Sink) { sink.Interrupted(channels) })
}
