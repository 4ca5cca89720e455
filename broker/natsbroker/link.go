package natsbroker

import (
	"context"
	"fmt"
	"sync"

	"github.com/nats-io/nats.go"

	"github.com/fanfare-go/fanfare"
)

// controlMax is how many control messages wait for a node.
const controlMax = 1024

// link is a node's connection to a [Broker].
type link struct {
	broker  *Broker
	node    string
	sink    fanfare.Sink
	closing sync.Once
	closed  chan struct{}
	done    sync.WaitGroup // the goroutine that delivers control messages

	control []*nats.Subscription
	inbox   chan *nats.Msg

	calls    sync.Mutex // held while the sink is called for no channel in particular; guards below
	detached bool

	mu       sync.Mutex // guards below
	shut     bool
	channels map[*subscription]struct{}
}

// Attach implements [fanfare.Broker]. A node id that is attached to this broker already is an error; other brokers are not asked.
func (b *Broker) Attach(node string, sink fanfare.Sink) (fanfare.Link, error) {
	ctx, cancel, err := b.begin(context.Background())
	if err != nil {
		return nil, err
	}
	defer cancel()
	l := &link{
		broker: b, node: node, sink: sink, closed: make(chan struct{}),
		inbox: make(chan *nats.Msg, controlMax), channels: make(map[*subscription]struct{}),
	}
	b.mu.Lock()
	switch {
	case b.isClosed():
		b.mu.Unlock()
		return nil, fanfare.ErrClosed
	case b.links[node] != nil:
		b.mu.Unlock()
		return nil, fmt.Errorf("natsbroker: attach: node %q is attached already", node)
	}
	b.links[node] = l
	l.done.Go(l.listen)
	b.mu.Unlock()
	if err := l.open(ctx); err != nil {
		_ = l.Close() // always nil
		return nil, b.failed(ctx, err)
	}
	return l, nil
}

// open subscribes to control messages, and makes the node known.
func (l *link) open(ctx context.Context) error {
	b := l.broker
	for _, subject := range []string{b.controlSubject(l.node), b.everybodySubject()} {
		sub, err := b.nc.ChanSubscribe(subject, l.inbox)
		if err != nil {
			return err
		}
		l.mu.Lock()
		l.control = append(l.control, sub)
		shut := l.shut
		l.mu.Unlock()
		if shut {
			_ = sub.Unsubscribe()
			return fanfare.ErrClosed
		}
	}
	if err := b.nc.FlushWithContext(ctx); err != nil {
		return err
	}
	return b.lease(ctx, l.node)
}

// Subscribe implements [fanfare.Link].
func (l *link) Subscribe(ctx context.Context, channel string) error {
	b := l.broker
	timed, cancel, err := b.begin(ctx)
	if err != nil {
		return err
	}
	defer cancel()
	if l.isClosed() {
		return fanfare.ErrClosed
	}
	s := b.hold(channel)
	if err := s.lock(timed); err != nil {
		b.letGo(s)
		return b.failed(ctx, err)
	}
	defer s.unlock()
	if l.has(s) {
		b.letGo(s)
		return nil
	}
	if err := b.ask(timed, s); err != nil {
		b.letGo(s)
		return b.failed(ctx, err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.shut {
		l.drop(s)
		return fanfare.ErrClosed
	}
	l.channels[s] = struct{}{}
	s.add(l)
	return nil
}

// Unsubscribe implements [fanfare.Link]. It does not wait for the server, and works while that is away.
func (l *link) Unsubscribe(ctx context.Context, channel string) error {
	b := l.broker
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case l.isClosed() || b.isClosed():
		return fanfare.ErrClosed
	}
	s := b.hold(channel)
	defer b.letGo(s)
	if err := s.lock(ctx); err != nil {
		return err
	}
	defer s.unlock()
	l.mu.Lock()
	_, subscribed := l.channels[s]
	delete(l.channels, s)
	l.mu.Unlock()
	if subscribed {
		l.drop(s)
	}
	return nil
}

// drop ends what the link has of a subscription, whose slot is held.
func (l *link) drop(s *subscription) {
	if s.remove(l) {
		l.broker.unask(s)
	}
	l.broker.letGo(s)
}

// Close implements [fanfare.Link]. It waits for deliveries under way, so it must not be called by the sink.
func (l *link) Close() error {
	b := l.broker
	l.closing.Do(func() {
		l.mu.Lock()
		channels, control := l.channels, l.control
		l.shut, l.channels = true, nil // from here on no Subscribe adds to it
		l.mu.Unlock()
		for _, sub := range control {
			_ = sub.Unsubscribe() // fails only if the connection is closed
		}
		for s := range channels {
			s.remove(l) // at once: the slot may be held by somebody who waits for the server
			s.slot <- struct{}{}
			l.drop(s)
			s.unlock()
		}
		l.calls.Lock()
		l.detached = true
		l.calls.Unlock()
		close(l.closed)
		l.done.Wait()
		b.release(l.node)
		b.mu.Lock()
		delete(b.links, l.node)
		b.mu.Unlock()
	})
	return nil
}

func (l *link) isClosed() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.shut
}

func (l *link) has(s *subscription) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, ok := l.channels[s]
	return ok
}

// interrupted tells the node that it may have lost something.
func (l *link) interrupted(channels []string) {
	l.calls.Lock()
	defer l.calls.Unlock()
	if !l.detached {
		l.sink.Interrupted(channels)
	}
}

// attached returns the links there are.
func (b *Broker) attached() []*link {
	b.mu.Lock()
	defer b.mu.Unlock()
	links := make([]*link, 0, len(b.links))
	for _, l := range b.links {
		links = append(links, l)
	}
	return links
}
