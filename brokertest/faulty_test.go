package brokertest

import (
	"context"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
)

// A faulty broker is a good one with one method that is not. A nil function is the good broker's own.
type faulty struct {
	*fanfare.MemoryBroker
	publish     func(b *fanfare.MemoryBroker, ctx context.Context, channel string, p *fanfare.Publication, o fanfare.StoreOptions) (fanfare.Position, error)
	history     func(b *fanfare.MemoryBroker, ctx context.Context, channel string, q fanfare.HistoryQuery) (fanfare.HistoryResult, error)
	remove      func(b *fanfare.MemoryBroker, ctx context.Context, channel string) error
	control     func(b *fanfare.MemoryBroker, ctx context.Context, from, to string, data []byte) error
	count       func(b *fanfare.MemoryBroker, ctx context.Context, c fanfare.UserConnection, limit int, replace bool) (fanfare.Admission, error)
	discount    func(b *fanfare.MemoryBroker, ctx context.Context, c fanfare.UserConnection) error
	nodes       func(b *fanfare.MemoryBroker, ctx context.Context) ([]string, error)
	closing     func(b *fanfare.MemoryBroker) error
	publication func(sink fanfare.Sink, channel string, p *fanfare.Publication)
	membership  func(sink fanfare.Sink, channel string, m fanfare.Membership)
	subscribe   func(l fanfare.Link, ctx context.Context, channel string) error
	unsubscribe func(l fanfare.Link, ctx context.Context, channel string) error
	detach      func(l fanfare.Link) error
	attached    func(s fanfare.Sink)
}

// on makes the broker work, for one test.
func (f faulty) on(t testing.TB, c fanfare.MemoryBrokerConfig) fanfare.Broker {
	b := fanfare.NewMemoryBroker(c)
	t.Cleanup(func() { require.NoError(t, b.Close()) })
	f.MemoryBroker = b
	return &f
}

func (f *faulty) Attach(node string, s fanfare.Sink) (fanfare.Link, error) {
	if f.attached != nil {
		f.attached(s)
	}
	l, err := f.MemoryBroker.Attach(node, faultySink{s, f})
	return faultyLink{l, f}, err
}

func (f *faulty) Publish(ctx context.Context, channel string, p *fanfare.Publication, o fanfare.StoreOptions) (fanfare.Position, error) {
	if f.publish != nil {
		return f.publish(f.MemoryBroker, ctx, channel, p, o)
	}
	return f.MemoryBroker.Publish(ctx, channel, p, o)
}

func (f *faulty) History(ctx context.Context, channel string, q fanfare.HistoryQuery) (fanfare.HistoryResult, error) {
	if f.history != nil {
		return f.history(f.MemoryBroker, ctx, channel, q)
	}
	return f.MemoryBroker.History(ctx, channel, q)
}

func (f *faulty) RemoveHistory(ctx context.Context, channel string) error {
	if f.remove != nil {
		return f.remove(f.MemoryBroker, ctx, channel)
	}
	return f.MemoryBroker.RemoveHistory(ctx, channel)
}

func (f *faulty) SendControl(ctx context.Context, from, to string, data []byte) error {
	if f.control != nil {
		return f.control(f.MemoryBroker, ctx, from, to, data)
	}
	return f.MemoryBroker.SendControl(ctx, from, to, data)
}

func (f *faulty) AddConnection(ctx context.Context, c fanfare.UserConnection, limit int, replace bool) (fanfare.Admission, error) {
	if f.count != nil {
		return f.count(f.MemoryBroker, ctx, c, limit, replace)
	}
	return f.MemoryBroker.AddConnection(ctx, c, limit, replace)
}

func (f *faulty) RemoveConnection(ctx context.Context, c fanfare.UserConnection) error {
	if f.discount != nil {
		return f.discount(f.MemoryBroker, ctx, c)
	}
	return f.MemoryBroker.RemoveConnection(ctx, c)
}

func (f *faulty) Nodes(ctx context.Context) ([]string, error) {
	if f.nodes != nil {
		return f.nodes(f.MemoryBroker, ctx)
	}
	return f.MemoryBroker.Nodes(ctx)
}

func (f *faulty) Close() error {
	if f.closing != nil {
		return f.closing(f.MemoryBroker)
	}
	return f.MemoryBroker.Close()
}

type faultySink struct {
	fanfare.Sink
	f *faulty
}

func (s faultySink) Publication(channel string, p *fanfare.Publication) {
	if s.f.publication != nil {
		s.f.publication(s.Sink, channel, p)
		return
	}
	s.Sink.Publication(channel, p)
}

func (s faultySink) Membership(channel string, m fanfare.Membership) {
	if s.f.membership != nil {
		s.f.membership(s.Sink, channel, m)
		return
	}
	s.Sink.Membership(channel, m)
}

type faultyLink struct {
	fanfare.Link
	f *faulty
}

func (l faultyLink) Subscribe(ctx context.Context, channel string) error {
	if l.f.subscribe != nil {
		return l.f.subscribe(l.Link, ctx, channel)
	}
	return l.Link.Subscribe(ctx, channel)
}

func (l faultyLink) Unsubscribe(ctx context.Context, channel string) error {
	if l.f.unsubscribe != nil {
		return l.f.unsubscribe(l.Link, ctx, channel)
	}
	return l.Link.Unsubscribe(ctx, channel)
}

func (l faultyLink) Close() error {
	if l.f.detach != nil {
		return l.f.detach(l.Link)
	}
	return l.Link.Close()
}

// pairwise returns a delivery that swaps neighbours, for the channels of one test.
func pairwise() func(fanfare.Sink, string, *fanfare.Publication) {
	var mu sync.Mutex
	first := make(map[fanfare.Sink]*fanfare.Publication)
	return func(s fanfare.Sink, channel string, p *fanfare.Publication) {
		mu.Lock()
		held := first[s]
		if held == nil {
			first[s] = p
			mu.Unlock()
			return
		}
		delete(first, s)
		mu.Unlock()
		s.Publication(channel, p)
		s.Publication(channel, held)
	}
}
